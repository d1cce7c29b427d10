"""What every layout comes down to: annotated images, and an archive that holds them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

IMAGE_ENDINGS = (".ppm", ".png", ".jpg", ".jpeg")

_FRAME = re.compile(r"(?:\d{5}_)?(\d{5})_\d{5}\.[a-z]+")
_CLASSES = 100_000


@dataclass(frozen=True, order=True, slots=True)
class Annotation:
    """One image as its archive describes it; sizes and region of interest in pixels of the original image."""

    file: str
    """Path inside the archive, unique."""
    split: str
    """``train``, ``validation`` or ``test`` as the archive divides them, ``""`` where it does not."""
    class_id: int
    track: str
    """The physical sign; empty where the archive does not tell."""
    width: int | None
    height: int | None
    """None, like ``roi``, where only the image itself can tell."""
    roi: tuple[int, int, int, int] | None
    """Left, top, right, bottom of the sign."""
    row: int | None = None
    """Line of the table that lists it, or its place in an array; None where neither exists."""


class Archive(Protocol):
    """A data set that can be listed and read."""

    @property
    def layout(self) -> str:
        """Name the layout, for people."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' names in the order of their identifiers."""

    def annotations(self) -> Iterator[Annotation]:
        """Yield every image's annotation, in any order. Raises ``StepError`` for a table that is missing or broken."""

    def images(self) -> list[str]:
        """Return the image files that are there, listed or not."""

    def read(self, file: str) -> bytes:
        """Return an image's encoded bytes. Raises ``StepError`` when the archive does not hold it whole."""


def track_of(class_id: int, name: str) -> str:
    """Name the track of a file that is named as the benchmark names frames, else return nothing.

    ``TTTTT_FFFFF.ppm``, or with Kaggle's ``CCCCC_`` before it, is a frame of ``class/TTTTT``: tracks are numbered
    within their class. Five digits each; names that only look a little like it are no statement about tracks.
    """
    match = _FRAME.fullmatch(name.lower())
    return f"{class_id}/{match[1]}" if match else ""


def is_image(name: str) -> bool:
    """Say whether a file's name is an image's."""
    return name.lower().endswith(IMAGE_ENDINGS)


def checked_class(class_id: int) -> int:
    """Return a class identifier. Raises ``ValueError`` for one below 0 or beyond all reason."""
    if not 0 <= class_id < _CLASSES:
        raise ValueError(f"ClassId is {class_id}: expected 0 or more, and below {_CLASSES}")
    return class_id


def some(names: Iterable[str], count: int = 5) -> str:
    """List the first few names for a message."""
    listed = list(names)
    more = f" and {len(listed) - count} more" if len(listed) > count else ""
    return ", ".join(listed[:count]) + more
