# SPDX-License-Identifier: MIT OR Apache-2.0
"""Gain in PSNR on pictures that x264 encoded as single frames (8 bit 4:2:0, BT.709), by CRF: whether good video is harmed.

usage, after run.sh has made its environment, from the repository's root:
  tests/peers/.venv/bin/python tests/peers/quality/stills.py --i2sb target/release/i2sb --pictures DIR weights/video-small-v4
"""

import argparse
import subprocess
from pathlib import Path

import cv2
import numpy as np
from material import PICTURES, ffmpeg

CRF = [16, 18, 20, 24, 28, 34, 40, 45]
FLAGS = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
TO_VIDEO = f"scale=in_range=full:out_range=tv:out_color_matrix=bt709:{FLAGS}"
TO_PICTURE = f"scale=in_color_matrix=bt709:in_range=tv:out_range=full:{FLAGS}"


def psnr(a, b):
    """Of two folders, picture by picture, dB; 99 where nothing differs."""
    for path in sorted(a.iterdir()):
        x, y = (cv2.imread(str(p)).astype(float) for p in (path, b / path.name))
        error = ((x - y) ** 2).mean()
        yield 10 * np.log10(255**2 / error) if error else 99.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="+", type=Path)
    parser.add_argument("--i2sb", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/peers-stills"))
    parser.add_argument("--crf", type=int, nargs="+", default=CRF)
    args = parser.parse_args()
    clean = args.out / "clean"
    clean.mkdir(parents=True, exist_ok=True)
    for path in sorted(args.pictures.iterdir()):
        if path.suffix in PICTURES:
            picture = cv2.imread(str(path))
            even = [side // 2 * 2 for side in picture.shape[:2]]
            cv2.imwrite(str(clean / f"{path.stem}.png"), picture[: even[0], : even[1]])
    print("| CRF | preset | PSNR in (dB) | gain | least | of pictures, worse |\n|---|---|---|---|---|---|")
    for crf in args.crf:
        coded, out = args.out / f"crf{crf}", args.out / "restored"
        coded.mkdir(exist_ok=True)
        for path in clean.iterdir():
            video = args.out / "still.mkv"
            x264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "medium", "-crf", str(crf)]
            ffmpeg("-i", path, "-vf", TO_VIDEO, *x264, video)
            ffmpeg("-i", video, "-vf", TO_PICTURE, "-pix_fmt", "rgb24", coded / path.name)
        before = np.array(list(psnr(clean, coded)))
        for preset in args.presets:
            command = [args.i2sb, "restore", coded, "-o", out, "--force", "--model", preset, "--precision", "bf16"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            gain = np.array(list(psnr(clean, out))) - before
            print(f"| {crf} | {preset.name} | {before.mean():.2f} | {gain.mean():+.3f} | {gain.min():+.2f} | {(gain < 0).sum()} |", flush=True)


if __name__ == "__main__":
    main()
