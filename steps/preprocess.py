#!/usr/bin/env python3
"""Turn a GTSRB archive into TFRecord shards and a manifest.

Reads the three official zips (or what they unpack to) and writes, below the output folder:

  train/        shards of 32x32 pixels with labels, and labels.json, the names of the classes
  validation/   the same, of whole tracks that training never sees
  test/         the official test images, encoded as PNG, as a client would send them
  manifest/     manifest.parquet: one row an image with what is known about it

The same archive, fraction and seed give the same bytes. Outputs of an earlier run are replaced when all is written, and
left as they are when anything fails.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import io
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pandas as pd
import tensorflow as tf
from PIL import Image

from trafficsigns import failures, images, manifest, records
from trafficsigns.classes import CLASS_NAMES
from trafficsigns.failures import StepError
from trafficsigns.sources import Annotation, Archive, open_archive
from trafficsigns.splits import validation_tracks

logger = logging.getLogger("preprocess")

SPLITS = ("train", "validation", "test")
MANIFEST = "manifest"
FORMATS = ("PPM", "PNG", "JPEG")
"""What is decoded; Pillow would otherwise try dozens of formats, some through outside programs."""

Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step; returns the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    # What the imports made stays: looking through it for garbage, again and again, took a tenth of the time.
    gc.freeze()
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
        default=0.1,
        help="share of each class's tracks that validates, between 0 and 1 (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=7, help="decides splits and order (default: %(default)s)")
    return parser


def preprocess(input_dir: Path, output_dir: Path, validation_fraction: float, seed: int) -> None:
    """Write shards and manifest of the archive in ``input_dir``.

    Raises ``StepError`` for an archive that cannot be read, a fraction outside (0, 1) or a negative seed.
    """
    if not 0 < validation_fraction < 1:
        raise StepError(f"--validation-fraction is {validation_fraction}: expected a number between 0 and 1")
    if seed < 0:
        raise StepError(f"--seed is {seed}: expected 0 or more")
    started = time.monotonic()
    archive = open_archive(input_dir)
    by_split = _divide(archive.annotations(), validation_fraction, seed)
    rows: list[Row] = []
    with _replacing(output_dir) as folders:
        for split, members in by_split.items():
            count = records.write(_records(archive, members, split, seed, rows), folders[split])
            logger.info("%s: %d of %d images, %.1f s", split, count, len(members), time.monotonic() - started)
        (folders["train"] / "labels.json").write_text(json.dumps(CLASS_NAMES, indent=1))
        # Named, because where no image can be decoded, no row has them all.
        table = pd.DataFrame(rows, columns=manifest.COLUMNS).sort_values("file", ignore_index=True)
        table.to_parquet(folders[MANIFEST] / manifest.FILE, index=False)


def _divide(annotations: list[Annotation], validation_fraction: float, seed: int) -> dict[str, list[Annotation]]:
    validating = validation_tracks(annotations, validation_fraction, seed)
    by_split: dict[str, list[Annotation]] = {split: [] for split in SPLITS}
    for annotation in annotations:
        by_split["validation" if annotation.track in validating else annotation.split].append(annotation)
    return by_split


@contextmanager
def _replacing(output_dir: Path) -> Iterator[dict[str, Path]]:
    """Yield a passing folder for each output; their files take the outputs' places if nothing is raised.

    Each lies inside the output it stands for: a job's outputs may be mounts, and nothing is renamed across mounts.
    """
    passing = {name: output_dir / name / ".partial" for name in (*SPLITS, MANIFEST)}
    try:
        for folder in passing.values():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        yield passing
        for folder in passing.values():
            # An earlier run may have left more shards than this one wrote.
            for shard in folder.parent.glob("*.tfrecord"):
                shard.unlink()
            for file in folder.iterdir():
                file.replace(folder.parent / file.name)
    finally:
        for folder in passing.values():
            shutil.rmtree(folder, ignore_errors=True)


def _records(
    archive: Archive, annotations: list[Annotation], split: str, seed: int, rows: list[Row]
) -> Iterator[bytes]:
    """Yield a split's records in seeded order, and add each image's row to ``rows``.

    An image that cannot be decoded gets a row that says so and no record: validation, not this step, decides that such
    a set must not be trained on, because only there all offenders are known.
    """
    resize = tf.function(images.resize, [tf.TensorSpec((None, None, 3), tf.uint8)])
    # A fixed, thorough shuffle here lets training get by with a small shuffle buffer.
    for index in np.random.default_rng([seed, SPLITS.index(split)]).permutation(len(annotations)):
        annotation = annotations[index]
        encoded = archive.read(annotation.file)
        try:
            image = _decode(encoded)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            unknown = hashlib.sha256(encoded).hexdigest()
            rows.append({**_annotated(annotation, split), "content": unknown, "error": _reason(error)})
            continue
        pixels = image.tobytes()
        rows.append({**_annotated(annotation, split), **_measured(image, pixels), "error": None})
        if split == "test":
            stored = _png(image)
        elif image.size == (images.SIDE, images.SIDE):
            # Resizing would change nothing, and costs more than all the rest.
            stored = pixels
        else:
            stored = resize(np.asarray(image)).numpy().tobytes()
        yield records.example(stored, annotation.class_id, annotation.track, annotation.file)


def _decode(encoded: bytes) -> Image.Image:
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
        return image.convert("RGB")


def _reason(error: Exception) -> str:
    # Pillow names the buffer that it was given by its address in memory, which differs from run to run.
    return f"{type(error).__name__}: {str(error).partition(' <_io')[0]}"


def _png(image: Image.Image) -> bytes:
    # No TensorFlow operation decodes PPM; PNG keeps every pixel.
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _annotated(annotation: Annotation, split: str) -> Row:
    left, top, right, bottom = annotation.roi
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
    }


def _measured(image: Image.Image, pixels: bytes) -> Row:
    """Describe an RGB image and its raw pixels.

    ``brightness`` and ``contrast`` are mean and standard deviation of its luma (ITU-R BT.601, in 256 levels), from 0 to
    1. They come from sums of whole numbers, in which no library's order of summing shows.
    """
    luma = np.frombuffer(image.convert("L").tobytes(), np.uint8).astype(np.int64)
    size, total, squares = len(luma), int(luma.sum()), int(luma @ luma)
    return {
        "pixel_width": image.width,
        "pixel_height": image.height,
        "brightness": total / size / 255,
        "contrast": math.sqrt(size * squares - total**2) / size / 255,
        # Of the pixels, not of the file: two files may hold the same picture in different wrappings.
        "content": hashlib.sha256(pixels).hexdigest(),
    }


if __name__ == "__main__":
    raise SystemExit(main())
