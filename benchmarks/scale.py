"""What an image costs, so that larger sets can be reckoned: parts of the data steps, each in a process of its own.

``python -m benchmarks.scale look FOLDER``, ``listing COUNT`` or ``multiply MANIFEST TIMES TARGET``; the first two print
one JSON object. They measure the steps' own library, which lies in ``steps/`` and not in a package.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.settings import ROOT

sys.path.insert(0, str(ROOT / "steps"))

_SAMPLE = 4000


def look(folder: Path) -> dict[str, float]:
    """Return microseconds of processor an image to look at it, as pixels and as PNG, and to make a record of it."""
    from trafficsigns import pictures, records
    from trafficsigns.sources import open_archive

    archive = open_archive(folder)
    files = sorted(archive.images())
    # Neighbours in an archive would be read at less than the price of the shuffled order in which they really are.
    files = [files[place] for place in np.random.default_rng(1).permutation(len(files))]
    found: dict[str, float] = {}
    for name, as_png in (("pixels", False), ("png", True)):
        begun = time.process_time()
        looked = pictures.look(archive, (files[:_SAMPLE], as_png))
        found[name] = _micro(begun, _SAMPLE)
    serialize = records.Serializer()
    begun = time.process_time()
    for picture, file in zip(looked, files, strict=False):
        serialize(picture.pixels, 1, "1/00001", file)
    return {**found, "record": _micro(begun, _SAMPLE)}


def listing(count: int) -> dict[str, float]:
    """Return bytes of memory at the peak, and microseconds, that each annotation adds to a listing and its splits."""
    from trafficsigns import splits
    from trafficsigns.sources import Annotation
    from trafficsigns.sources.listing import collect

    def annotations() -> Iterator[Annotation]:
        for number in range(count):
            class_id, track = number % 43, number // 1290
            file = f"GTSRB/Final_Training/Images/{class_id:05d}/{track:05d}_{number:08d}.ppm"
            name = f"{class_id}/{track:05d}"
            yield Annotation(file, "train", class_id, name, 50, 50, (5, 5, 45, 45), number)

    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    splits.divide(collect(annotations()), splits.Shares(0.1, 0.2, 7))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"bytes": peak * 1024 / count, "microseconds": _micro(begun, count)}


def multiply(source: Path, times: int, target: Path) -> None:
    """Write a manifest of many times as many images: the same under other names, in other tracks, of other pixels."""
    import pandas as pd

    from trafficsigns import manifest

    target.mkdir()
    rows = pd.concat([pd.read_parquet(part) for part in source.glob(manifest.PARTS)])
    for number in range(times):
        copy = rows.assign(file=f"{number}/" + rows["file"], content=rows["content"].str[:-4] + f"{number:04d}")
        for column in ("track", "group"):
            copy[column] = rows[column].where(rows[column].fillna("") == "", f"{number}/" + rows[column].fillna(""))
        copy.to_parquet(target / manifest.PARTS.replace("*", f"{number:05d}"), index=False)
    notes: dict[str, Any] = json.loads((source / manifest.NOTES).read_text())
    (target / manifest.NOTES).write_text(json.dumps({**notes, "images": len(rows) * times}))


def _micro(begun: float, count: int) -> float:
    return (time.process_time() - begun) / count * 1e6


def main(argv: Sequence[str]) -> int:
    """Run one part."""
    part, *words = argv
    if part == "multiply":
        multiply(Path(words[0]), int(words[1]), Path(words[2]))
        return 0
    found = look(Path(words[0])) if part == "look" else listing(int(words[0]))
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
