"""The benchmark as Kaggle holds it: PNG files in Train/CLASS/ and Test/, listed in Train.csv and Test.csv."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from trafficsigns.classes import CLASS_NAMES
from trafficsigns.failures import StepError
from trafficsigns.sources import tables
from trafficsigns.sources.annotations import Annotation, is_image, track_of
from trafficsigns.sources.files import Files, safe

TABLES = {"Train.csv": "train", "Test.csv": "test"}
COLUMNS = (*tables.BOX, "ClassId", "Path")
_FOLDERS = ("Train/", "Test/")


class KaggleArchive:
    """A folder or a zip in this layout, below ``root`` (empty, or ending with a slash)."""

    layout = "kaggle"
    class_names = CLASS_NAMES

    def __init__(self, files: Files, root: str) -> None:
        self._files, self._root = files, root

    def annotations(self) -> Iterator[Annotation]:
        """Yield every image's annotation. Raises ``StepError`` when a table is broken or empty."""
        for table, split in TABLES.items():
            line = 0
            for line, row in tables.rows(self._files, f"{self._root}{table}", COLUMNS, ","):
                try:
                    yield self._annotation(row, line, split)
                except ValueError as error:
                    raise StepError(f"{self._files.place}: {self._root}{table}, line {line}: {error}") from error
            if not line:
                raise StepError(f"{self._files.place}: {self._root}{table} lists no image")

    def _annotation(self, row: tables.Row, line: int, split: str) -> Annotation:
        path = row["Path"]
        if not safe(path):
            raise ValueError(f"{path!r} is not the path of an image inside the data set")
        name = PurePosixPath(path)
        class_id = int(name.parent.name) if name.parent.name.isdecimal() else 0
        track = track_of(class_id, name.name) if split == "train" else ""
        return tables.annotation(row, line, f"{self._root}{path}", split, track)

    def images(self) -> list[str]:
        """Return the image files of the folders that the tables speak of."""
        # Kaggle's own archive holds the same pictures once more in train/ and test/, which is nobody's mistake.
        folders = tuple(f"{self._root}{folder}" for folder in _FOLDERS)
        return [name for name in self._files.names() if is_image(name) and name.startswith(folders)]

    def read(self, file: str) -> bytes:
        """Return an image's encoded bytes."""
        return self._files.read(file)
