# SPDX-License-Identifier: MIT OR Apache-2.0
"""What is timed: the engine through `i2sb bench`, and the others through worker.py; all answer alike."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).parent


class Failed(Exception):
    """A contestant that cannot run here: the reason."""


class Ours:
    """`i2sb bench`, which times itself; `bench` reports median, least and most, so all of up to 3 runs."""

    def __init__(self, i2sb, precision, folder, x, threads, cache):
        self.common = ["--model", str(folder), "--threads", str(threads), "--precision", precision, "--steps", "1"]
        self.i2sb, self.x, self.cache = i2sb, x, cache
        self.figures = []

    def start(self):
        return "its own kernels"

    def run(self, n):
        if n > 3:
            raise ValueError("at most 3 runs a visit: bench reports no more single times")
        h, w = self.x.shape[2:]
        path = self.cache / "bench.json"
        self.call(["bench", "--size", f"{w}x{h}", "--runs", str(n), "--json", str(path)])
        figures = json.loads(path.read_text())
        self.figures.append(figures)
        return [figures["ms_median"], figures["ms_min"], figures["ms_max"]][:n]

    def output(self):
        """The restored picture, through 16-bit PNG files."""
        source, target = self.cache / "input.png", self.cache / "output.png"
        to_16 = np.round((self.x[0] + 1) * 32767.5).astype(np.uint16)
        cv2.imwrite(str(source), to_16.transpose(1, 2, 0)[:, :, ::-1])
        self.call(["restore", str(source), "-o", str(target), "--force"])
        read = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
        if read is None or read.dtype != np.uint16:
            raise Failed("i2sb restore did not write a 16-bit PNG")
        return (read[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / 32767.5 - 1)[None]

    def call(self, words):
        done = subprocess.run([self.i2sb, *words, *self.common], capture_output=True, text=True)
        if done.returncode:
            raise Failed(done.stderr.strip().splitlines()[-1])

    def close(self):
        pass


class Peer:
    """A worker's process, started when first needed."""

    def __init__(self, engine, precision, folder, x, threads, cache):
        self.input = cache / f"input-{x.shape[3]}x{x.shape[2]}.npy"
        np.save(self.input, x)
        self.words = [engine, precision, str(folder), str(self.input), str(threads), str(cache)]
        self.cache, self.process = cache, None

    def start(self):
        errors = (self.cache / "worker.log").open("w")
        self.process = subprocess.Popen([sys.executable, str(HERE / "worker.py"), *self.words], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        return self.answer()["settings"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            lines = (self.cache / "worker.log").read_text().strip().splitlines()
            raise Failed(lines[-1] if lines else f"ended with {self.process.returncode}")
        return json.loads(line)

    def ask(self, question):
        if self.process is None:
            self.start()
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self.answer()

    def run(self, n):
        return self.ask(f"run {n}")

    def output(self):
        path = self.cache / "output.npy"
        self.ask(f"output {path}")
        return np.load(path)

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process = None


# Name in the tables, and precision; the first that runs is what the others' outputs are compared with.
CONTESTANTS = [
    ("i2sb", "f32"),
    ("PyTorch", "f32"),
    ("ONNX Runtime", "f32"),
    ("OpenVINO", "f32"),
    ("i2sb", "bf16"),
    ("PyTorch", "bf16"),
    ("OpenVINO", "bf16"),
    ("i2sb", "int8"),
    ("ONNX Runtime", "int8"),
    ("OpenVINO", "int8"),
]


def contestant(name, precision, i2sb, folder, x, threads, cache):
    """One row of CONTESTANTS, ready to start."""
    if name == "i2sb":
        return Ours(i2sb, precision, folder, x, threads, cache)
    return Peer(name, precision, folder, x, threads, cache)
