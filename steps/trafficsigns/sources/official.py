"""GTSRB as published: training images in tracks with one CSV a class, test images with theirs apart.

Source: the benchmark's own Readme.txt ("Annotation format").
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from trafficsigns.classes import CLASS_NAMES
from trafficsigns.failures import StepError
from trafficsigns.sources import tables
from trafficsigns.sources.annotations import Annotation, is_image, track_of
from trafficsigns.sources.files import Files

TRAIN_IMAGES = "GTSRB_Final_Training_Images.zip"
TEST_IMAGES = "GTSRB_Final_Test_Images.zip"
TEST_LABELS = "GTSRB_Final_Test_GT.zip"
COLUMNS = ("Filename", *tables.BOX, "ClassId")

TRAIN_ROOT = "GTSRB/Final_Training/Images"
TEST_ROOT = "GTSRB/Final_Test/Images"
_LABELS_FILE = "GT-final_test.csv"


class OfficialArchive:
    """The benchmark in its own layout.

    Pixels may be the original ones or already resized; the annotations describe the originals either way.
    """

    layout = "official"
    class_names = CLASS_NAMES

    def __init__(self, train: Files, test: Files, labels: Files) -> None:
        self._train, self._test, self._labels = train, test, labels

    def annotations(self) -> Iterator[Annotation]:
        """Yield every image's annotation. Raises ``StepError`` when a table is missing, broken or empty."""
        for listed, files in ((self._training(), self._train), (self._testing(), self._labels)):
            count = 0
            for count, each in enumerate(listed, start=1):  # noqa: B007  # counts what is passed on
                yield each
            if not count:
                raise StepError(f"{files.place}: the annotations list no image: download the archive again")

    def _training(self) -> Iterator[Annotation]:
        names = [name for name in self._train.names() if name.startswith(TRAIN_ROOT) and name.endswith(".csv")]
        if not names:
            raise StepError(f"{self._train.place} holds no {TRAIN_ROOT}/CCCCC/GT-CCCCC.csv: is this the final stage?")
        for name in names:
            yield from _table(self._train, name, str(PurePosixPath(name).parent), "train")

    def _testing(self) -> Iterator[Annotation]:
        table = next((name for name in self._labels.names() if PurePosixPath(name).name == _LABELS_FILE), None)
        if table is None:
            raise StepError(f"{self._labels.place} holds no {_LABELS_FILE}, the labels of the test images")
        return _table(self._labels, table, TEST_ROOT, "test")

    def images(self) -> list[str]:
        """Return the image files of both archives."""
        train = [name for name in self._train.names() if name.startswith(TRAIN_ROOT)]
        test = [name for name in self._test.names() if name.startswith(TEST_ROOT)]
        return [name for name in (*train, *test) if is_image(name)]

    def read(self, file: str) -> bytes:
        """Return an image's encoded bytes."""
        return (self._train if file.startswith(TRAIN_ROOT) else self._test).read(file)


def _table(files: Files, table: str, folder: str, split: str) -> Iterator[Annotation]:
    for line, row in tables.rows(files, table, COLUMNS, ";"):
        try:
            yield _annotation(row, line, folder, split)
        except ValueError as error:
            raise StepError(f"{files.place}: {table}, line {line}: {error}") from error


def _annotation(row: tables.Row, line: int, folder: str, split: str) -> Annotation:
    name = row["Filename"]
    if not name or "/" in name or "\\" in name:
        raise ValueError(f"{name!r} is not the name of a file in {folder}")
    # Tracks are numbered within the folder, whatever class a row claims: a wrong label must not make a new track.
    directory = folder.rpartition("/")[2]
    number = int(directory) if directory.isdecimal() else 0
    track = track_of(number, name) if split == "train" else ""
    if split == "train" and not track:
        raise ValueError(f"{name!r} names no track: expected TTTTT_FFFFF.ppm")
    return tables.annotation(row, line, f"{folder}/{name}", split, track)
