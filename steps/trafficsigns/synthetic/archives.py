"""Writing a synthetic data set the way GTSRB is published: three archives, the same names inside, the same columns."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np

from trafficsigns.classes import CLASS_NAMES
from trafficsigns.synthetic.tracks import Frame, photograph

TRAINING_IMAGES = "GTSRB_Final_Training_Images.zip"
TEST_IMAGES = "GTSRB_Final_Test_Images.zip"
TEST_LABELS = "GTSRB_Final_Test_GT.zip"

_COLUMNS = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2"
_TRAINING, _TEST, _ORDER = range(3)

T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """How much to invent, and from which seed.

    Raises ``ValueError`` when a number is out of bounds: names of tracks, frames and test images have five digits.
    """

    seed: int = 7
    tracks_per_class: int = 10
    frames_per_track: int = 10
    test_per_class: int = 25

    def __post_init__(self) -> None:
        bounds = {
            "seed": (0, 2**32 - 1),
            "tracks_per_class": (1, 100_000),
            "frames_per_track": (1, 100_000),
            "test_per_class": (1, 100_000 // len(CLASS_NAMES)),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                option = "--" + name.replace("_", "-")
                raise ValueError(f"{option} is {value}; it must be from {low} to {high}")


def training_tracks(recipe: Recipe, class_id: int) -> list[list[Frame]]:
    """Invent a class's training tracks: one list of frames a track, from far to near."""
    moments = np.linspace(0, 1, recipe.frames_per_track).tolist()
    return [
        photograph(class_id, moments, _generator(recipe, _TRAINING, class_id, track))
        for track in range(recipe.tracks_per_class)
    ]


def test_frames(recipe: Recipe, class_id: int) -> list[Frame]:
    """Invent a class's test images: each shows a sign of its own, at some moment."""
    frames = []
    for track in range(recipe.test_per_class):
        rng = _generator(recipe, _TEST, class_id, track)
        frames += photograph(class_id, [rng.uniform()], rng)
    return frames


def write(recipe: Recipe, directory: Path, processes: int = 1) -> None:
    """Write the three archives into a folder, which is made if need be.

    The same recipe gives the same bytes, whatever the number of processes. Archives appear whole or not at all; those
    of an earlier run are replaced. Raises ``OSError`` when the folder cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (
        _archive(directory / TRAINING_IMAGES) as training,
        _archive(directory / TEST_IMAGES) as test,
        _archive(directory / TEST_LABELS) as labels,
    ):
        _write_training(training, _every_class(partial(training_tracks, recipe), processes))
        _write_test(recipe, test, labels, _every_class(partial(test_frames, recipe), processes))


def _generator(recipe: Recipe, purpose: int, *which: int) -> np.random.Generator:
    # Each sign draws from a stream of its own, so neither processes nor other signs can move its luck.
    return np.random.default_rng(np.random.SeedSequence([recipe.seed, purpose, *which]))


def _every_class(invent: Callable[[int], T], processes: int) -> Iterator[T]:
    """Apply a function to every class identifier, in order, on several processes if asked."""
    class_ids = range(len(CLASS_NAMES))
    if processes == 1:
        yield from map(invent, class_ids)
        return
    # Spawned, not forked: the caller may run threads (TensorFlow does), and a fork would copy their locks.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(invent, class_ids)


def _write_training(archive: zipfile.ZipFile, classes: Iterable[list[list[Frame]]]) -> None:
    for class_id, tracks in enumerate(classes):
        folder = f"GTSRB/Final_Training/Images/{class_id:05d}"
        rows = []
        for track, frames in enumerate(tracks):
            for number, frame in enumerate(frames):
                name = f"{track:05d}_{number:05d}.ppm"
                _add(archive, f"{folder}/{name}", _ppm(frame))
                rows.append(f"{_row(name, frame)};{class_id}")
        _add(archive, f"{folder}/GT-{class_id:05d}.csv", _table(f"{_COLUMNS};ClassId", rows))


def _write_test(
    recipe: Recipe, images: zipfile.ZipFile, labels: zipfile.ZipFile, classes: Iterable[list[Frame]]
) -> None:
    """Write the test images in an order that tells nothing about their labels."""
    labelled = [(frame, class_id) for class_id, frames in enumerate(classes) for frame in frames]
    rows, truths = [], []
    for number, position in enumerate(_generator(recipe, _ORDER).permutation(len(labelled))):
        frame, class_id = labelled[position]
        name = f"{number:05d}.ppm"
        _add(images, f"GTSRB/Final_Test/Images/{name}", _ppm(frame))
        rows.append(_row(name, frame))
        truths.append(f"{rows[-1]};{class_id}")
    _add(images, "GTSRB/Final_Test/Images/GT-final_test.test.csv", _table(_COLUMNS, rows))
    _add(labels, "GT-final_test.csv", _table(f"{_COLUMNS};ClassId", truths))


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a new archive under a passing name; give it its own only once all is written."""
    partial_path = path.with_name(f".{path.name}.partial")
    try:
        # Noise does not compress, and stored bytes do not depend on the version of a compressor.
        with zipfile.ZipFile(partial_path, "w", zipfile.ZIP_STORED) as archive:
            yield archive
        partial_path.replace(path)
    finally:
        partial_path.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # The default would be the time of day; this is the date that the real archives carry.
    member = zipfile.ZipInfo(name, date_time=(2011, 1, 1, 0, 0, 0))
    member.external_attr = 0o644 << 16
    archive.writestr(member, content)


def _ppm(frame: Frame) -> bytes:
    height, width, _ = frame.pixels.shape
    return b"P6\n%d %d\n255\n" % (width, height) + frame.pixels.tobytes()


def _row(name: str, frame: Frame) -> str:
    height, width, _ = frame.pixels.shape
    return ";".join(map(str, (name, width, height, *frame.roi)))


def _table(header: str, rows: list[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in (header, *rows)).encode()
