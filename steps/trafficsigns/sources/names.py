"""The class-name file that may lie beside images: two columns with a header, identifier (or folder) and name.

``ClassId,SignName`` as ``signnames.csv`` has it, or the same as ``classes.csv`` or ``labels.csv``.
"""

from __future__ import annotations

import csv
import io
from pathlib import PurePosixPath

from trafficsigns.failures import StepError
from trafficsigns.sources.files import Files

FILES = ("classes.csv", "signnames.csv", "labels.csv")


def numbered(files: Files) -> tuple[str, ...]:
    """Return the names of classes that go by numbers, in the order of these; empty where there is no such file.

    Raises ``StepError`` as ``read`` does, and unless the identifiers are the numbers from 0 on, each once.
    """
    given = read(files)
    named = {int(identifier): name for identifier, name in given.items() if identifier.isdecimal()}
    if sorted(named) != list(range(len(given))):
        raise StepError(
            f"{files.place}: {_table(files)}: expected the classes' numbers, 0 to {len(given) - 1}, in its first column"
        )
    return tuple(named[number] for number in range(len(named)))


def _table(files: Files) -> str | None:
    return next((name for name in files.names() if PurePosixPath(name).name in FILES), None)


def read(files: Files) -> dict[str, str]:
    """Return names by identifier or folder, in the file's order; empty where there is no such file.

    Raises ``StepError`` for a file that is broken, names a class twice, or gives two classes one name.
    """
    table = _table(files)
    if table is None:
        return {}
    place = f"{files.place}: {table}"
    try:
        lines = list(csv.reader(io.StringIO(files.read(table).decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise StepError(f"{place} is no UTF-8 text with commas ({error})") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != 2 or not all(text.strip() for text in line):
            raise StepError(f"{place}, line {number}: expected identifier,name")
        identifier, name = (text.strip() for text in line)
        if identifier in found or name in found.values():
            raise StepError(f"{place}, line {number}: {identifier} or {name!r} stands there twice")
        found[identifier] = name
    return found
