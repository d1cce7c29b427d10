"""Writes the manifest while images pass: rows from the listing and from pixels, in parts of bounded size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trafficsigns.manifest import COLUMNS, NOTES, PARTS, SCHEMA
from trafficsigns.pictures import Picture

_ROWS = 16_384
_MEASURED = ("brightness", "contrast", "content", "error")


def rows(listed: pa.Table, pictures: Sequence[Picture]) -> pa.Table:
    """Put together what the listing says of some images and what their pixels show."""
    columns = {name: listed[name] for name in listed.schema.names}
    for side in ("width", "height"):
        found = pa.array([getattr(picture, side) for picture in pictures], pa.int32())
        columns |= {f"pixel_{side}": found, side: pc.coalesce(listed[side], found)}
    for edge, side in (("roi_right", "width"), ("roi_bottom", "height")):
        columns[edge] = pc.coalesce(listed[edge], columns[side])
    for edge in ("roi_left", "roi_top"):
        columns[edge] = pc.fill_null(listed[edge], 0)
    columns |= {name: pa.array([getattr(picture, name) for picture in pictures]) for name in _MEASURED}
    return pa.table({name: columns[name] for name in COLUMNS}).cast(SCHEMA)


class Writer:
    """Writes one machine's part; use as a context. Few rows are held at a time, however many there are."""

    def __init__(self, folder: Path, instance: int) -> None:
        self._file = pq.ParquetWriter(folder / PARTS.replace("*", f"{instance:05d}"), SCHEMA)
        self._waiting: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """Add some images' rows."""
        self._waiting.append(table)
        if sum(map(len, self._waiting)) >= _ROWS:
            self._write()

    def _write(self) -> None:
        self._file.write_table(pa.concat_tables([*self._waiting, SCHEMA.empty_table()]).combine_chunks())
        self._waiting.clear()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left; a part without rows is one, too."""
        if kind is None:
            self._write()
        self._file.close()


def note(folder: Path, layout: str, class_names: Sequence[str], images: int, unlisted: Sequence[str]) -> None:
    """Write ``dataset.json``; every machine writes the same."""
    content = {
        "layout": layout,
        "class_names": list(class_names),
        "images": images,
        "unlisted": len(unlisted),
        "first_unlisted": list(unlisted[:10]),
    }
    (folder / NOTES).write_text(json.dumps(content, indent=1), encoding="utf-8")
