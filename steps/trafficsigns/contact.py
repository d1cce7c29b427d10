"""A contact sheet of any data set: some pictures of every class, evenly picked, with their regions of interest."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont

from trafficsigns.pictures import UNDECODABLE, decode
from trafficsigns.sources import Archive
from trafficsigns.sources.listing import BOX

_TILE, _GAP, _TITLE = 64, 6, 22
_PICTURES = 6
_COLUMNS = 3
_PAPER, _INK, _MARK, _BROKEN = (255, 255, 255), (40, 40, 44), (255, 0, 200), (230, 60, 60)
_CLASSES = 300
"""More would make a picture that nothing opens."""


def contact_sheet(archive: Archive, listing: pa.Table) -> Image.Image:
    """Draw the sheet: RGB. What cannot be decoded is a crossed tile."""
    names = archive.class_names[:_CLASSES]
    rows = math.ceil(len(names) / _COLUMNS)
    width, height = _PICTURES * (_TILE + _GAP) + 2 * _GAP, _TITLE + _TILE + 2 * _GAP
    sheet = Image.new("RGB", (_COLUMNS * width + 3 * _GAP, rows * height + 3 * _GAP), _PAPER)
    for class_id, name in enumerate(names):
        members = listing.filter(pc.equal(listing["class_id"], class_id))
        column, row = divmod(class_id, rows)
        entry = _entry(archive, members, f"{class_id}  {name}  ({len(members)})", (width, height))
        sheet.paste(entry, (column * width + 3 * _GAP, row * height + 2 * _GAP))
    return sheet


def _entry(archive: Archive, members: pa.Table, title: str, size: tuple[int, int]) -> Image.Image:
    entry = Image.new("RGB", size, _PAPER)
    ImageDraw.Draw(entry).text((0, _TITLE - 5), title, _INK, ImageFont.load_default(14), anchor="ls")
    picked = np.linspace(0, len(members) - 1, min(_PICTURES, len(members))).round().astype(int)
    for place, row in enumerate(members.take(picked).to_pylist()):
        entry.paste(_tile(archive, row), (place * (_TILE + _GAP), _TITLE))
    return entry


def _tile(archive: Archive, row: dict[str, int | None]) -> Image.Image:
    try:
        tile = decode(archive.read(str(row["file"]))).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
    except UNDECODABLE:
        tile = Image.new("RGB", (_TILE, _TILE), _PAPER)
        ImageDraw.Draw(tile).line((0, 0, _TILE, _TILE, 0, _TILE, _TILE, 0), _BROKEN, 3)
        return tile
    width, height, *edges = (row[name] for name in BOX)
    if width and height and None not in edges:
        # Annotated in the original's pixels, whatever size the picture was brought to.
        sides = (width, height, width, height)
        left, top, right, bottom = (
            edge * _TILE / side for edge, side in zip(edges, sides, strict=True) if edge is not None
        )
        if left <= right and top <= bottom:
            ImageDraw.Draw(tile).rectangle((left, top, right, bottom), outline=_MARK)
    return tile
