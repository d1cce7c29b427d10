#!/usr/bin/env python3
"""Turn a data set into TFRecord shards and a manifest.

Reads GTSRB in any of its forms, or a folder of pictures for each class (see trafficsigns/sources), and writes, below
the output folder:

  train/        shards of 32x32 pixels with labels, and labels.json, the names of the classes
  validation/   the same, of whole tracks (or groups of images that look alike) that training never sees
  test/         the test images, encoded as PNG, as a client would send them
  manifest/     manifest-NNNNN.parquet: one row an image with what is known about it; dataset.json: what is known of all

The same archive, shares and seed give the same bytes, whatever the number of workers. Several machines each write their
own shards and their own part of the manifest, which together tell the same as one machine's. Outputs of an earlier run
are replaced when all is written, and left as they are when anything fails.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trafficsigns import crew, failures, grouping, instances, manifest, manifest_writer, pictures, splits
from trafficsigns.crew import Crew
from trafficsigns.failures import StepError
from trafficsigns.instances import Instance
from trafficsigns.sources import Archive, open_archive
from trafficsigns.sources.listed import ListedArchive
from trafficsigns.sources.listing import collect, unlisted
from trafficsigns.splits import SPLITS, Shares

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

logger = logging.getLogger("preprocess")

MANIFEST = "manifest"


@dataclass(frozen=True)
class Job:
    """What one machine is to do."""

    archive: Archive
    instance: Instance
    shares: Shares
    output_dir: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step; returns the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    # What the imports made stays: looking through it for garbage, again and again, took a tenth of the time.
    gc.freeze()
    shares = Shares(arguments.validation_fraction, arguments.test_fraction, arguments.seed)
    place = (arguments.input_dir, arguments.images_dir)
    return failures.run(
        lambda: preprocess(place, arguments.output_dir, shares, arguments.workers, arguments.resource_config)
    )


def _parser() -> argparse.ArgumentParser:
    parser = failures.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folders = {
        "--input-dir": (Path("/opt/ml/processing/input/archive"), "folder with the data set, or with its listing"),
        "--images-dir": (None, "where the images of a listed set lie, all of them or this machine's share"),
        "--output-dir": (Path("/opt/ml/processing/output"), "folder for what is written"),
        "--resource-config": (Path("/opt/ml/config/resourceconfig.json"), "file that tells which machine of how many"),
    }
    for option, (default, text) in folders.items():
        parser.add_argument(option, type=Path, default=default, help=f"{text} (default: %(default)s)")
    numbers = {
        "--validation-fraction": (float, 0.1, "share of each class's groups that validates, where none is marked so"),
        "--test-fraction": (float, 0.2, "share of each class's groups that tests, where none is marked so"),
        "--seed": (int, 7, "decides splits and order"),
        "--workers": (int, None, "processes; the result does not depend on it"),
    }
    for option, (kind, value, text) in numbers.items():
        parser.add_argument(option, type=kind, default=value, help=f"{text} (default: %(default)s)")
    return parser


def preprocess(
    place: tuple[Path, Path | None], output_dir: Path, shares: Shares, workers: int | None, resource_config: Path
) -> None:
    """Write shards and manifest of the data set at ``place``, or one machine's share of them.

    Raises ``StepError`` for a data set that cannot be read, a share outside (0, 1), a negative seed or too few workers.
    """
    _check(shares, workers)
    job = Job(open_archive(*place), instances.own(resource_config), shares, output_dir)
    listing = job.archive.table if isinstance(job.archive, ListedArchive) else collect(job.archive.annotations())
    # Where images are shared out, no machine can tell what is absent: validation counts.
    alone = job.instance.count == 1 or not isinstance(job.archive, ListedArchive)
    strangers = unlisted(listing, job.archive) if alone else []
    with Crew(job.archive, place, crew.size(len(listing) // job.instance.count, workers)) as hands:
        if not alone and len(splits.undecided(listing)):
            raise StepError(f"{place[0]} lists images without groups: write the listing with steps/describe.py")
        divided = splits.divide(grouping.grouped(hands, listing), shares)
        with _replacing(output_dir) as folders:
            _write(job, hands, divided, folders)
            (folders["train"] / "labels.json").write_text(json.dumps(job.archive.class_names, indent=1))
            manifest_writer.note(
                folders[MANIFEST], job.archive.layout, job.archive.class_names, len(listing), strangers
            )


def _check(shares: Shares, workers: int | None) -> None:
    for name in ("validation", "test"):
        if not 0 < (share := getattr(shares, name)) < 1:
            raise StepError(f"--{name}-fraction is {share}: expected a number between 0 and 1")
    if shares.seed < 0:
        raise StepError(f"--seed is {shares.seed}: expected 0 or more")
    if workers is not None and workers < 1:
        raise StepError(f"--workers is {workers}: expected 1 or more")


def _write(job: Job, hands: Crew, listing: pa.Table, folders: dict[str, Path]) -> None:
    started = time.monotonic()
    with manifest_writer.Writer(folders[MANIFEST], job.instance.number) as writer:
        for split in SPLITS:
            members = _share(job, listing.filter(pc.equal(listing["split"], split)), split)
            parts = _looked_at(hands, members, split == "test", writer)
            # TensorFlow takes seconds to import, in which the crew is already at work.
            from trafficsigns import shards

            count = shards.write(job.archive, parts, len(members), split, folders[split], job.instance)
            logger.info("%s: %d of %d images, %.1f s", split, count, len(members), time.monotonic() - started)


def _share(job: Job, members: pa.Table, split: str) -> pa.Table:
    """Return a split's images in seeded order, those that this machine has to work on.

    A fixed, thorough shuffle here lets training get by with a small shuffle buffer.
    """
    order: npt.NDArray[np.int64] = np.random.default_rng([job.shares.seed, SPLITS.index(split)]).permutation(
        len(members)
    )
    shuffled = members.take(order)
    if job.instance.count == 1:
        return shuffled
    if isinstance(job.archive, ListedArchive):
        return shuffled.filter(pc.is_in(shuffled["file"], value_set=pa.array(job.archive.images(), pa.string())))
    return shuffled.take(np.arange(job.instance.number, len(members), job.instance.count))


def _looked_at(
    hands: Crew, members: pa.Table, as_png: bool, writer: manifest_writer.Writer
) -> Iterator[tuple[pa.Table, Sequence[pictures.Picture]]]:
    """Have the members looked at, enter them into the manifest, and pass them on; work begins with the call.

    An image that cannot be decoded gets a row that says so: validation, not this step, decides that such a set must not
    be trained on, because only there all offenders are known.
    """
    tasks = [(members["file"].slice(start, crew.CHUNK), as_png) for start in range(0, len(members), crew.CHUNK)]
    looks = hands.map(pictures.look, ((files.to_pylist(), png) for files, png in tasks))

    def entered() -> Iterator[tuple[pa.Table, Sequence[pictures.Picture]]]:
        for number, found in enumerate(looks):
            rows = manifest_writer.rows(members.slice(number * crew.CHUNK, crew.CHUNK), found)
            writer.add(rows)
            yield rows, found

    return entered()


@contextmanager
def _replacing(output_dir: Path) -> Iterator[dict[str, Path]]:
    """Yield a passing folder for each output; their files take the outputs' places if nothing is raised.

    Each lies inside the output it stands for: a job's outputs may be mounts, and nothing is renamed across mounts.
    Raises ``StepError`` for a disk that is full.
    """
    passing = {name: output_dir / name / ".partial" for name in (*SPLITS, MANIFEST)}
    try:
        for folder in passing.values():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        yield passing
        for folder in passing.values():
            # An earlier run may have left more shards than this one wrote.
            for pattern in ("*.tfrecord", manifest.PARTS):
                for stale in folder.parent.glob(pattern):
                    stale.unlink()
            for file in folder.iterdir():
                file.replace(folder.parent / file.name)
    except OSError as error:
        if error.filename is not None:
            raise
        raise StepError(f"{output_dir} cannot be written: {error.strerror or error}") from error
    finally:
        for folder in passing.values():
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
