"""What each ingredient of the recipe is worth on whole tracks that training never saw: ``make bench-ablation``.

Nothing here sees the test set. Three tenths of each class's tracks validate, because on the pipeline's own tenth good
recipes differ by a handful of images. Rows that were measured are kept, so a long list can be worked off in pieces.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "ablation.json"
CHILD = ROOT / "benchmarks" / "peers" / "one_training.py"

FRACTION, SPLIT_SEED = 0.3, 11

ROWS: Mapping[str, Mapping[str, Any]] = {
    "standard": {},
    "without the spatial transformer": {"network.straighten": False},
    "without local contrast": {"network.columns": ["colour"]},
    "without shade": {"disturbances.shade": 0.0},
    "without haze": {"disturbances.haze": 0.0},
    "without erasing": {"disturbances.erase": 0.0},
    "without label smoothing": {"label_smoothing": 0.0},
    "without dropout": {"network.dropout": 0.0},
    "without all three": {"disturbances.shade": 0.0, "disturbances.haze": 0.0, "disturbances.erase": 0.0},
    "the first network": {
        "network.straighten": False,
        "network.columns": ["colour"],
        "disturbances.shade": 0.0,
        "disturbances.haze": 0.0,
        "disturbances.erase": 0.0,
    },
    "committee of three": {
        "network.columns": ["both", "colour", "contrast"],
        "network.blocks": [[24, 5], [48, 5], [80, 3], [80, 3]],
        "network.hidden": 48,
    },
    "first kernel 3x3": {"network.blocks": ((32, 3), (64, 5), (128, 3), (128, 3))},
}
"""What each row changes in the preset ``standard``."""

EXPLANATION = """\
One run a row with one seed, so that a difference of a few images says nothing; loss is the cross entropy after fitting
the temperature on the same images. Minutes are processor time divided by two: what the run takes on two idle cores."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train what has not been trained yet, row by row, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--archive", type=Path, required=True, help="the folder with GTSRB's official zips")
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=list(ROWS), help="which rows")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args(argv)
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    with tempfile.TemporaryDirectory(prefix="ablation-") as scratch:
        shards = _preprocess(arguments.archive, Path(scratch))
        for name in arguments.rows:
            wanted = {"row": name, "epochs": arguments.epochs, "seed": arguments.seed}
            if any(wanted.items() <= row.items() for row in done):
                continue
            done.append({**wanted, **_train(shards, {**wanted, "changes": ROWS[name]})})
            RESULTS.write_text(json.dumps(done, indent=1) + "\n")
    text = "\n\n".join(["# What each ingredient is worth", EXPLANATION, table(done)])
    RESULTS.with_suffix(".md").write_text(text + "\n")
    return 0


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the measured rows as Markdown, best first."""
    head = ("what", "epochs", "seed", "wrong", "of", "accuracy", "loss", "parameters", "minutes")
    lines = [
        (
            row["row"], str(row["epochs"]), str(row["seed"]), str(row["wrong"]), f"{row['images']:,}",
            f"{1 - row['wrong'] / row['images']:.2%}", f"{row['loss']:.4f}", f"{row['parameters']:,}",
            f"{row['minutes']:.1f}",
        )
        for row in sorted(rows, key=lambda row: float(row["loss"]))
    ]  # fmt: skip
    return report.table(head, lines)


def _preprocess(archive: Path, folder: Path) -> Path:
    command = [
        sys.executable,
        "steps/preprocess.py",
        "--input-dir",
        str(archive.resolve()),
        "--output-dir",
        str(folder),
    ]
    split = ["--validation-fraction", str(FRACTION), "--seed", str(SPLIT_SEED)]
    subprocess.run([*command, *split], cwd=ROOT, check=True)
    return folder


def _train(shards: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = shards / "answer.json"
    subprocess.run(
        [sys.executable, str(CHILD), str(shards), json.dumps(request), str(answer)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "steps")},
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**json.loads(answer.read_text()), "minutes": seconds / 120}


if __name__ == "__main__":
    sys.exit(main())
