# SPDX-License-Identifier: MIT OR Apache-2.0
"""Compares presets and other programs on the same degraded pictures and clips.

Everything made is kept in tests/peers/.cache/quality: a rerun does only what is new. Writes table.md,
table.csv, cost.png, gain.png and contact sheets.
"""

import argparse
import time
from pathlib import Path

import material
import methods
import report
import scores
import sheet
from methods import CACHE

ROOT = Path(__file__).resolve().parents[3]


def newest():
    """Folders of the presets in weights/, of each name its newest version."""
    found = {}
    for folder in sorted(p.parent for p in (ROOT / "weights").glob("*/config.toml")):
        found[folder.name.rsplit("-v", 1)[0]] = folder
    return list(found.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--i2sb", required=True, help="the command (run.sh builds it, or takes $I2SB)")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="originals that are compressed as JPEG")
    parser.add_argument("--qualities", type=int, nargs="*", default=[10, 20, 40, 80], metavar="Q")
    parser.add_argument("--blurs", nargs="*", default=list(material.BLURS), choices=list(material.BLURS))
    parser.add_argument("--limit", type=int, metavar="N", help="only N of the pictures, evenly spaced")
    parser.add_argument("--side", type=int, default=512, metavar="PX", help="only the middle of each picture")
    parser.add_argument("--clips", type=Path, metavar="DIR", help="clean clips that are encoded")
    parser.add_argument("--pattern", default="*_ffv1_*", help="which files of --clips")
    parser.add_argument("--frames", type=int, default=24, metavar="N", help="of each clip")
    parser.add_argument("--codecs", nargs="+", default=material.USUAL, choices=list(material.CODECS))
    parser.add_argument("--static", type=int, default=2, metavar="N", help="pictures that also become still clips")
    parser.add_argument("--presets", type=Path, nargs="+", metavar="DIR", help="folders of presets [newest of weights/]")
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--without", nargs="+", default=[], metavar="METHOD", help="leave out methods of these names")
    parser.add_argument("--only-on-pictures", nargs="+", default=["waifu2x CUNet 2"], metavar="METHOD",
                        help="methods too slow for clips")
    parser.add_argument("--rows", type=int, default=3, help="pictures on a contact sheet")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "peers-quality")
    args = parser.parse_args()
    if not args.pictures and not args.clips:
        parser.error("nothing to do: name a folder with --pictures or --clips")
    CACHE.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)

    cases = []
    if args.pictures:
        cases += material.pictures(args.pictures, CACHE, args.limit, args.side, args.qualities, args.blurs)
    if args.clips:
        cases += material.clips(args.clips, CACHE, args.pattern, args.frames, args.codecs)
    if args.pictures and args.clips and args.static:
        stills = sorted(cases[0].clean.glob("*.png"))
        cases += material.static_scenes(material.evenly(stills, args.static), CACHE, args.frames, args.codecs)

    contestants = methods.all_methods(args.i2sb, args.presets or newest(), args.precision)
    contestants = [m for m in contestants if m.name not in args.without]
    rows = []
    for case in cases:
        size, columns = scores.pixels(case), [("original", case.clean)]
        for method in contestants:
            if not method.suits(case) or case.clip and method.name in args.only_on_pictures:
                continue
            out, seconds = methods.restored(method, case, size)
            row = {"case": case.name, "clip": case.clip, "strength": case.strength, "method": method.name,
                   "seconds_per_mpx": seconds, **scores.scores(args.i2sb, case, out, method)}
            rows.append(row)
            columns.append((method.name, out))
            print(f"{case.name:32} {method.name:24} {row['psnr']:.2f} dB", flush=True)
        sheet.draw(case, columns, args.out / f"sheet-{case.folder.parent.name}-{case.folder.name}.png", args.rows)
        intro = f"{time.strftime('%Y-%m-%d')}; differences to the decode in parentheses; one thread each."
        report.write(rows, intro, args.out)
    print((args.out / "table.md").read_text())


if __name__ == "__main__":
    main()
