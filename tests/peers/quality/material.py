# SPDX-License-Identifier: MIT OR Apache-2.0
"""The degraded pictures and clips: folders of PNG files, made once and kept.

A case is one folder of originals (`clean`), one of the same names degraded (`degraded`), and for JPEG the
files themselves (`jpeg`). Clips are decoded frames, numbered from 0001.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
# Conversions between RGB and YUV that lose little.
SCALE = ["-sws_flags", "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"]
PICTURES = {".png", ".jpg", ".jpeg", ".webp"}
# A key frame as often as live streams have them: the change of quality there is what flickers.
KEY_FRAMES = ["-g", "12"]
CODECS = {f"x264 CRF {crf}": (".mkv", ["-c:v", "libx264", "-crf", str(crf), *KEY_FRAMES])
          for crf in (16, 20, 24, 28, 34, 40, 45)}
CODECS["MPEG-2 q 16"] = (".mpg", ["-c:v", "mpeg2video", "-q:v", "16", *KEY_FRAMES, "-bf", "2"])
# Where restoring is asked for; at the others it must do no harm.
USUAL = ["x264 CRF 28", "x264 CRF 34", "x264 CRF 40", "MPEG-2 q 16"]


@dataclass
class Case:
    """Something to restore and to score."""

    name: str
    folder: Path
    # "jpeg", "blur" or "clip".
    kind: str
    # JPEG quality or CRF, where there is one.
    strength: int | None

    @property
    def clip(self):
        return self.kind == "clip"

    @property
    def clean(self):
        """The originals; those of one clip or one folder of pictures are shared by all its cases."""
        return self.folder.parent / "clean"

    @property
    def degraded(self):
        return self.folder / "degraded"

    @property
    def jpeg(self):
        return self.folder / "jpeg"


def ffmpeg(*words):
    """Runs ffmpeg on one thread."""
    words = [FFMPEG, "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-threads", "1", *map(str, words)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"ffmpeg failed: {done.stderr.strip()}\n{' '.join(words)}")


def finished(folder, make):
    """Fills a folder once: an interrupted run leaves no half of one."""
    mark = folder / ".finished"
    if not mark.exists():
        folder.mkdir(parents=True, exist_ok=True)
        make()
        mark.touch()


def evenly(items, limit):
    """At most `limit` of them, evenly spaced."""
    if limit is None or len(items) <= limit:
        return items
    return [items[i * len(items) // limit] for i in range(limit)]


def square(picture, side):
    """The middle of a picture, at most `side` pixels each way."""
    h, w = picture.shape[:2]
    top, left = max(0, h - side) // 2, max(0, w - side) // 2
    return picture[top : top + side, left : left + side]


def motion(length):
    """A horizontal line of so many pixels, as a kernel."""
    return np.full((1, length), 1 / length, np.float32)


BLURS = {
    "Gaussian 1.6": lambda picture: cv2.GaussianBlur(picture, (0, 0), 1.6, borderType=cv2.BORDER_REFLECT_101),
    "motion 9": lambda picture: cv2.filter2D(picture, -1, motion(9), borderType=cv2.BORDER_REFLECT_101),
}


def pictures(source, cache, limit, side, qualities, blurs):
    """Cases of JPEG 4:2:0 at each quality, and of each blur, of the pictures in a folder."""
    files = evenly(sorted(p for p in source.iterdir() if p.suffix.lower() in PICTURES), limit)
    if not files:
        raise SystemExit(f"{source}: no pictures")
    base = cache / f"pictures-{source.name}-{len(files)}-{side}"
    clean = base / "clean"

    def cut():
        for path in files:
            picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if picture is None:
                raise SystemExit(f"{path}: cannot be read")
            cv2.imwrite(str(clean / f"{path.stem}.png"), square(picture, side))

    finished(clean, cut)
    cases = []
    for quality in qualities:
        case = Case(f"JPEG {quality}", base / f"jpeg-{quality}", "jpeg", quality)

        def degrade(case=case, quality=quality):
            case.jpeg.mkdir(exist_ok=True)
            case.degraded.mkdir(exist_ok=True)
            sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
            for path in sorted(clean.glob("*.png")):
                file = case.jpeg / f"{path.stem}.jpg"
                cv2.imwrite(str(file), cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling])
                cv2.imwrite(str(case.degraded / path.name), cv2.imread(str(file)))

        finished(case.folder, degrade)
        cases.append(case)
    for blur in blurs:
        case = Case(f"blur {blur}", base / f"blur-{blur.replace(' ', '-').lower()}", "blur", None)

        def soften(case=case, blur=blur):
            case.degraded.mkdir(exist_ok=True)
            for path in sorted(clean.glob("*.png")):
                cv2.imwrite(str(case.degraded / path.name), BLURS[blur](cv2.imread(str(path))))

        finished(case.folder, soften)
        cases.append(case)
    return cases


def encoded(name, base, source, count, codecs):
    """Cases of one clip: `source` is what ffmpeg is given as input."""
    clean = base / "clean"
    # Even sides, as 4:2:0 needs them.
    even = ["-vf", "crop=trunc(iw/2)*2:trunc(ih/2)*2", "-frames:v", count, *SCALE]
    finished(clean, lambda: ffmpeg(*source, *even, "-pix_fmt", "rgb24", clean / "%04d.png"))
    cases = []
    for codec in codecs:
        suffix, options = CODECS[codec]
        crf = int(options[options.index("-crf") + 1]) if "-crf" in options else None
        case = Case(f"{name}, {codec}", base / codec.replace(" ", "-").lower(), "clip", crf)

        def degrade(case=case, suffix=suffix, options=options):
            stream = case.folder / f"stream{suffix}"
            case.degraded.mkdir(exist_ok=True)
            ffmpeg("-framerate", "25", "-i", clean / "%04d.png", *SCALE, "-pix_fmt", "yuv420p", *options, stream)
            ffmpeg("-i", stream, "-fps_mode", "passthrough", *SCALE, "-pix_fmt", "rgb24", case.degraded / "%04d.png")
            frames = [len(list(folder.glob("*.png"))) for folder in (clean, case.degraded)]
            if frames[0] != frames[1]:
                raise SystemExit(f"{case.name}: {frames[0]} frames went in, {frames[1]} came out")

        finished(case.folder, degrade)
        cases.append(case)
    return cases


def clips(source, cache, pattern, count, codecs):
    """Cases of the clean clips in a folder, each through each codec."""
    files = sorted(source.glob(pattern))
    if not files:
        raise SystemExit(f"{source}: no clips like {pattern}")
    cases = []
    for file in files:
        cases += encoded(file.stem, cache / f"clip-{file.stem}-{count}", ["-i", file], count, codecs)
    return cases


def static_scenes(pictures, cache, count, codecs):
    """Cases of clips in which nothing moves: each of these pictures again and again."""
    cases = []
    for picture in pictures:
        base = cache / f"static-{picture.stem}-{count}"
        cases += encoded(f"static {picture.stem}", base, ["-loop", "1", "-i", picture], count, codecs)
    return cases
