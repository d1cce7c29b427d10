"""A picture of the whole data set: for each class its clean face and a few photographs."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trafficsigns import pictograms
from trafficsigns.classes import CLASS_NAMES
from trafficsigns.synthetic.tracks import photograph

_TILE, _GAP, _TITLE = 64, 6, 22
_PHOTOGRAPHS = 5
_COLUMNS = 3
_PAPER, _INK = (255, 255, 255), (40, 40, 44)


def contact_sheet(seed: int) -> Image.Image:
    """Draw the sheet: RGB; every photograph shows a sign of its own."""
    rows = math.ceil(len(CLASS_NAMES) / _COLUMNS)
    width = (1 + _PHOTOGRAPHS) * (_TILE + _GAP) + 3 * _GAP
    height = _TITLE + _TILE + 2 * _GAP
    sheet = Image.new("RGB", (_COLUMNS * width + 3 * _GAP, rows * height + 3 * _GAP), _PAPER)
    for class_id in range(len(CLASS_NAMES)):
        column, row = divmod(class_id, rows)
        sheet.paste(_entry(class_id, seed, (width, height)), (column * width + 3 * _GAP, row * height + 2 * _GAP))
    return sheet


def _entry(class_id: int, seed: int, size: tuple[int, int]) -> Image.Image:
    entry = Image.new("RGB", size, _PAPER)
    title = f"{class_id}  {CLASS_NAMES[class_id]}"
    ImageDraw.Draw(entry).text((0, _TITLE - 5), title, _INK, ImageFont.load_default(14), anchor="ls")
    face = pictograms.draw(class_id, _TILE)
    entry.paste(face, (0, _TITLE), face)
    for number in range(_PHOTOGRAPHS):
        rng = np.random.default_rng(np.random.SeedSequence([seed, class_id, number]))
        frame = photograph(class_id, [rng.uniform(0.5, 1)], rng)[0]
        tile = Image.fromarray(frame.pixels).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
        entry.paste(tile, ((1 + number) * (_TILE + _GAP), _TITLE))
    return entry
