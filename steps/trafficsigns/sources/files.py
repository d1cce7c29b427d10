"""Named files, in a zip or below a folder. Nothing is ever unpacked to disk, so no name can reach outside."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from trafficsigns.failures import StepError
from trafficsigns.sources.annotations import some

LARGEST_FILE = 512 * 2**20
"""Bytes that a file inside a zip may unpack to: the pickles of the whole benchmark need a third of it."""

LARGEST_RATIO = 400
"""Of unpacked to packed size; an image of one colour stays below, a zip bomb begins at a thousand."""

_SMALL = 2**20
_ENCRYPTED = 0x1


class Files(Protocol):
    """Named files, in a zip or in a folder."""

    @property
    def place(self) -> Path:
        """The zip or the folder."""

    def names(self) -> list[str]:
        """Return the names of all files, relative and with forward slashes, sorted."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises ``StepError`` when it is not there whole."""


def safe(name: str) -> bool:
    """Say whether a name stays inside the folder that it is relative to, on every system."""
    first, *others = name.split("/")
    drive = ":" in first
    return bool(first) and not (drive or first == ".." or ".." in others or "\\" in name or "\0" in name)


class ZippedFiles:
    """The files in one zip.

    Raises ``StepError`` for a zip that is not whole, or that holds what no data set needs: names that lead outside,
    names that stand there twice, encrypted members, members that unpack to many times their size.
    """

    def __init__(self, path: Path) -> None:
        self.place = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
            raise StepError(f"{path} is not a whole zip file ({error}): download it again") from error
        members = self._zip.infolist()
        for member in members:
            if reason := _objection(member):
                raise StepError(f"{path}: {member.filename!r} {reason}")
        counted = Counter(member.filename for member in members)
        if twice := [name for name, count in counted.items() if count > 1]:
            raise StepError(f"{path} holds more than one {some(twice)}: which one is meant?")
        self._names = sorted(member.filename for member in members if not member.is_dir())

    def names(self) -> list[str]:
        """Return the names of all files."""
        return self._names

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        try:
            return self._zip.read(name)
        except KeyError:
            raise StepError(f"{self.place} does not hold {name}, which its annotations list") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            # The last covers a member that is packed by an unknown method.
            raise StepError(f"{self.place}: {name} cannot be read ({error}): download the archive again") from error


def _objection(member: zipfile.ZipInfo) -> str:
    if not safe(member.filename):
        return "leads outside the archive: this is no archive of the benchmark"
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted: decrypt the archive first"
    size, packed = member.file_size, member.compress_size
    if size > LARGEST_FILE or (size > _SMALL and size > LARGEST_RATIO * packed):
        return f"unpacks from {packed} to {size} bytes: a zip bomb, or no data set"
    return ""


class UnpackedFiles:
    """The files below one folder; hidden ones are not looked at."""

    def __init__(self, folder: Path) -> None:
        self.place = folder
        self._names: list[str] | None = None

    def names(self) -> list[str]:
        """Return the names of all files."""
        if self._names is None:
            self._names = sorted(_walk(self.place))
        return self._names

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        try:
            return (self.place / name).read_bytes()
        except FileNotFoundError:
            raise StepError(f"{self.place} does not hold {name}, which its annotations list") from None
        except OSError as error:
            raise StepError(f"{self.place}: {name} cannot be read: {error.strerror}") from error


def _walk(folder: Path, prefix: str = "") -> Iterator[str]:
    # Path.rglob takes three times as long, which shows with fifty thousand files.
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder / entry.name, f"{prefix}{entry.name}/")
            elif entry.is_file():
                yield f"{prefix}{entry.name}"
