# SPDX-License-Identifier: MIT OR Apache-2.0
"""Time of a training step: `i2sb train` against PyTorch with AdamW and averaged weights."""

import re
import statistics
import subprocess
import sys
import time
import tomllib
from pathlib import Path

RECIPE = "engine/recipes/jpeg-small-v1.toml"
# Steps that are timed, and those before them.
STEPS, BEFORE = 12, 4


def ours(root, cache, i2sb, pictures, threads, precision):
    """Milliseconds a step: the difference of a long and a short run, so that starting up cancels."""
    text = (root / RECIPE).read_text()
    # No degradation and no evaluation: what is compared is the step.
    text = re.sub(r'degrade = "[^"]*"', 'degrade = "none"', text)
    text = re.sub(r"every = \d+", "every = 100000", text)
    text = re.sub(r"(?ms)^\[train\.data\].*?(?=^\[)", "", text)
    recipe = cache / "step.toml"
    recipe.write_text(text)

    def seconds(steps):
        out = cache / "step"
        for old in out.glob("*") if out.exists() else []:
            old.unlink()
        begin = time.perf_counter()
        done = subprocess.run([i2sb, "train", "--data", str(pictures), "--recipe", str(recipe), "--out", str(out),
                               "--until", str(steps), "--threads", str(threads), "--precision", precision],
                              capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return time.perf_counter() - begin

    return (seconds(BEFORE + STEPS) - seconds(BEFORE)) / STEPS * 1e3


def torch_step(root, threads, precision):
    """Times of single steps in milliseconds, run in a process of its own (see __main__)."""
    done = subprocess.run([sys.executable, __file__, str(root / RECIPE), str(threads), precision],
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return [float(word) for word in done.stdout.split()]


def measure(root, cache, args):
    """Rows for the report."""
    train = tomllib.loads((root / RECIPE).read_text())["train"]
    rows = [{"engine": engine, "precision": precision, "batch": train["batch"], "crop": train["crop"]["width"], "ms": []}
            for precision in args.precisions if precision != "int8" for engine in ("i2sb", "PyTorch")]
    for _ in range(args.rounds):
        for row in rows:
            if "failed" in row:
                continue
            try:
                if row["engine"] == "i2sb":
                    row["ms"].append(ours(root, cache, args.i2sb, args.training, args.threads, row["precision"]))
                else:
                    row["ms"] += torch_step(root, args.threads, row["precision"])
            except RuntimeError as reason:
                row["failed"] = str(reason)
    for row in rows:
        if row["ms"]:
            row["ms_median"] = statistics.median(row["ms"])
            print(f"training step: {row['engine']} {row['precision']} {row['ms_median']:.0f} ms", flush=True)
        else:
            print(f"training step: {row['engine']} {row['precision']}: {row['failed']}", flush=True)
    return rows


def main():
    import torch

    import networks

    recipe, threads, precision = sys.argv[1:]
    config = tomllib.loads(Path(recipe).read_text())
    train = config["train"]
    torch.set_num_threads(int(threads))
    torch.manual_seed(1)
    network = networks.build(config).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    averaged = [p.detach().clone() for p in network.parameters()]
    shape = (train["batch"], 3, train["crop"]["height"], train["crop"]["width"])
    x, target = (torch.randn(shape).to(memory_format=torch.channels_last) for _ in range(2))
    times = networks.sinusoids(1000.0, network.features)[None].repeat(shape[0], 1)
    for step in range(2 + 6):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = (network(x, times).float() - target).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(averaged, [p.detach() for p in network.parameters()], 0.001)
        if step >= 2:
            print((time.perf_counter() - begin) * 1e3)


if __name__ == "__main__":
    main()
