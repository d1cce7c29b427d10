"""A folder a class: how people keep signs of their own country.

``CLASS/picture.png``, or ``train/CLASS/...`` with ``test/CLASS/...`` and perhaps ``validation/CLASS/...`` beside it;
PNG, JPEG or PPM. Pictures in a folder of their own, ``CLASS/SIGN/frame.png``, show one physical sign: a track. So do
files named as the benchmark names frames. Classes are numbered in the order of their folders' names; a class-name file
gives them names for people.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import PurePosixPath

from trafficsigns.failures import StepError
from trafficsigns.sources import names as class_files
from trafficsigns.sources.annotations import Annotation, is_image, some, track_of
from trafficsigns.sources.files import Files

SPLITS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Folders that are splits and not classes, in any capitals."""


class FolderArchive:
    """Images in folders named by their class, below ``root`` (empty, or ending with a slash)."""

    layout = "folders"

    def __init__(self, files: Files, root: str = "") -> None:
        self._files, self._root = files, root
        self._images = [name for name in files.names() if is_image(name) and name.startswith(root)]
        parts = [PurePosixPath(name.removeprefix(root)).parts for name in self._images]
        self._divided = bool(parts) and all(part[0].lower() in SPLITS for part in parts)
        self._depth = 1 if self._divided else 0
        shallow = [name for name, part in zip(self._images, parts, strict=True) if len(part) < self._depth + 2]
        if shallow:
            raise StepError(f"{files.place}: {some(shallow)} lies in no folder of a class: expected CLASS/picture.png")
        deep = [name for name, part in zip(self._images, parts, strict=True) if len(part) > self._depth + 3]
        if deep:
            raise StepError(
                f"{files.place}: {some(deep)} lies too deep: expected CLASS/picture.png or CLASS/SIGN/frame.png"
            )

    @cached_property
    def _classes(self) -> dict[str, int]:
        """Folders and their class identifiers."""
        there = {PurePosixPath(name.removeprefix(self._root)).parts[self._depth] for name in self._images}
        given = class_files.read(self._files)
        if given and (nameless := sorted(there - set(given))):
            raise StepError(f"{self._files.place}: the class-name file does not name the folders {some(nameless)}")
        # A class that is named and has no folder keeps its number: validation says that its images are missing.
        return {folder: number for number, folder in enumerate(sorted(there | set(given), key=_natural))}

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names in the class-name file, or the folders' own."""
        given = class_files.read(self._files)
        return tuple(given.get(folder, folder) for folder in self._classes)

    def annotations(self) -> Iterator[Annotation]:
        """Yield every image's annotation."""
        for name in self._images:
            path = PurePosixPath(name.removeprefix(self._root))
            folder = path.parts[self._depth]
            class_id = self._classes[folder]
            split = SPLITS[path.parts[0].lower()] if self._divided else ""
            sign = path.parts[self._depth + 1] if len(path.parts) == self._depth + 3 else ""
            track = f"{class_id}/{sign}" if sign else track_of(class_id, path.name)
            yield Annotation(name, split, class_id, track, None, None, None)

    def images(self) -> list[str]:
        """Return the images, all of which are listed by being there."""
        return self._images

    def read(self, file: str) -> bytes:
        """Return an image's encoded bytes."""
        return self._files.read(file)


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Order 2 before 10, and numbers before words; 01 and 1, which are alike in that, always in one order."""
    parts = [(int(part), "") if part.isdecimal() else (10**9, part) for part in re.split(r"(\d+)", name) if part]
    return parts, name
