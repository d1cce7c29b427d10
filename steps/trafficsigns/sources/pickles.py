"""Arrays in pickles: ``train.p``, ``valid.p`` and ``test.p``, each a dictionary with ``features`` and ``labels``.

A widespread form of the benchmark: images of 32x32 pixels, uint8. Some copies also carry ``sizes`` (width and height of
the originals) and ``coords`` (the regions of interest in them). There are no tracks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from trafficsigns.classes import CLASS_NAMES
from trafficsigns.failures import StepError
from trafficsigns.sources import names as class_files
from trafficsigns.sources import unpickling
from trafficsigns.sources.annotations import Annotation, checked_class
from trafficsigns.sources.files import Files
from trafficsigns.sources.unpickling import Array

SPLITS = {"train": "train", "training": "train", "valid": "validation", "validation": "validation", "test": "test"}
"""What files may be called before ``.p``, ``.pkl`` or ``.pickle``, and which split each is."""

_ENDINGS = (".p", ".pkl", ".pickle")


@dataclass(frozen=True)
class _Part:
    """One pickle: uint8 ``[n, height, width, 3]``, whole numbers ``[n]``, and what else is known, or None."""

    features: Array
    labels: Array
    sizes: Array | None
    coords: Array | None

    def annotation(self, index: int, file: str, split: str) -> Annotation:
        """Describe one image. Raises ``ValueError`` for a label that no class can have."""
        height, width = self.features.shape[1:3]
        roi = None
        if self.sizes is not None and self.coords is not None:
            width, height = (int(value) for value in self.sizes[index])
            left, top, right, bottom = (int(value) for value in self.coords[index])
            roi = (left, top, right, bottom)
        return Annotation(file, split, checked_class(int(self.labels[index])), "", width, height, roi, index)


class PickledArchive:
    """The pickles below one folder, or in one zip."""

    layout = "pickles"

    def __init__(self, files: Files) -> None:
        self._files = files

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names in the class-name file, by their numbers, or the benchmark's own."""
        return class_files.numbered(self._files) or CLASS_NAMES

    def annotations(self) -> Iterator[Annotation]:
        """Yield every image's annotation. Raises ``StepError`` for a pickle that cannot be used."""
        for name in pickles_in(self._files):
            part = self._part(name)
            for index in range(len(part.labels)):
                try:
                    yield part.annotation(index, f"{name}/{index:06d}.ppm", split_of(name))
                except ValueError as error:
                    raise StepError(f"{self._files.place}: {name}, image {index}: {error}") from error

    def images(self) -> list[str]:
        """Return the images, all of which are listed by being there."""
        parts = ((name, len(self._part(name).labels)) for name in pickles_in(self._files))
        return [f"{name}/{index:06d}.ppm" for name, count in parts for index in range(count)]

    def read(self, file: str) -> bytes:
        """Return an image as a PPM file."""
        name, _, number = file.rpartition("/")
        pixels = self._part(name).features[int(number.removesuffix(".ppm"))]
        height, width, _ = pixels.shape
        return b"P6\n%d %d\n255\n" % (width, height) + bytes(pixels.tobytes())

    def _part(self, name: str) -> _Part:
        if name not in self._parts:
            self._parts[name] = _checked(f"{self._files.place}: {name}", self._files.read(name))
        return self._parts[name]

    @cached_property
    def _parts(self) -> dict[str, _Part]:
        return {}


def pickles_in(files: Files) -> list[str]:
    """Return the names of the pickles that are named like splits."""
    return [name for name in files.names() if name.lower().endswith(_ENDINGS) and _stem(name) in SPLITS]


def split_of(name: str) -> str:
    """Return the split that a pickle's name stands for."""
    return SPLITS[_stem(name)]


def _stem(name: str) -> str:
    return PurePosixPath(name.lower()).stem


def _checked(place: str, content: bytes) -> _Part:
    try:
        loaded = unpickling.load(content)
    except unpickling.Refused as error:
        raise StepError(f"{place} is not loaded: {error}") from error
    except unpickling.MALFORMED as error:
        raise StepError(f"{place} is no whole pickle of arrays ({type(error).__name__}: {error})") from error
    if missing := [key for key in ("features", "labels") if key not in loaded]:
        raise StepError(f"{place} lacks {' and '.join(missing)}: it holds {', '.join(loaded) or 'nothing'}")
    features, labels = loaded["features"], _numbers(place, loaded["labels"])
    if not (isinstance(features, np.ndarray) and features.dtype == np.uint8 and features.ndim == 4):
        raise StepError(f"{place}: features are {_described(features)}: expected uint8 [n, height, width, 3]")
    if features.shape[3] != 3 or 0 in features.shape:
        raise StepError(f"{place}: features are {_described(features)}: expected uint8 [n, height, width, 3]")
    if labels.shape != (len(features),):
        raise StepError(f"{place}: {len(features)} features, but labels are {_described(labels)}")
    return _Part(
        features, labels, _beside(loaded, "sizes", (len(features), 2)), _beside(loaded, "coords", (len(features), 4))
    )


def _numbers(place: str, value: Any) -> Array:
    if isinstance(value, list) and all(type(each) is int for each in value):
        value = np.array(value, np.int64)
    if not (isinstance(value, np.ndarray) and value.dtype.kind in "iu"):
        raise StepError(f"{place}: labels are {_described(value)}: expected whole numbers [n]")
    return value


def _beside(loaded: dict[str, Any], key: str, shape: tuple[int, int]) -> Array | None:
    value = loaded.get(key)
    return value if isinstance(value, np.ndarray) and value.shape == shape else None


def _described(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
