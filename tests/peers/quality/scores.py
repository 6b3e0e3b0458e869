# SPDX-License-Identifier: MIT OR Apache-2.0
"""Scores of a folder of restored pictures or frames against the originals; kept beside them."""

import csv
import json
import subprocess
import tempfile
from pathlib import Path

import cv2

import ssimulacra2
from material import ffmpeg

# Frames of a clip that SSIMULACRA2 looks at: it takes a second each, and neighbours score alike.
EVERY = 8
# Rises when what is scored or how changes, so that kept scores are made again.
VERSION = 1


def of_eval(i2sb, case, out):
    """PSNR, SSIM, LPIPS, and of clips both kinds of flicker, by `i2sb eval`; strength 0 runs no network."""
    with tempfile.TemporaryDirectory() as room:
        table = Path(room) / "table.csv"
        words = [i2sb, "eval", str(case.clean), "--degrade", f"pairs:{out}", "--strength", "0", "--csv", str(table),
                 "--threads", "1"]
        # A network is opened even where none runs; LPIPS of every frame would take the longest of all.
        words += ["--clip", "--no-lpips"] if case.clip else []
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"i2sb eval: {done.stderr.strip()}\n{' '.join(words)}")
        row = list(csv.DictReader(table.open()))[-1]
    wanted = {"psnr": "psnr_in", "ssim": "ssim_in", "lpips": "lpips_in", "deviation": "deviation_in",
              "warp": "warp_in", "warp_original": "warp_original"}
    return {ours: float(row[theirs]) for ours, theirs in wanted.items() if row.get(theirs)}


def vmaf(case, out):
    """Mean VMAF (model vmaf_v0.6.1) of the frames, in 4:2:0 as the model was made for."""
    with tempfile.TemporaryDirectory() as room:
        log = Path(room) / "vmaf.json"
        graph = (f"[0:v]format=yuv420p[a];[1:v]format=yuv420p[b];"
                 f"[a][b]libvmaf=log_fmt=json:log_path={log}:n_threads=1")
        ffmpeg("-i", out / "%04d.png", "-i", case.clean / "%04d.png", "-lavfi", graph, "-f", "null", "-")
        return json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"]


def mean_ssimulacra2(case, out):
    """Mean over the pictures, or over every EVERY-th frame."""
    files = sorted(case.clean.glob("*.png"))[:: EVERY if case.clip else 1]
    values = [ssimulacra2.compute_ssimulacra2(str(file), str(out / file.name)) for file in files]
    return sum(values) / len(values)


def scores(i2sb, case, out, method):
    """All of them, from the file beside the pictures if the method made them before."""
    note = out / ".scores.json"
    if note.exists():
        kept = json.loads(note.read_text())
        if (kept["version"], kept["method"]) == (VERSION, method.version):
            return kept["scores"]
    found = of_eval(i2sb, case, out)
    found["ssimulacra2"] = mean_ssimulacra2(case, out)
    if case.clip:
        found["vmaf"] = vmaf(case, out)
    note.write_text(json.dumps({"version": VERSION, "method": method.version, "scores": found}))
    return found


def pixels(case):
    """Of all pictures of a case."""
    return sum(p.shape[0] * p.shape[1] for p in (cv2.imread(str(f)) for f in case.clean.glob("*.png")))
