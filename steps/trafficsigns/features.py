"""Filters and feature maps as pictures: what a network looks for, and what it finds in one image.

Pure: arrays in, arrays out. The arrays come from the archive's own signature ``explain``, so that what is shown is the
network that serves.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from trafficsigns.signatures import FILTERS

Picture = npt.NDArray[np.uint8]

_GAP = 1
_PAPER, _INK = 255, 0
_WIDTH = 960
"""Pixels of a sheet, titles and maps."""
_TITLE = 14

_FOR, _AGAINST = (214.0, 40.0, 24.0), (24.0, 84.0, 214.0)
_HEAT = 96
"""Pixels of a side of a painted map, as the report shows pictures."""


def maps(values: npt.NDArray[np.float32]) -> Picture:
    """Lay the channels of feature maps ``[height, width, channels]`` side by side; returns uint8 ``[h, w]``.

    All share one scale, from the smallest value, black, to the largest, white, so that a silent channel looks silent.
    """
    tiles = np.moveaxis(_stretched(values, float(values.min()), float(values.max())), -1, 0)
    return _grid(tiles, math.ceil(math.sqrt(2 * len(tiles) * values.shape[0] / values.shape[1])))


def filters(kernel: npt.NDArray[np.float32]) -> Picture:
    """Lay out a convolution's weights ``[height, width, in, out]``, a row for each input channel; uint8 ``[h, w]``.

    Grey is zero, white excites, black inhibits, on one scale for all.
    """
    largest = float(np.abs(kernel).max())
    tiles = _stretched(np.transpose(kernel, (2, 3, 0, 1)), -largest, largest)
    return _grid(tiles.reshape(-1, *kernel.shape[:2]), kernel.shape[3])


def pictures(explained: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, Picture]:
    """Turn all that ``explain`` answers about one image into pictures, by their names, in the network's order."""
    ordered = sorted(name for name in explained if name != FILTERS)
    drawn = {_title(name): maps(explained[name][0]) for name in ordered}
    return {"filters of conv1": filters(explained[FILTERS]), **drawn} if FILTERS in explained else drawn


def heat(pixels: Picture, values: npt.NDArray[np.floating[Any]]) -> bytes:
    """Paint a map of reasons ``[height, width]`` over a picture in grey, uint8 ``[height, width, 3]``; a PNG file.

    Red is above zero, blue below, at full strength where a value is the map's largest, of whatever sign.
    """
    grey = pixels.mean(axis=2, keepdims=True) * 0.6 + 51.0
    strength = (values / (np.abs(values).max() or 1.0))[:, :, None]
    colours = np.where(strength > 0, np.array(_FOR), np.array(_AGAINST))
    painted = grey + np.abs(strength) * 0.85 * (colours - grey)
    large = Image.fromarray(np.rint(painted).astype(np.uint8)).resize((_HEAT, _HEAT), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    large.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def sheet(drawn: Mapping[str, Picture]) -> Image.Image:
    """Put pictures under one another, each enlarged by a whole factor and with its name above it."""
    enlarged = {name: _enlarged(picture) for name, picture in drawn.items()}
    height = sum(picture.height + 2 * _TITLE for picture in enlarged.values())
    width = max(_WIDTH, *(picture.width for picture in enlarged.values()))
    page, top = Image.new("L", (width, height), _PAPER), 0
    pen = ImageDraw.Draw(page)
    for name, picture in enlarged.items():
        pen.text((0, top), name, fill=_INK)
        page.paste(picture, (0, top + _TITLE))
        top += picture.height + 2 * _TITLE
    return page


def png(picture: Picture) -> bytes:
    """Encode one picture, enlarged, as a PNG file."""
    buffer = io.BytesIO()
    _enlarged(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _title(name: str) -> str:
    return name.split("_", 1)[1]


def _stretched(values: npt.NDArray[np.float32], low: float, high: float) -> Picture:
    span = high - low or 1.0
    stretched: Picture = np.round((values - low) / span * 255.0).astype(np.uint8)
    return stretched


def _grid(tiles: Picture, columns: int) -> Picture:
    # tiles: [n, height, width]; the last row may have free places.
    count, height, width = tiles.shape
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    page = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP), _PAPER, np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        top, left = row * (height + _GAP), column * (width + _GAP)
        page[top : top + height, left : left + width] = tile
    return page


def _enlarged(picture: Picture) -> Image.Image:
    factor = max(1, _WIDTH // picture.shape[1] if picture.shape[1] > _WIDTH // 4 else 4)
    size = (picture.shape[1] * factor, picture.shape[0] * factor)
    return Image.fromarray(picture).resize(size, Image.Resampling.NEAREST)
