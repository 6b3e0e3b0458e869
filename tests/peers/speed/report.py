# SPDX-License-Identifier: MIT OR Apache-2.0
"""The figures as Markdown, CSV, JSON and a plot."""

import csv
import importlib.metadata
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLORS = {"i2sb": "#c0392b", "PyTorch": "#e67e22", "ONNX Runtime": "#7f8c8d", "OpenVINO": "#2980b9"}
COLUMNS = ["network", "width", "height", "engine", "precision", "ms_median", "ms_min", "ms_max", "runs",
           "mpx_per_s", "gmac_per_s", "difference", "settings"]


def processor():
    """Name and the instruction sets that matter here."""
    text = Path("/proc/cpuinfo").read_text()
    field = lambda name: next(line.split(":", 1)[1] for line in text.splitlines() if line.startswith(name))
    flags = field("flags").split()
    kept = [f for f in ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if f in flags]
    return f"{field('model name').strip()} ({', '.join(kept)})"


def versions():
    """Of the packages compared."""
    return {name: importlib.metadata.version(name) for name in ("torch", "onnxruntime", "openvino")}


def gmac_per_s(row):
    """10⁹ multiply-accumulates of the network per second; None where its cost is not known."""
    if not row.get("kmac_per_px"):
        return None
    return row["kmac_per_px"] * row["width"] * row["height"] / row["ms_median"] / 1e3


def flat(row):
    """A row of the CSV."""
    ms = row["ms"]
    gmac = gmac_per_s(row)
    values = {**row, "ms_min": min(ms), "ms_max": max(ms), "runs": len(ms), "gmac_per_s": gmac}
    return [f"{v:.6g}" if isinstance(v := values.get(c), float) else v for c in COLUMNS]


def groups(rows):
    """Rows of one network at one size, in order."""
    found = {}
    for row in rows:
        found.setdefault((row["network"], row["width"], row["height"]), []).append(row)
    return found


def fastest_peer(rows, precision):
    """Least median of the others in one precision."""
    return min((r["ms_median"] for r in rows if r["engine"] != "i2sb" and r["precision"] == precision and r["ms"]),
               default=None)


def markdown(run):
    lines = [f"{run['date']}, {run['processor']}, {run['threads']} threads; "
             + ", ".join(f"{k} {v}" for k, v in run["versions"].items()), ""]
    for (network, width, height), rows in groups(run["rows"]).items():
        gemm = next((r["gemm_gmac_per_s"] for r in rows if "gemm_gmac_per_s" in r), None)
        kmac = next((r["kmac_per_px"] for r in rows if r.get("kmac_per_px")), 0)
        lines += [f"### {network}, {width}×{height}, {kmac:.1f} kMAC/px", "",
                  "| engine | precision | median ms | least | most | Mpx/s | GMAC/s | speed of the fastest peer | differs by |",
                  "|---|---|---|---|---|---|---|---|---|"]
        for r in rows:
            if not r["ms"]:
                lines.append(f"| {r['engine']} | {r['precision']} | {r.get('failed', 'not run')} | | | | | | |")
                continue
            best = fastest_peer(rows, r["precision"])
            times = f"{best / r['ms_median']:.2f} ×" if best else ""
            gmac = f"{gmac_per_s(r):.1f}" if gmac_per_s(r) else ""
            difference = f"{r['difference']:.1e}" if "difference" in r else ""
            lines.append(f"| {r['engine']} | {r['precision']} | {r['ms_median']:.1f} | {min(r['ms']):.1f} | "
                         f"{max(r['ms']):.1f} | {r['mpx_per_s']:.2f} | {gmac} | {times} | {difference} |")
        if gemm:
            lines += ["", f"Matrix product f32 (1024³) in the same run: {gemm:.1f} GMAC/s."]
        lines.append("")
    if run["training"]:
        lines += ["### Training step of the network of jpeg-small", "",
                  "| engine | precision | batch | crop | median ms |", "|---|---|---|---|---|"]
        lines += [f"| {t['engine']} | {t['precision']} | {t['batch']} | {t['crop']} | "
                  + (f"{t['ms_median']:.0f} |" if "ms_median" in t else f"{t['failed']} |") for t in run["training"]]
        lines.append("")
    return "\n".join(lines)


def plot(run, path):
    found = groups(run["rows"])
    fig, axes = plt.subplots(1, len(found), figsize=(2.6 * len(found) + 0.6, 3.6), squeeze=False)
    for axis, ((network, width, height), rows) in zip(axes[0], found.items()):
        rows = [r for r in rows if r["ms"]]
        names = [f"{r['engine']}\n{r['precision']}" for r in rows]
        values = [r["mpx_per_s"] for r in rows]
        axis.bar(range(len(rows)), values, color=[COLORS[r["engine"]] for r in rows],
                 hatch=[{"bf16": "//", "int8": ".."}.get(r["precision"], "") for r in rows], edgecolor="white")
        axis.set_xticks(range(len(rows)), names, fontsize=6, rotation=90)
        axis.set_title(f"{network}\n{width}×{height}", fontsize=8)
        axis.tick_params(axis="y", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("megapixels per second (median)", fontsize=8)
    fig.tight_layout()
    fig.savefig(path, dpi=110)
    plt.close(fig)


def write(run, out):
    """All four files; called after each network, so that an interrupted run leaves what it has."""
    (out / "figures.json").write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n")
    (out / "table.md").write_text(markdown(run))
    with (out / "table.csv").open("w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(flat(row) for row in run["rows"] if row["ms"])
    plot(run, out / "plot.png")
