# SPDX-License-Identifier: MIT OR Apache-2.0
"""Tables in Markdown and CSV, plots of quality against cost and of gain against the strength of compression."""

import csv
import statistics

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLUMNS = ["case", "method", "psnr", "ssim", "lpips", "ssimulacra2", "vmaf", "deviation", "warp", "warp_original",
           "seconds_per_mpx"]
# Heading, key, digits, and whether the table shows the difference to the decode.
SHOWN = [("PSNR", "psnr", 2, True), ("SSIM", "ssim", 4, True), ("LPIPS", "lpips", 4, True),
         ("SSIMULACRA2", "ssimulacra2", 1, True), ("VMAF", "vmaf", 1, True), ("deviation", "deviation", 3, False),
         ("warping error", "warp", 3, False), ("s/Mpx", "seconds_per_mpx", 2, False)]


def by_case(rows):
    found = {}
    for row in rows:
        found.setdefault(row["case"], []).append(row)
    return found


def cell(row, decode, key, digits, gain):
    if row.get(key) is None:
        return ""
    text = f"{row[key]:.{digits}f}"
    if gain and row is not decode:
        text += f" ({row[key] - decode[key]:+.{digits}f})"
    return text


def markdown(rows, intro):
    lines = [intro, ""]
    for case, group in by_case(rows).items():
        decode = group[0]
        shown = [s for s in SHOWN if any(row.get(s[1]) is not None for row in group)]
        lines += [f"### {case}", "", "| method | " + " | ".join(s[0] for s in shown) + " |", "|---" * (len(shown) + 1) + "|"]
        lines += [f"| {row['method']} | " + " | ".join(cell(row, decode, *s[1:]) for s in shown) + " |" for row in group]
        lines.append("")
    return "\n".join(lines)


def methods(rows):
    return list(dict.fromkeys(row["method"] for row in rows if row["method"] != "decode"))


def gains(rows, key):
    """(case, method) to the difference to the decode."""
    return {(case, row["method"]): row[key] - group[0][key]
            for case, group in by_case(rows).items() for row in group if row.get(key) is not None}


def plot_cost(rows, path):
    """Mean gain of each method over the cases of each kind, against seconds per megapixel."""
    kinds = [("pictures", False, "psnr", "PSNR gain (dB)"), ("clips", True, "psnr", "PSNR gain (dB)"),
             ("clips", True, "vmaf", "VMAF gain")]
    fig, axes = plt.subplots(1, len(kinds), figsize=(4 * len(kinds), 3.6))
    for axis, (kind, clip, key, label) in zip(axes, kinds):
        chosen = [row for row in rows if row["clip"] == clip]
        found = gains(chosen, key)
        for method in methods(chosen):
            values = [gain for (_, name), gain in found.items() if name == method]
            cost = statistics.mean(row["seconds_per_mpx"] for row in chosen if row["method"] == method)
            if values:
                point = (cost, statistics.mean(values))
                axis.scatter(*point, color="#c0392b" if method.startswith("i2sb") else "#2c3e50", s=24)
                axis.annotate(method, point, fontsize=6, xytext=(4, 3), textcoords="offset points")
        axis.axhline(0, color="#999999", linewidth=0.8)
        axis.set_xscale("log")
        axis.margins(x=0.35, y=0.12)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
        axis.set_xlabel("seconds per megapixel, one thread", fontsize=8)
        axis.set_ylabel(f"{kind}: mean {label}", fontsize=8)
        axis.tick_params(labelsize=7)
    fig.tight_layout()
    fig.savefig(path, dpi=100)
    plt.close(fig)


def plot_strength(rows, path):
    """Mean PSNR gain of each method against JPEG quality and CRF."""
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.6))
    found = gains(rows, "psnr")
    for axis, clip, label in ((axes[0], False, "JPEG quality"), (axes[1], True, "x264 CRF")):
        chosen = [row for row in rows if row["clip"] == clip and row["strength"] is not None]
        for method in methods(chosen):
            at = {}
            for row in chosen:
                if row["method"] == method:
                    at.setdefault(row["strength"], []).append(found[row["case"], method])
            points = sorted((strength, statistics.mean(values)) for strength, values in at.items())
            ours = method.startswith("i2sb")
            axis.plot(*zip(*points), marker="o", markersize=3, label=method, linewidth=2 if ours else 1,
                      linestyle="-" if ours else "--")
        axis.axhline(0, color="#999999", linewidth=0.8)
        axis.set_xlabel(label, fontsize=8)
        axis.set_ylabel("mean PSNR gain (dB)", fontsize=8)
        axis.tick_params(labelsize=7)
        if chosen:
            axis.legend(fontsize=6)
    fig.tight_layout()
    fig.savefig(path, dpi=100)
    plt.close(fig)


def write(rows, intro, out):
    """table.md, table.csv, cost.png, gain.png."""
    (out / "table.md").write_text(markdown(rows, intro) + "\n")
    with (out / "table.csv").open("w", newline="") as f:
        writer = csv.DictWriter(f, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    plot_cost(rows, out / "cost.png")
    plot_strength(rows, out / "gain.png")
