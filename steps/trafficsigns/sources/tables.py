"""Annotation tables: CSV files with a header, read line by line so that what is wrong can be named with its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from trafficsigns.failures import StepError
from trafficsigns.sources.annotations import Annotation, checked_class
from trafficsigns.sources.files import Files

BOX = ("Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")
"""Size of the original image and region of interest, as the benchmark's tables call them."""

Row = dict[str, str]


def rows(files: Files, table: str, columns: Sequence[str], delimiter: str) -> Iterator[tuple[int, Row]]:
    """Yield a table's rows with their line numbers.

    Columns may stand in any order, and there may be more. Raises ``StepError`` for a column that is missing or there
    twice, for bytes that are no text, and for a row that is longer or shorter than the header.
    """
    place = f"{files.place}: {table}"
    try:
        text = files.read(table).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StepError(f"{place} is no UTF-8 text ({error.reason} at byte {error.start})") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = list(reader.fieldnames or ())
        if missing := [column for column in columns if column not in header]:
            raise StepError(
                f"{place} lacks the columns {', '.join(missing)}: expected {delimiter.join(columns)} in its first line"
            )
        if twice := sorted({column for column in header if header.count(column) > 1}):
            raise StepError(f"{place} has the columns {', '.join(twice)} twice")
        for row in reader:
            if None in row or None in row.values():
                raise StepError(f"{place}, line {reader.line_num}: expected {len(header)} values, as the header has")
            yield reader.line_num, row
    except csv.Error as error:
        raise StepError(f"{place}, line {reader.line_num}: {error}") from error


def annotation(row: Row, line: int, file: str, split: str, track: str) -> Annotation:
    """Build the annotation of a row with ``BOX`` and ``ClassId``. Raises ``ValueError`` for what is no whole number."""
    width, height, left, top, right, bottom = (whole(row, column) for column in BOX)
    class_id = checked_class(whole(row, "ClassId"))
    return Annotation(file, split, class_id, track, width, height, (left, top, right, bottom), line)


def whole(row: Row, column: str) -> int:
    """Read a whole number. Raises ``ValueError`` that names the column."""
    try:
        number = int(row[column])
    except ValueError:
        raise ValueError(f"{column} is {row[column]!r}: expected a whole number") from None
    if abs(number) >= 2**31:
        raise ValueError(f"{column} is {number}: no image is that large")
    return number
