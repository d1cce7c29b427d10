#!/usr/bin/env python3
"""Turn a GTSRB archive into TFRecord shards and a manifest.

Reads the three official zips (or what they unpack to) and writes, below the output folder:

  train/        shards of 32x32 pixels with labels, and labels.json, the names of the classes
  validation/   the same, of whole tracks that training never sees
  test/         the official test images, encoded as PNG, as a client would send them
  manifest/     manifest.parquet: one row an image with what is known about it

The same archive, fraction and seed give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pandas as pd
from PIL import Image

from trafficsigns import failures, images, records
from trafficsigns.classes import CLASS_NAMES
from trafficsigns.failures import StepError
from trafficsigns.sources import Annotation, Archive, open_archive
from trafficsigns.splits import validation_tracks

logger = logging.getLogger("preprocess")

SPLITS = ("train", "validation", "test")
Row = dict[str, Any]
Pixels = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step; returns the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    return failures.run(
        lambda: preprocess(arguments.input_dir, arguments.output_dir, arguments.validation_fraction, arguments.seed)
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--input-dir",
        type=Path,
        default=Path("/opt/ml/processing/input/archive"),
        help="folder with the archive (default: %(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("/opt/ml/processing/output"),
        help="folder for what is written (default: %(default)s)",
    )
    parser.add_argument(
        "--validation-fraction",
        type=float,
        default=0.2,
        help="share of each class's tracks that validates, between 0 and 1 (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=7, help="decides splits and order (default: %(default)s)")
    return parser


def preprocess(input_dir: Path, output_dir: Path, validation_fraction: float, seed: int) -> None:
    """Write shards and manifest of the archive in ``input_dir``.

    Raises ``StepError`` for an archive that cannot be read or a fraction outside (0, 1).
    """
    if not 0 < validation_fraction < 1:
        raise StepError(f"--validation-fraction is {validation_fraction}: expected a number between 0 and 1")
    started = time.monotonic()
    archive = open_archive(input_dir)
    annotations = archive.annotations()
    validating = validation_tracks(annotations, validation_fraction, seed)
    by_split: dict[str, list[Annotation]] = {split: [] for split in SPLITS}
    for annotation in annotations:
        by_split["validation" if annotation.track in validating else annotation.split].append(annotation)
    rows: list[Row] = []
    for split, members in by_split.items():
        count = records.write(_records(archive, members, split, seed, rows), output_dir / split)
        logger.info("%s: %d of %d images, %.1f s", split, count, len(members), time.monotonic() - started)
    (output_dir / "train" / "labels.json").write_text(json.dumps(CLASS_NAMES, indent=1))
    (output_dir / "manifest").mkdir(parents=True, exist_ok=True)
    manifest = pd.DataFrame(rows).sort_values("file", ignore_index=True)
    manifest.to_parquet(output_dir / "manifest" / "manifest.parquet", index=False)


def _records(
    archive: Archive, annotations: list[Annotation], split: str, seed: int, rows: list[Row]
) -> Iterator[bytes]:
    """Yield a split's records in seeded order, and add each image's row to ``rows``.

    An image that cannot be decoded gets a row that says so and no record: validation, not this step, decides that such
    a set must not be trained on, because only there all offenders are known.
    """
    # A fixed, thorough shuffle here lets training get by with a small shuffle buffer.
    for index in np.random.default_rng([seed, SPLITS.index(split)]).permutation(len(annotations)):
        annotation = annotations[index]
        encoded = archive.read(annotation.file)
        try:
            pixels = _decode(encoded)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            rows.append(_row(annotation, split, encoded, None, f"{type(error).__name__}: {error}"))
            continue
        rows.append(_row(annotation, split, encoded, pixels, None))
        image = _png(pixels) if split == "test" else _to_side(pixels).tobytes()
        yield records.example(image, annotation.class_id, annotation.track, annotation.file)


def _decode(encoded: bytes) -> Pixels:
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB"))


def _to_side(pixels: Pixels) -> Pixels:
    if pixels.shape[:2] == (images.SIDE, images.SIDE):
        # Resizing would change nothing, and costs more than all the rest.
        return pixels
    resized: Pixels = images.resize(pixels).numpy()
    return resized


def _png(pixels: Pixels) -> bytes:
    # No TensorFlow operation decodes PPM; PNG keeps every pixel.
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _row(annotation: Annotation, split: str, encoded: bytes, pixels: Pixels | None, error: str | None) -> Row:
    """Describe one image; brightness and contrast are mean and standard deviation of its luma, from 0 to 1."""
    left, top, right, bottom = annotation.roi
    luma = None if pixels is None else pixels @ np.array([0.299, 0.587, 0.114]) / 255
    return {
        "file": annotation.file,
        "split": split,
        "class_id": annotation.class_id,
        "track": annotation.track,
        "width": annotation.width,
        "height": annotation.height,
        "roi_left": left,
        "roi_top": top,
        "roi_right": right,
        "roi_bottom": bottom,
        "pixel_width": None if pixels is None else pixels.shape[1],
        "pixel_height": None if pixels is None else pixels.shape[0],
        "brightness": None if luma is None else float(luma.mean()),
        "contrast": None if luma is None else float(luma.std()),
        # Of the pixels where there are any: two files may hold the same picture in different wrappings.
        "content": hashlib.sha256(encoded if pixels is None else pixels.tobytes()).hexdigest(),
        "error": error,
    }


if __name__ == "__main__":
    raise SystemExit(main())
