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
from benchmarks.drawn import join

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "ablation.json"
CHILD = ROOT / "benchmarks" / "peers" / "one_training.py"

FRACTION, SPLIT_SEED = 0.3, 11

ROWS: Mapping[str, Mapping[str, Any]] = {
    "standard": {},
    "rare classes not repeated": {"balance": 0.0},
    "without the spatial transformer": {"network.straighten": False},
    "without local contrast": {"network.columns": ["colour"]},
    "without the colour transform": {"network.colours": 0},
    "the last scale alone": {"network.scales": 1},
    "without averages of the weights": {"trainer._SLOWEST_AVERAGE": 0.0},
    "without weight decay": {"weight_decay": 0.0},
    "without mirrored signs": {"augmentation._SYMMETRIC": [], "augmentation._COUNTERPARTS": []},
    "without changes of view": {
        f"augmentation.{name}": 0.0 for name in ("_ROTATION", "_SHIFT", "_SCALE", "_SHEAR", "_PERSPECTIVE")
    },
    "without changes of light": {"augmentation._GAIN": 0.0, "augmentation._GAMMA": 0.0},
    "without noise": {"augmentation._NOISE": 0.0},
    "without label smoothing": {"label_smoothing": 0.0},
    "without dropout": {"network.dropout": 0.0},
    "without shade, haze and erasing": {"disturbances.shade": 0.0, "disturbances.haze": 0.0, "disturbances.erase": 0.0},
    "drawn signs beside the real ones": {"drawn": 24},
    "committee of three": {
        "network.columns": ["both", "colour", "contrast"],
        "network.blocks": [[24, 5], [48, 5], [80, 3], [80, 3]],
        "network.hidden": 48,
    },
    "committee of five": {
        "network.columns": ["both", "colour", "contrast", "both", "colour"],
        "network.blocks": [[20, 5], [40, 5], [64, 3], [64, 3]],
        "network.hidden": 32,
    },
}
"""What each row changes in the preset ``standard``, or in constants of the modules that train.

``drawn`` is how many drawn tracks of each class are added.
"""

EPOCHS, SEED = 6, 7
AGAIN = (
    ("standard", EPOCHS, 8),
    ("standard", 2 * EPOCHS, SEED),
    ("without label smoothing", EPOCHS, 8),
)
"""Rows that the table has with other epochs, or another seed, too."""
RUNS = (*((row, EPOCHS, SEED) for row in ROWS), *AGAIN)

FRAMES = 6
"""Of a drawn track, as the quick start has them."""

EXPLANATION = """\
A row is one run, so that a difference of a few images says nothing. Loss is the cross entropy of the best epoch after
fitting the temperature, both on the same images, so that more epochs have more chances. *Spoilt* is the accuracy on
some of them after the eight corruptions of the gate, which tells more apart where nearly every picture is recognised.
Minutes are processor time divided by two: the least that the run takes on two cores of that processor."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train what has not been trained yet, row by row, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--archive", type=Path, required=True, help="the folder with GTSRB's official zips")
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), help="only these, with the epochs and seeds named")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[SEED])
    arguments = parser.parse_args(argv)
    chosen = [(row, arguments.epochs, seed) for seed in arguments.seeds for row in arguments.rows or ()]
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    with tempfile.TemporaryDirectory(prefix="ablation-") as scratch:
        work = Path(scratch)
        shards = _preprocess(arguments.archive.resolve(), work / "real")
        for name, epochs, seed in chosen or RUNS:
            wanted = {"row": name, "epochs": epochs, "seed": seed}
            if arguments.rows:
                # Whoever asks for a row wants to compare it with what else this processor measured.
                wanted["processor"] = report.processor()
            if any(wanted.items() <= row.items() for row in done):
                continue
            changes = dict(ROWS[name])
            tracks = changes.pop("drawn", 0)
            folder = _with_drawn(work, shards, tracks) if tracks else shards
            measured = _train(folder, {**wanted, "changes": changes})
            done.append({**wanted, **measured, "processor": report.processor()})
            RESULTS.write_text(json.dumps(done, indent=1) + "\n")
    text = "\n\n".join(["# What each ingredient is worth", EXPLANATION, table(done)])
    RESULTS.with_suffix(".md").write_text(text + "\n")
    return 0


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the measured rows as Markdown, best first."""
    head = ("what", "epochs", "seed", "wrong", "of", "accuracy", "loss", "spoilt", "parameters", "minutes", "on")
    lines = [
        (
            row["row"], str(row["epochs"]), str(row["seed"]), str(row["wrong"]), f"{row['images']:,}",
            f"{1 - row['wrong'] / row['images']:.2%}", f"{row['loss']:.4f}", f"{row['spoilt']:.2%}",
            f"{row['parameters']:,}", f"{row['minutes']:.1f}", row["processor"],
        )
        for row in sorted(rows, key=lambda row: float(row["loss"]))
    ]  # fmt: skip
    return report.table(head, lines)


def _preprocess(source: Path, folder: Path) -> Path:
    _step("preprocess", input_dir=source, output_dir=folder, validation_fraction=FRACTION, seed=SPLIT_SEED)
    return folder


def _with_drawn(work: Path, shards: Path, tracks: int) -> Path:
    """Return shards whose training split has drawn tracks of each class, too, and the others are as they were."""
    both, drawn = work / f"with-{tracks}-drawn", work / f"drawn-{tracks}"
    if not both.exists():
        options = {"tracks_per_class": tracks, "frames_per_track": FRAMES, "test_per_class": 1}
        _step("synthesize", output_dir=drawn, seed=SPLIT_SEED, **options)
        drawn_shards = work / f"drawn-{tracks}-shards"
        _step("preprocess", input_dir=drawn, output_dir=drawn_shards, seed=SPLIT_SEED)
        both.mkdir()
        join([shards / "train", drawn_shards / "train"], both / "train")
        (both / "validation").symlink_to(shards / "validation")
    return both


def _step(name: str, **options: object) -> None:
    words = [word for option, value in options.items() for word in (f"--{option.replace('_', '-')}", str(value))]
    subprocess.run([sys.executable, f"steps/{name}.py", *words], cwd=ROOT, check=True)


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
