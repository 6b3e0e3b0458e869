# SPDX-License-Identifier: MIT OR Apache-2.0
"""Contact sheets: of a few pictures the square that suffered most, as every method shows it."""

import cv2
import numpy as np
from PIL import Image, ImageDraw

SIDE = 112
GAP = 4
LINE = 14


def worst(clean, degraded):
    """Top left corner of the square with the largest mean absolute difference, on a grid of 8 pixels."""
    difference = cv2.boxFilter(cv2.absdiff(clean, degraded).mean(axis=2), -1, (SIDE, SIDE), anchor=(0, 0),
                               borderType=cv2.BORDER_CONSTANT)
    h, w = difference.shape
    inside = difference[: max(1, h - SIDE + 1) : 8, : max(1, w - SIDE + 1) : 8]
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    return y * 8, x * 8


def crop(path, at):
    picture = cv2.imread(str(path))[at[0] : at[0] + SIDE, at[1] : at[1] + SIDE]
    return Image.fromarray(picture[:, :, ::-1])


def draw(case, columns, path, rows):
    """`columns`: title and folder of each method, the originals first."""
    files = sorted(p.name for p in case.clean.glob("*.png"))
    chosen = [files[i * len(files) // rows] for i in range(min(rows, len(files)))]
    cell = SIDE + GAP
    sheet = Image.new("RGB", (len(columns) * cell + GAP, LINE + len(chosen) * cell + GAP), (24, 24, 24))
    text = ImageDraw.Draw(sheet)
    for i, (title, _) in enumerate(columns):
        text.text((GAP + i * cell, 1), title[:19], fill=(230, 230, 230))
    for row, name in enumerate(chosen):
        at = worst(cv2.imread(str(case.clean / name)), cv2.imread(str(case.degraded / name)))
        for i, (_, folder) in enumerate(columns):
            sheet.paste(crop(folder / name, at), (GAP + i * cell, LINE + GAP + row * cell))
    sheet.save(path, optimize=True)
