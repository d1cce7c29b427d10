"""Makes a split's records of pictures and rows. Needs TensorFlow, and takes its seconds to import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import tensorflow as tf

from trafficsigns import images, records
from trafficsigns.instances import Instance
from trafficsigns.pictures import Picture, stored
from trafficsigns.sources import Archive

Part = tuple[pa.Table, Sequence[Picture]]
"""Rows of the manifest, and the pictures that they tell of."""


def write(archive: Archive, parts: Iterable[Part], total: int, split: str, folder: Path, instance: Instance) -> int:
    """Write a machine's share of a split as shards of even size and return how many records they hold.

    The machines' shards take turns in their numbers, so no two have one name. What cannot be decoded has no record.
    """
    serialize = records.Serializer()
    stream = (
        None if fields is None else serialize(*fields)
        for rows, pictures in parts
        for fields in _records(archive, rows, pictures, split)
    )
    written = 0
    for number, size in enumerate(records.sizes(total)):
        present = (record for record in islice(stream, size) if record is not None)
        written += records.write(present, folder, number * instance.count + instance.number)
    return written


def _records(
    archive: Archive, rows: pa.Table, pictures: Sequence[Picture], split: str
) -> Iterator[tuple[bytes, int, str, str, list[float]] | None]:
    """Yield what goes into each image's record, or None for one that cannot be decoded."""
    labels, tracks, files = (rows[name].to_pylist() for name in ("class_id", "track", "file"))
    content: Sequence[bytes | None] = [
        None if picture.error else stored(picture, archive, file, split == "test")
        for picture, file in zip(pictures, files, strict=True)
    ]
    if split != "test":
        content = _resized(content, pictures)
    for image, *others in zip(content, labels, tracks, files, _rois(rows), strict=True):
        yield None if image is None else (image, *others)


def _resized(pixels: Sequence[bytes | None], pictures: Sequence[Picture]) -> list[bytes | None]:
    """Bring raw pixels to the network's size; those that have it already pass as they are."""
    result = list(pixels)
    # Resizing would not change them, and costs more than all the rest.
    others = [
        number
        for number, picture in enumerate(pictures)
        if picture.error is None and (picture.width, picture.height) != (images.SIDE, images.SIDE)
    ]
    if others:
        raw = np.frombuffer(b"".join(pixels[number] or b"" for number in others), np.uint8)
        sizes = np.array([(pictures[number].height, pictures[number].width) for number in others], np.int32)
        for number, image in zip(others, images.resize_all(tf.constant(raw), tf.constant(sizes)).numpy(), strict=True):
            result[number] = image.tobytes()
    return result


def _rois(rows: pa.Table) -> list[list[float]]:
    """Return regions of interest as shares of the image, which hold whatever size its pixels were brought to."""
    edges = ("roi_left", "roi_top", "roi_right", "roi_bottom")
    pixels = np.stack([rows[name].to_numpy().astype(np.float64) for name in edges], axis=1)
    sides = np.stack([rows[name].to_numpy().astype(np.float64) for name in ("width", "height")] * 2, axis=1)
    shares: list[list[float]] = (pixels / np.maximum(sides, 1)).tolist()
    return shares
