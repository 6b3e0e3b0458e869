# SPDX-License-Identifier: MIT OR Apache-2.0
"""Times whole one-step restorations of the same networks, all engines in turn, round after round.

In each round every engine runs a few times, so that what else the machine does meets all of them.
Outputs are compared first. Writes table.md, table.csv, figures.json and plot.png.
"""

import argparse
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np

import presets
import report
import training
from contestants import CONTESTANTS, Failed, contestant

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / "tests" / "peers" / ".cache" / "speed"
# Largest difference of two outputs, range [-1, 1]; bf16 keeps 8 bits, and bytes are rounded by each in its own way.
TOLERANCE = {"f32": 1e-3, "bf16": 0.1, "int8": 0.2}
# Networks with more parameters than this are not all kept in memory at once.
KEPT_PARAMETERS = 100e6


def picture(width, height):
    """A smooth picture with noise, (1, 3, H, W) in [-1, 1] in steps that 16-bit files hold exactly."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [np.sin(x / (17 + 9 * c) + c) * np.cos(y / (23 + 5 * c)) * 0.6 for c in range(3)]
    noisy = np.stack(planes) + np.random.default_rng(1).normal(0, 0.1, (3, height, width))
    return (np.round((noisy.clip(-1, 1) + 1) * 32767.5) / 32767.5 - 1).astype(np.float32)[None]


def cost(folder):
    """Parameters of a preset."""
    import safetensors

    with safetensors.safe_open(folder / "model.safetensors", "np") as f:
        return sum(int(np.prod(f.get_slice(k).get_shape())) for k in f.keys())


def measure(name, size, args):
    """One network at one size: a list of figures, one per contestant."""
    folder = presets.find(name, ROOT, CACHE / "untrained")
    width, height = size
    x = picture(width, height)
    parameters = cost(folder)
    keep = parameters <= KEPT_PARAMETERS
    print(f"# {folder.name}, {parameters / 1e6:.2f} M parameters, {width}x{height}", flush=True)
    rows, reference = [], None
    for engine, precision in CONTESTANTS:
        if args.engines and engine not in args.engines or precision not in args.precisions:
            continue
        row = {"network": folder.name, "parameters": parameters, "width": width, "height": height,
               "engine": engine, "precision": precision, "ms": []}
        row["runner"] = contestant(engine, precision, args.i2sb, folder, x, args.threads, CACHE)
        rows.append(row)
        try:
            row["settings"] = row["runner"].start()
            if not args.unchecked:
                output = row["runner"].output()
                reference = output if reference is None else reference
                row["difference"] = float(np.abs(output - reference).max())
                if not row["difference"] <= TOLERANCE[precision]:
                    raise SystemExit(f"{engine} {precision} differs from {rows[0]['engine']} {rows[0]['precision']} "
                                     f"by {row['difference']:.2e}: they do not run the same network")
        except Failed as reason:
            row["failed"] = str(reason)
            print(f"{engine} {precision}: {reason}", flush=True)
        if not keep:
            row["runner"].close()
    live = [row for row in rows if "failed" not in row]
    for _ in range(args.rounds):
        for row in live:
            row["ms"] += row["runner"].run(args.runs)
            if not keep:
                row["runner"].close()
    for row in rows:
        runner = row.pop("runner")
        runner.close()
        if row["ms"]:
            row["ms_median"] = statistics.median(row["ms"])
            row["mpx_per_s"] = width * height / 1e3 / row["ms_median"]
        for key in ("gemm_gmac_per_s", "peak_rss_mb"):
            if getattr(runner, "figures", None):
                row[key] = statistics.median(f[key] for f in runner.figures)
        if getattr(runner, "figures", None):
            f = runner.figures[0]
            row["kmac_per_px"] = f["gmac_per_s"] * f["ms_median"] * 1e3 / (width * height)
    kmac = next((r["kmac_per_px"] for r in rows if "kmac_per_px" in r), None)
    for row in live:
        row["kmac_per_px"] = kmac
        print(f"{row['engine']:13} {row['precision']:5} {row['ms_median']:9.1f} ms  ({row['settings']})", flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    size = lambda text: tuple(int(side) for side in text.split("x"))
    parser.add_argument("--i2sb", required=True, help="the command to measure (run.sh builds it, or takes $I2SB)")
    parser.add_argument("--networks", nargs="+", default=["jpeg-nano", "jpeg-small", "jpeg-base", "adm-256"],
                        help="presets, recipes (untrained), folders, or adm-256")
    parser.add_argument("--sizes", nargs="+", type=size, default=[(1280, 720), (256, 256)], metavar="WxH")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3, help="of each engine per round, at most 3")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--engines", nargs="+", help="only these")
    parser.add_argument("--precisions", nargs="+", default=["f32", "bf16", "int8"])
    parser.add_argument("--eager", action="store_true", help="no torch.compile: for ADM it takes many minutes")
    parser.add_argument("--unchecked", action="store_true", help="do not compare outputs")
    parser.add_argument("--training", type=Path, metavar="DIR",
                        help="also time a training step of jpeg-small, with the pictures of this folder")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "peers-speed")
    args = parser.parse_args()
    if args.eager:
        os.environ["EAGER"] = "1"
    CACHE.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    run = {"date": time.strftime("%Y-%m-%d"), "processor": report.processor(), "system": platform.platform(),
           "threads": args.threads, "versions": report.versions(), "rows": [], "training": []}
    for name in args.networks:
        # ADM sees the whole picture, and was made for one size.
        for width, height in args.sizes if name != "adm-256" else [(256, 256)]:
            run["rows"] += measure(name, (width, height), args)
            report.write(run, args.out)
    if args.training:
        run["training"] = training.measure(ROOT, CACHE, args)
    report.write(run, args.out)
    print((args.out / "table.md").read_text())


if __name__ == "__main__":
    main()
