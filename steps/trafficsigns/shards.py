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
from trafficsigns.pictures import Picture, decode, png_of
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
    rois = _rois(rows)
    small = {} if split == "test" else _resized(pictures)
    for number, (picture, file) in enumerate(zip(pictures, files, strict=True)):
        if picture.error:
            yield None
            continue
        # What does not come with its pixels is large: one at a time, and none of them is kept.
        train = split != "test"
        image = (small.get(number) or _one(archive, file)) if train else png_of(picture, archive, file)
        yield image, labels[number], tracks[number], file, rois[number]


def _resized(pictures: Sequence[Picture]) -> dict[int, bytes]:
    """Bring the pictures that come with their pixels to the network's size; by their place."""
    result = {number: picture.pixels for number, picture in enumerate(pictures) if picture.pixels}
    # Resizing would not change some, and costs more than all the rest.
    side = (images.SIDE, images.SIDE)
    others = [number for number in result if (pictures[number].width, pictures[number].height) != side]
    if others:
        raw = np.frombuffer(b"".join(result[number] for number in others), np.uint8)
        sizes = np.array([(pictures[number].height, pictures[number].width) for number in others], np.int32)
        for number, image in zip(others, images.resize_all(tf.constant(raw), tf.constant(sizes)).numpy(), strict=True):
            result[number] = image.tobytes()
    return result


def _one(archive: Archive, file: str) -> bytes:
    resized: bytes = images.resize(tf.constant(np.asarray(decode(archive.read(file))))).numpy().tobytes()
    return resized


def _rois(rows: pa.Table) -> list[list[float]]:
    """Return regions of interest as shares of the image, which hold whatever size its pixels were brought to."""
    edges = ("roi_left", "roi_top", "roi_right", "roi_bottom")
    pixels = np.stack([rows[name].to_numpy().astype(np.float64) for name in edges], axis=1)
    sides = np.stack([rows[name].to_numpy().astype(np.float64) for name in ("width", "height")] * 2, axis=1)
    shares: list[list[float]] = (pixels / np.maximum(sides, 1)).tolist()
    return shares
