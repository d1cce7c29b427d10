#!/usr/bin/env python3
"""Look at a data set: what it holds, and for folders of pictures the listing by which several machines can share it.

Reads what steps/preprocess.py reads and writes, below the output folder:

  listing.parquet    one row an image: file, class, track, group; where no track is known, groups are found by looking
  dataset.json       layout and class names, for whoever reads the listing
  description.json   counts by split and class, tracks, sizes as annotated
  contact-sheet.png  with --contact-sheet: some pictures of every class, the regions of interest marked
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trafficsigns import crew, failures, grouping
from trafficsigns.contact import contact_sheet
from trafficsigns.crew import Crew
from trafficsigns.failures import StepError
from trafficsigns.sources import Archive, open_archive
from trafficsigns.sources.listed import FILE, NOTES, ListedArchive
from trafficsigns.sources.listing import collect, unlisted

logger = logging.getLogger("describe")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step; returns the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    return failures.run(
        lambda: describe(arguments.input_dir, arguments.output_dir, arguments.contact_sheet, arguments.workers)
    )


def _parser() -> argparse.ArgumentParser:
    parser = failures.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input-dir", type=Path, required=True, help="folder with the data set")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder for what is written")
    parser.add_argument("--contact-sheet", action="store_true", help="also draw the contact sheet")
    parser.add_argument("--workers", type=int, help="processes; the result does not depend on it")
    return parser


def describe(input_dir: Path, output_dir: Path, sheet: bool, workers: int | None) -> None:
    """Write the listing and the description of a data set. Raises ``StepError`` for one that cannot be read."""
    archive = open_archive(input_dir)
    listing = archive.table if isinstance(archive, ListedArchive) else collect(archive.annotations())
    strangers = unlisted(listing, archive)
    with Crew(archive, (input_dir, None), crew.size(len(listing), workers)) as hands:
        listing = grouping.grouped(hands, listing)
    output_dir.mkdir(parents=True, exist_ok=True)
    notes = {"layout": archive.layout, "class_names": list(archive.class_names)}
    if sheet:
        contact_sheet(archive, listing).save(output_dir / "contact-sheet.png")
    try:
        _write(output_dir / NOTES, notes)
        _write(output_dir / "description.json", description(archive, listing, strangers))
        pq.write_table(listing, output_dir / f"{FILE}.new")
        (output_dir / f"{FILE}.new").rename(output_dir / FILE)
    except OSError as error:
        raise StepError(f"{output_dir} cannot be written: {error.strerror or error}") from error
    logger.info("%s: %d images, %d classes", archive.layout, len(listing), len(archive.class_names))


def description(archive: Archive, listing: pa.Table, strangers: Sequence[str]) -> dict[str, Any]:
    """Summarise a set: counts by class and split, tracks, sizes."""
    splits = pc.fill_null(listing["split"], "undivided")
    counted = pa.table({"class_id": listing["class_id"], "split": splits}).group_by(["class_id", "split"])
    counts: dict[int, dict[str, int]] = {number: {} for number in range(len(archive.class_names))}
    for row in counted.aggregate([([], "count_all")]).to_pylist():
        counts.setdefault(row["class_id"], {})[row["split"]] = row["count_all"]
    names = archive.class_names
    return {
        "layout": archive.layout,
        "images": len(listing),
        "splits": {str(each["values"]): each["counts"] for each in pc.value_counts(splits).to_pylist()},
        "tracks": len(pc.unique(listing["track"].filter(pc.not_equal(listing["track"], "")))),
        "groups": len(pc.unique(listing["group"].drop_null())),
        "sizes": {side: _range(listing[side]) for side in ("width", "height")},
        "classes": [
            {"class_id": number, "name": names[number] if 0 <= number < len(names) else "?", "images": counts[number]}
            for number in sorted(counts)
        ],
        "unlisted": len(strangers),
        "first_unlisted": list(strangers[:10]),
    }


def _range(column: pa.ChunkedArray) -> list[int] | None:
    """Return smallest and largest value, or nothing where the annotations do not tell."""
    found = pc.min_max(column).as_py()
    return None if found["min"] is None else [found["min"], found["max"]]


def _write(path: Path, content: Any) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    beside.rename(path)


if __name__ == "__main__":
    raise SystemExit(main())
