"""The listing: all annotations of a set as one Arrow table, a hundred bytes an image.

Every instance of a job holds it whole, so it is the one thing whose size follows the number of images.

==============================  ========================================================================================
column                          content
==============================  ========================================================================================
``file``, ``split``,            as in ``Annotation``; null where the archive does not tell
``class_id``, ``track``,
``width`` ... ``roi_bottom``,
``row``
``group``                       what must not be divided: the track, or images that look alike; null: not yet known
==============================  ========================================================================================
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trafficsigns.failures import StepError
from trafficsigns.sources.annotations import Annotation, Archive, some

BOX = ("width", "height", "roi_left", "roi_top", "roi_right", "roi_bottom")

SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("split", pa.string()),
        ("class_id", pa.int32()),
        ("track", pa.string()),
        ("group", pa.string()),
        *((name, pa.int32()) for name in BOX),
        ("row", pa.int32()),
    ]
)

_CHUNK = 16_384


def collect(annotations: Iterable[Annotation]) -> pa.Table:
    """Return annotations, given in any order, as a table ordered by file; few of them are held as objects at once."""
    remaining, parts = iter(annotations), []
    while chunk := list(itertools.islice(remaining, _CHUNK)):
        parts.append(pa.Table.from_pydict(_columns(chunk), SCHEMA))
    whole = pa.concat_tables(parts) if parts else SCHEMA.empty_table()
    # Equal names, which validation reports, keep an order of their own.
    return whole.take(pc.sort_indices(whole, [("file", "ascending"), ("row", "ascending")]))


def _columns(annotations: list[Annotation]) -> dict[str, list[object]]:
    unknown = (None, None, None, None)
    return {
        "file": [each.file for each in annotations],
        "split": [each.split or None for each in annotations],
        "class_id": [each.class_id for each in annotations],
        "track": [each.track for each in annotations],
        "group": [each.track or None for each in annotations],
        "width": [each.width for each in annotations],
        "height": [each.height for each in annotations],
        **{
            name: [(each.roi or unknown)[edge] for each in annotations]
            for edge, name in enumerate(("roi_left", "roi_top", "roi_right", "roi_bottom"))
        },
        "row": [each.row for each in annotations],
    }


def unlisted(listing: pa.Table, archive: Archive) -> list[str]:
    """Return the image files that lie in an archive and that its annotations do not list.

    Raises ``StepError`` for images that they list and that are not there.
    """
    there = pa.array(sorted(archive.images()), pa.string())
    listed = listing["file"].combine_chunks()
    absent = listed.filter(pc.invert(pc.is_in(listed, value_set=there)))
    if len(absent):
        names = some(absent.slice(0, 6).to_pylist())
        raise StepError(f"the annotations list {len(absent)} images that the archive does not hold: {names}")
    return list(there.filter(pc.invert(pc.is_in(there, value_set=listed))).to_pylist())


def read(path: Path) -> pa.Table:
    """Read a listing. Raises ``StepError`` for a file that is none."""
    try:
        table = pq.read_table(path)
        return table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise StepError(f"{path} is no listing of images ({error}): write it with steps/describe.py") from error
