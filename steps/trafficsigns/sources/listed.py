"""A set that was looked at before: a listing of its images, and the images elsewhere, perhaps a share of them only.

This is how a folder comes to many instances: ``steps/describe.py`` writes the listing, S3 gives every instance the
whole listing and, by ShardedByS3Key, some of the images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from trafficsigns.failures import StepError
from trafficsigns.sources import listing
from trafficsigns.sources.annotations import Annotation, is_image, some
from trafficsigns.sources.files import UnpackedFiles, safe

FILE = "listing.parquet"
NOTES = "dataset.json"


class ListedArchive:
    """A listing in one folder and images in another."""

    def __init__(self, folder: Path, images: Path) -> None:
        self._folder = folder
        self._files = UnpackedFiles(images)
        self.table: pa.Table = listing.read(folder / FILE)
        if outside := [name for name in self.table["file"].to_pylist() if not safe(name)]:
            raise StepError(f"{folder / FILE}: {some(outside)} leads outside the folder of images")

    @cached_property
    def _notes(self) -> dict[str, Any]:
        path = self._folder / NOTES
        try:
            notes = json.loads(path.read_text(encoding="utf-8"))
            return {"layout": str(notes["layout"]), "class_names": tuple(map(str, notes["class_names"]))}
        except FileNotFoundError:
            raise StepError(f"{path} does not exist: it is written beside {FILE} by steps/describe.py") from None
        except (ValueError, KeyError, TypeError) as error:
            raise StepError(f"{path} is no description of a data set ({error!r})") from error

    @property
    def layout(self) -> str:
        """The layout that was looked at."""
        return str(self._notes["layout"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names that were found then."""
        return tuple(self._notes["class_names"])

    def annotations(self) -> Iterator[Annotation]:
        """Yield every image's annotation, of this instance's share and of all others."""
        for each in self.table.to_pylist():
            edges = tuple(each[name] for name in listing.BOX[2:])
            roi = None if None in edges else edges
            yield Annotation(
                each["file"], each["split"] or "", each["class_id"], each["track"], each["width"], each["height"],
                roi, each["row"],
            )  # fmt: skip

    def images(self) -> list[str]:
        """Return the images that this instance has."""
        return [name for name in self._files.names() if is_image(name)]

    def read(self, file: str) -> bytes:
        """Return an image's encoded bytes."""
        return self._files.read(file)
