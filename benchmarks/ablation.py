"""What each ingredient of the recipe is worth on whole tracks that training never saw: ``make bench-ablation``.

Nothing here sees the test set. Each processor has a table of its own, since the same seed takes another course on it,
and so has each ``standard`` that rows were changes of, and each choice of tracks. Three tenths of each class's tracks
validate, because on the pipeline's own tenth good recipes differ by a handful of images. Rows that were measured are
kept, so a long list can be worked off in pieces.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.drawn import join
from benchmarks.presets import recipes

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "ablation.json"
PAGE = ROOT / "docs" / "ablation.md"
CHILD = ROOT / "benchmarks" / "peers" / "one_training.py"

FRACTION, SPLIT = 0.3, 11
"""How many tracks validate, and the seed that chooses which."""

STANDARD = "without weight decay, mirrored signs, noise, dropout and warm-up"
"""What sets the ``standard`` of today apart from those before it, as its tables say it."""

_NARROW = {"network.blocks": [[24, 5], [48, 5], [80, 3], [80, 3]], "network.hidden": 48}

ROWS: Mapping[str, Mapping[str, Any]] = {
    "standard": {},
    "rare classes not repeated": {"balance": 0.0},
    "without the spatial transformer": {"network.straighten": False},
    "without local contrast": {"network.columns": ["colour"]},
    "without the colour transform": {"network.colours": 0},
    "the last scale alone": {"network.scales": 1},
    "without averages of the weights": {"trainer._SLOWEST_AVERAGE": 0.0},
    "without changes of view": {
        f"augmentation.{name}": 0.0 for name in ("_ROTATION", "_SHIFT", "_SCALE", "_SHEAR", "_PERSPECTIVE")
    },
    "without changes of light": {"augmentation._GAIN": 0.0, "augmentation._GAMMA": 0.0},
    "without blur": {"augmentation._BLUR": 0.0},
    "without label smoothing": {"label_smoothing": 0.0},
    "without shade, haze and erasing": {"disturbances.shade": 0.0, "disturbances.haze": 0.0, "disturbances.erase": 0.0},
    "drawn signs beside the real ones": {"drawn": 24},
    "committee of three": {**_NARROW, "network.columns": ["both", "colour", "contrast"]},
    "committee of three that see colour": {**_NARROW, "network.columns": ["colour", "colour", "colour"]},
    "committee of five": {
        "network.columns": ["both", "colour", "contrast", "both", "colour"],
        "network.blocks": [[20, 5], [40, 5], [64, 3], [64, 3]],
        "network.hidden": 32,
    },
}
"""What each row changes in the preset ``standard``, or in constants of the modules that train.

``drawn`` is how many drawn tracks of each class are added. Rows are joined by ``JOINT``: what one ingredient is worth
may depend on another.
"""

JOINT = " + "

EPOCHS, SEED = 6, 7
AGAIN = (
    *(("standard", EPOCHS, seed) for seed in (8, 9)),
    *(("standard", 16, seed) for seed in (SEED, 8, 9)),
    *((row, EPOCHS, 8) for row in ("the last scale alone", "without label smoothing", "without changes of light")),
    ("without local contrast", EPOCHS, 8),
)
"""Rows that the table has with other epochs or another seed, too."""
OTHER = 12
ELSEWHERE = (
    *((row, EPOCHS, seed) for seed in (SEED, 8) for row in ("standard", "without averages of the weights")),
    *(("without local contrast", EPOCHS, seed) for seed in (SEED, 8)),
    *(("standard", 16, seed) for seed in (SEED, 8, 9)),
)
"""Rows that are measured on other tracks as well, since a few tracks decide."""
RUNS = (
    *((row, EPOCHS, SEED, SPLIT) for row in ROWS),
    *((*run, SPLIT) for run in AGAIN),
    *((*run, OTHER) for run in ELSEWHERE),
)

FRAMES = 6
"""Of a drawn track, as the quick start has them."""

EXPLANATION = """\
Written by `make bench-ablation`; [the model](model.md#what-each-ingredient-is-worth) tells what follows from it.

Each figure is one run; those of several seeds stand side by side. Loss is the cross entropy of the best epoch after
fitting the temperature, both on the same images, so that more epochs have more chances. *Spoilt* is the accuracy on
some of them after the eight corruptions of the gate, which tells more apart where nearly every picture is recognised.
Minutes are processor time divided by two: the least that the run takes on two cores of that processor. The same seed on
another processor is another run, `standard` was not always the same, and other tracks (`--split`) are easier or harder:
compare within a table."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train what has not been trained yet, row by row, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--archive", type=Path, required=True, help="the folder with GTSRB's official zips")
    parser.add_argument(
        "--rows", nargs="+", type=_row, help=f"only these, with the epochs and seeds named; A{JOINT}B changes both"
    )
    parser.add_argument("--epochs", type=int, help=f"of the rows that are named (default: {EPOCHS})")
    parser.add_argument("--seeds", nargs="+", type=int, help=f"of the rows that are named (default: {SEED})")
    parser.add_argument("--split", type=int, help=f"the seed that chooses their validation's tracks (default: {SPLIT})")
    arguments = parser.parse_args(argv)
    if (arguments.epochs or arguments.seeds or arguments.split is not None) and not arguments.rows:
        parser.error("--epochs, --seeds and --split are those of --rows")
    epochs, seeds = arguments.epochs or EPOCHS, arguments.seeds or [SEED]
    split = SPLIT if arguments.split is None else arguments.split
    chosen = [(row, epochs, seed, split) for seed in seeds for row in arguments.rows or ()]
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    recipe = digest(recipes()["standard"])
    with tempfile.TemporaryDirectory(prefix="ablation-") as scratch:
        work = Path(scratch)
        for name, epochs, seed, split in chosen or RUNS:
            wanted = {
                "row": name, "epochs": epochs, "seed": seed, "split": split, "processor": report.processor(),
                "standard": STANDARD, "recipe": recipe,
            }  # fmt: skip
            if any(wanted.items() <= row.items() for row in done):
                continue
            changes = {path: value for part in name.split(JOINT) for path, value in ROWS[part].items()}
            tracks = changes.pop("drawn", 0)
            shards = _preprocess(arguments.archive.resolve(), work / f"real-{split}", split)
            folder = _with_drawn(work, shards, tracks) if tracks else shards
            done.append({**wanted, **_train(folder, {**wanted, "changes": changes})})
            RESULTS.write_text(json.dumps(done, indent=1) + "\n")
    PAGE.write_text(page(done))
    return 0


def _row(name: str) -> str:
    unknown = [part for part in name.split(JOINT) if part not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no row {unknown[0]!r}: choose from {', '.join(ROWS)}")
    paths = [path for part in name.split(JOINT) for path in ROWS[part]]
    if len(paths) > len(set(paths)):
        raise argparse.ArgumentTypeError(f"{name!r} changes {max(paths, key=paths.count)} twice")
    return name


def digest(recipe: Mapping[str, Any]) -> str:
    """Name a recipe shortly."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the results as a page."""
    parts = [f"## {name}\n\n{table}" for name, table in tables(rows).items()]
    return "\n\n".join(["# What each ingredient is worth", EXPLANATION, *parts]) + "\n"


def tables(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what each processor measured as Markdown: a line a row, its seeds side by side, best first.

    Tables go by the processor, by what ``standard`` was, and by the tracks that validated.
    """
    titles = [_title(row) for row in rows]
    return {
        title: _table([row for row, own in zip(rows, titles, strict=True) if own == title])
        for title in dict.fromkeys(titles)
    }


def _title(row: Mapping[str, Any]) -> str:
    tracks = "" if row["split"] == SPLIT else f", other tracks ({row['split']})"
    return f"{row['processor']}, `standard` {row['standard']}{tracks}"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ("what", "epochs", "seeds", f"wrong of {rows[0]['images']:,}", "loss", "spoilt", "parameters", "minutes")
    lines: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: int(row["seed"])):
        lines.setdefault((row["row"], row["epochs"]), []).append(row)

    def told(runs: Sequence[Mapping[str, Any]], pattern: str) -> str:
        return " / ".join(pattern.format(**run) for run in runs)

    return report.table(
        head,
        [
            (
                name, str(epochs), told(runs, "{seed}"), told(runs, "{wrong}"), told(runs, "{loss:.4f}"),
                told(runs, "{spoilt:.1%}"), f"{runs[0]['parameters']:,}", told(runs, "{minutes:.1f}"),
            )
            for (name, epochs), runs in sorted(
                lines.items(), key=lambda line: statistics.mean(run["loss"] for run in line[1])
            )
        ],
    )  # fmt: skip


def _preprocess(source: Path, folder: Path, split: int) -> Path:
    if not folder.exists():
        _step("preprocess", input_dir=source, output_dir=folder, validation_fraction=FRACTION, seed=split)
    return folder


def _with_drawn(work: Path, shards: Path, tracks: int) -> Path:
    """Return shards whose training split has drawn tracks of each class, too, and the others are as they were."""
    both, drawn = work / f"{shards.name}-with-{tracks}-drawn", work / f"drawn-{tracks}"
    if not both.exists():
        options = {"tracks_per_class": tracks, "frames_per_track": FRAMES, "test_per_class": 1}
        _step("synthesize", output_dir=drawn, seed=SPLIT, **options)
        drawn_shards = work / f"drawn-{tracks}-shards"
        _step("preprocess", input_dir=drawn, output_dir=drawn_shards, seed=SPLIT)
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
