"""Trains presets on GTSRB, looks at the test set once for each run, and writes the table: ``make bench-presets``.

Runs that were measured are kept, with their archives, in a folder of their own, so that a long list can be worked off
in pieces; a training that is interrupted goes on after its last epoch. Each entry of ``results/presets.json`` is one
look at the official test set. Those of recipes that a preset no longer has stay there, and count for nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.contestants import PEERS, ROOT
from benchmarks.drawn import OPEN_GATE

RESULTS = ROOT / "benchmarks" / "results" / "presets.json"
PRESETS = ("fast", "standard", "best", "lenet5")
RUNS = (("fast", 7), *((preset, seed) for seed in (7, 8, 9) for preset in ("standard", "best")), ("lenet5", 7))
"""Presets and seeds of the table: so often the test set is looked at, and no more."""

EXPLANATION = """\
Each row is one run of `steps/train.py` and one look at the official test set by `steps/evaluate.py`. Minutes are
processor time divided by two, the least that training takes on two cores; *by the clock* is what its epochs took beside
whatever else the machine did. Latency is the serving signature's on one encoded image of 48x48 pixels, one thread an
operation, median of 200 calls. Multiplications are those of convolutions and dense layers for one image."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train and judge what is not there yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--archive", type=Path, required=True, help="the folder with GTSRB's official zips")
    parser.add_argument("--work", type=Path, default=ROOT / ".signs" / "presets", help="folder for shards and archives")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, help="only these, with the seeds named")
    parser.add_argument("--seeds", nargs="+", type=int, help="of the presets that are named (default: 7)")
    arguments = parser.parse_args(argv)
    if arguments.seeds and not arguments.presets:
        parser.error("--seeds are those of --presets")
    chosen = [(preset, seed) for seed in arguments.seeds or [7] for preset in arguments.presets or ()]
    work: Path = arguments.work
    # Whoever ends this early finds the epochs that are done when it is started again, and their minutes with them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if not (work / "shards").exists():
        half = work / "shards.partial"
        _script("preprocess", "--input-dir", str(arguments.archive.resolve()), "--output-dir", str(half))
        half.rename(work / "shards")
    known = recipes()
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for preset, seed in chosen or RUNS:
        if not any((row["preset"], row["seed"]) == (preset, seed) for row in of_today(stored, known)):
            about = {"preset": preset, "seed": seed, "processor": report.processor(), "recipe": known[preset]}
            stored.append({**about, **_measure(work, preset, seed)})
            RESULTS.write_text(json.dumps(stored, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(page(of_today(stored, known)))
    return 0


def recipes() -> dict[str, Any]:
    """Return what each preset is: all that decides what it becomes beside code, data and seed."""
    told: dict[str, Any] = json.loads(_run([str(PEERS / "recipes.py")], stdout=subprocess.PIPE).stdout)
    return told


def of_today(rows: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the runs whose preset still has the recipe that they had."""
    return [row for row in rows if row["recipe"] == known[row["preset"]]]


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the runs as a page that names the processors they were made on."""
    processors = ", ".join(sorted({row["processor"] for row in rows}))
    told = ("# Presets on the official test set", EXPLANATION, f"Processor: {processors}.", table(rows), means(rows))
    return "\n\n".join(told) + "\n"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the runs as Markdown."""
    head = (
        "preset", "seed", "epochs", "parameters", "multiplications", "minutes", "by the clock", "validation", "test",
        "95 % interval", "wrong", "worst class", "calibration error", "archive", "latency",
    )  # fmt: skip
    lines = [
        (
            row["preset"], str(row["seed"]), str(row["epochs"]), f"{row['parameters']:,}",
            f"{row['multiplications'] / 1e6:.1f} M", f"{row['minutes']:.1f}", f"{row['clock']:.1f}",
            f"{row['validation']:.2%}", f"**{row['accuracy']:.2%}**", f"{row['lower']:.2%} - {row['upper']:.2%}",
            str(row["wrong"]), f"{row['worst']:.1%}", f"{row['calibration']:.4f}", f"{row['megabytes']:.1f} MB",
            f"{row['latency']:.2f} ms",
        )
        for row in sorted(rows, key=lambda row: (PRESETS.index(row["preset"]), row["seed"]))
    ]  # fmt: skip
    return report.table(head, lines)


def means(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return each preset's mean over its seeds."""
    lines = []
    for preset in PRESETS:
        found = [row["accuracy"] for row in rows if row["preset"] == preset]
        if found:
            lines.append((preset, str(len(found)), f"**{statistics.mean(found):.2%}**", f"{min(found):.2%}"))
    return report.table(("preset", "seeds", "mean of test accuracy", "worst seed"), lines)


def _measure(work: Path, preset: str, seed: int) -> dict[str, Any]:
    # By its code too: what another recipe left there must not be judged as this one's.
    name = f"{preset}-{seed}-{_digest()}"
    model, minutes, told = work / name, work / f"{name}.minutes", work / f"{name}-evaluation"
    if not (model / "1").exists():
        _train(work, model, [f"--preset={preset}", f"--seed={seed}"], minutes)
    bounds = [f"--{name.replace('_', '-')}={bound}" for name, bound in OPEN_GATE.items()]
    folders = [f"--model-dir={model}", f"--test-dir={work / 'shards' / 'test'}", f"--output-dir={told}"]
    if not (told / "evaluation.json").exists():  # Each evaluation is a look, and an interrupted program had its own.
        _script("evaluate", *folders, *bounds)
    evaluation = json.loads((told / "evaluation.json").read_text())
    metrics, training = evaluation["metrics"], evaluation["training"]
    matrix = evaluation["confusion_matrix"]
    answer = work / "cost.json"
    _run([str(PEERS / "preset_cost.py"), preset, str(model), str(answer)])
    return {
        "epochs": len(training["history"]),
        "parameters": training["parameters"],
        "minutes": float(minutes.read_text()),
        "clock": sum(epoch["seconds"] for epoch in training["history"]) / 60,
        "validation": training["history"][training["selected_epoch"] - 1]["validation_accuracy"],
        "accuracy": metrics["accuracy"],
        "lower": metrics["accuracy_lower"],
        "upper": metrics["accuracy_upper"],
        "wrong": sum(map(sum, matrix)) - sum(row[index] for index, row in enumerate(matrix)),
        "worst": metrics["worst_class_recall"],
        "recalls": {each["class_name"]: each["recall"] for each in evaluation["classes"]},
        "temperature": training["temperature"],
        "calibration": metrics["expected_calibration_error"],
        "megabytes": sum(path.stat().st_size for path in model.rglob("*") if path.is_file()) / 1e6,
        **json.loads(answer.read_text()),
    }


def _digest() -> str:
    """Name the code of training."""
    total = hashlib.sha256()
    for path in (ROOT / "steps" / "train.py", *sorted((ROOT / "steps" / "trafficsigns").rglob("*.py"))):
        total.update(path.read_bytes())
    return total.hexdigest()[:8]


def _train(work: Path, model: Path, options: Sequence[str], minutes: Path) -> None:
    """Train, or go on with what was interrupted; add what this took to the minutes that it took before."""
    folders = [f"--{split}-dir={work / 'shards' / split}" for split in ("train", "validation")]
    places = [f"--model-dir={model}", f"--checkpoint-dir={work / 'checkpoints' / model.name}"]
    before = _children_seconds()
    try:
        _script("train", *folders, *places, *options)
    finally:
        spent = (_children_seconds() - before) / 120
        minutes.write_text(str(spent + (float(minutes.read_text()) if minutes.exists() else 0.0)))


def _script(name: str, *options: str) -> None:
    _run([str(ROOT / "steps" / f"{name}.py"), *options])


def _run(command: Sequence[str], stdout: int | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "steps")}
    return subprocess.run([sys.executable, *command], env=environment, check=True, stdout=stdout)


def _children_seconds() -> float:
    """Return the processor seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
