"""Reads a data set as it comes: the official GTSRB archives, zipped or unpacked.

An archive answers two questions: what it holds (annotations, always whole) and the bytes of one image. Everything that
is decided about the data, the splits above all, is decided from the annotations alone.
"""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from trafficsigns.failures import StepError

TRAIN_IMAGES = "GTSRB_Final_Training_Images.zip"
TEST_IMAGES = "GTSRB_Final_Test_Images.zip"
TEST_LABELS = "GTSRB_Final_Test_GT.zip"
COLUMNS = ("Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId")

_TRAIN_ROOT = "GTSRB/Final_Training/Images"
_TEST_ROOT = "GTSRB/Final_Test/Images"
_LABELS_FILE = "GT-final_test.csv"


@dataclass(frozen=True, order=True)
class Annotation:
    """One image as the archive describes it; sizes and region of interest in pixels of the original image."""

    file: str
    """Path inside the archive, unique."""
    split: str
    """``train`` or ``test``, as the archive divides them."""
    class_id: int
    track: str
    """The physical sign; empty where the archive does not tell."""
    width: int
    height: int
    roi: tuple[int, int, int, int]
    """Left, top, right, bottom of the sign."""


class Archive(Protocol):
    """A data set that can be listed and read."""

    def annotations(self) -> list[Annotation]:
        """Return every image's annotation, ordered by file."""

    def read(self, file: str) -> bytes:
        """Return an image's encoded bytes. Raises ``StepError`` when the archive does not hold it whole."""


class Files(Protocol):
    """Named files, in a zip or in a folder."""

    @property
    def place(self) -> Path:
        """The zip or the folder."""

    def names(self) -> list[str]:
        """Return the names of all files, relative and with forward slashes."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""


class ZippedFiles:
    """The files in one zip."""

    def __init__(self, path: Path) -> None:
        self.place = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, EOFError) as error:
            raise StepError(f"{path} is not a whole zip file ({error}): download it again") from error

    def names(self) -> list[str]:
        """Return the names of all files."""
        return [info.filename for info in self._zip.infolist() if not info.is_dir()]

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        try:
            return self._zip.read(name)
        except KeyError:
            raise StepError(f"{self.place} does not hold {name}, which its annotations list") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            # The last is how an encrypted member, or one packed by an unknown method, is refused.
            raise StepError(f"{self.place}: {name} cannot be read ({error}): download the archive again") from error


class UnpackedFiles:
    """The files below one folder."""

    def __init__(self, folder: Path) -> None:
        self.place = folder

    def names(self) -> list[str]:
        """Return the names of all files."""
        return sorted(path.relative_to(self.place).as_posix() for path in self.place.rglob("*") if path.is_file())

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        try:
            return (self.place / name).read_bytes()
        except FileNotFoundError:
            raise StepError(f"{self.place} does not hold {name}, which its annotations list") from None


class OfficialArchive:
    """GTSRB's final stage: training images in tracks with one CSV a class, test images with theirs apart.

    Pixels may be the original ones or already resized; the annotations describe the originals either way.
    Source: the benchmark's own Readme.txt ("Annotation format").
    """

    def __init__(self, train: Files, test: Files, labels: Files) -> None:
        self._train, self._test, self._labels = train, test, labels

    def annotations(self) -> list[Annotation]:
        """Return every image's annotation, ordered by file.

        Raises ``StepError`` when a table is missing, broken or empty.
        """
        train, test = list(self._training()), list(self._testing())
        for listed, files in ((train, self._train), (test, self._labels)):
            if not listed:
                raise StepError(f"{files.place}: the annotations list no image: download the archive again")
        return sorted([*train, *test])

    def _training(self) -> Iterator[Annotation]:
        tables = [name for name in self._train.names() if name.startswith(_TRAIN_ROOT) and name.endswith(".csv")]
        if not tables:
            raise StepError(f"{self._train.place} holds no {_TRAIN_ROOT}/CCCCC/GT-CCCCC.csv: is this the final stage?")
        for table in sorted(tables):
            yield from _table(self._train, table, str(PurePosixPath(table).parent), "train")

    def _testing(self) -> Iterator[Annotation]:
        table = next((name for name in self._labels.names() if PurePosixPath(name).name == _LABELS_FILE), None)
        if table is None:
            raise StepError(f"{self._labels.place} holds no {_LABELS_FILE}, the labels of the test images")
        return _table(self._labels, table, _TEST_ROOT, "test")

    def read(self, file: str) -> bytes:
        """Return an image's encoded bytes."""
        return (self._train if file.startswith(_TRAIN_ROOT) else self._test).read(file)


def _table(files: Files, table: str, folder: str, split: str) -> Iterator[Annotation]:
    text = files.read(table).decode("utf-8-sig", "replace")
    reader = csv.DictReader(io.StringIO(text), delimiter=";")
    missing = set(COLUMNS) - set(reader.fieldnames or ())
    if missing:
        listed = ", ".join(sorted(missing))
        raise StepError(f"{files.place}: {table} lacks the columns {listed}: expected {';'.join(COLUMNS)}")
    try:
        for row in reader:
            yield _annotation(row, folder, split)
    except (ValueError, TypeError, csv.Error) as error:
        raise StepError(f"{files.place}: {table}, line {reader.line_num}: {error}") from error


def _annotation(row: dict[str, str], folder: str, split: str) -> Annotation:
    """Read one row. Raises ``ValueError`` or ``TypeError`` for values that are missing or not what they should be."""
    name = row["Filename"]
    if not name or "/" in name or "\\" in name:
        raise ValueError(f"{name!r} is not the name of a file in {folder}")
    width, height, left, top, right, bottom, class_id = (int(row[column]) for column in COLUMNS[1:])
    if class_id < 0:
        raise ValueError(f"ClassId is {class_id}: expected 0 or more")
    track = _track(folder, name) if split == "train" else ""
    return Annotation(f"{folder}/{name}", split, class_id, track, width, height, (left, top, right, bottom))


def _track(folder: str, name: str) -> str:
    """Name the track of ``.../000CC/TTTTT_FFFFF.ppm``: ``CC/TTTTT``, since tracks are numbered within their class."""
    return f"{folder.rpartition('/')[2].lstrip('0') or '0'}/{name.partition('_')[0]}"


def open_archive(folder: Path) -> Archive:
    """Open the data set in a folder: the three official zips, or what they unpack to.

    Raises ``StepError`` that says what was expected and what lies there instead.
    """
    if not folder.is_dir():
        raise StepError(f"{folder} is not a folder: expected one with the GTSRB archives in it")
    zips = [folder / name for name in (TRAIN_IMAGES, TEST_IMAGES, TEST_LABELS)]
    if all(path.is_file() for path in zips):
        return OfficialArchive(*map(ZippedFiles, zips))
    files = UnpackedFiles(folder)
    if (folder / _TRAIN_ROOT).is_dir() and (folder / _TEST_ROOT).is_dir():
        return OfficialArchive(files, files, files)
    there = sorted(path.name for path in folder.iterdir())
    missing = ", ".join(path.name for path in zips if not path.is_file())
    raise StepError(
        f"{folder} is no data set that can be read: missing {missing} (or the unpacked folder GTSRB/); "
        f"it holds {', '.join(there[:5]) or 'nothing'}"
    )
