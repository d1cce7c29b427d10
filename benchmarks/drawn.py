"""Measures what drawn signs are worth: ``make bench-drawn``, on the real benchmark in the folder given.

Three networks of one recipe, judged on the whole official test set: trained on drawn signs alone, on as many real ones
at most, and on both. The real ones are whole tracks of every class, thinned out, so that this ends within the hour.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from pipeline.datasets import NEARBY
from pipeline.settings import ROOT, Settings, load

RESULTS = Path(__file__).parent / "results" / "drawn.md"
TRAIN, TEST, LABELS = (f"GTSRB_Final_{part}.zip" for part in ("Training_Images", "Test_Images", "Test_GT"))
EVERY = 5
"""Of a real track's thirty frames, each fifth is taken: as many as a drawn track has."""
OPEN_GATE = {
    "minimum_accuracy": 0,
    "minimum_class_recall": 0,
    "maximum_calibration_error": 1,
    "minimum_corrupted_accuracy": 0,
    "maximum_latency_ratio": 1000,
    "maximum_archive_megabytes": 5000,
    "champion_significance": 0,
}
"""Bounds that nothing fails: a benchmark wants the figures and no verdict."""


def step(script: str, **options: object) -> None:
    """Run one of the step scripts, as a job would."""
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    _say(f"{script} {' '.join(words)}")
    subprocess.run([sys.executable, str(ROOT / "steps" / script), *words], check=True, stdout=subprocess.DEVNULL)


def thin(source: Path, target: Path, tracks: int) -> int:
    """Copy the first tracks of every class, each with every fifth frame, and the whole test set; returns how many."""
    target.mkdir()
    for name in (TEST, LABELS):
        shutil.copy(source / name, target / name)
    count = 0
    with zipfile.ZipFile(source / TRAIN) as whole, zipfile.ZipFile(target / TRAIN, "w") as part:
        for table in (name for name in whole.namelist() if name.endswith(".csv")):
            header, *rows = whole.read(table).decode().splitlines()
            kept = [row for row in rows if int(row[:5]) < tracks and int(row[6:11]) % EVERY == 0]
            part.writestr(table, "\n".join([header, *kept]))
            for file, *_ in csv.reader(io.StringIO("\n".join(kept)), delimiter=";"):
                name = f"{table.rpartition('/')[0]}/{file}"
                part.writestr(name, whole.read(name))
            count += len(kept)
    return count


def join(sources: Sequence[Path], target: Path) -> Path:
    """Put the training shards of several sets into one folder."""
    target.mkdir()
    shutil.copy(sources[0] / "labels.json", target)
    for number, source in enumerate(sources):
        for shard in source.glob("*.tfrecord"):
            shutil.copy(shard, target / f"{number}-{shard.name}")
    return target


def judge(settings: Settings, folder: Path, train: Path, validation: Path, test: Path) -> dict[str, float]:
    """Train on a folder of shards and return the metrics on the real test set, with the minutes of training."""
    quick = settings.quickstart
    begun = resource.getrusage(resource.RUSAGE_CHILDREN)
    options = {
        "preset": quick.preset,
        "epochs": quick.epochs,
        "batch_size": quick.batch_size,
        "seed": settings.data.seed,
    }
    step("train.py", train_dir=train, validation_dir=validation, model_dir=folder / "model", **options)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime
    step("evaluate.py", model_dir=folder / "model", test_dir=test, output_dir=folder / "evaluation", **OPEN_GATE)
    metrics = json.loads((folder / "evaluation" / "evaluation.json").read_text())["metrics"]
    return {**metrics, "minutes": seconds / 120}


def measure(workspace: Path, real: Path) -> str:
    """Train the three and return the report."""
    settings, before = load(), report.load()
    quick = settings.quickstart
    drawn, thinned = workspace / "drawn", workspace / "thinned"
    step(
        "synthesize.py",
        output_dir=drawn,
        seed=settings.data.seed,
        tracks_per_class=quick.tracks_per_class,
        frames_per_track=quick.frames_per_track,
        test_per_class=quick.test_per_class,
    )
    thin(real, thinned, quick.tracks_per_class)
    for source in (drawn, thinned):
        step("preprocess.py", input_dir=source, output_dir=workspace / f"{source.name}-shards")
    shards = {name: workspace / f"{name}-shards" for name in ("drawn", "thinned")}
    both = join([shard / "train" for shard in shards.values()], workspace / "both")
    runs = {
        "drawn signs alone": (shards["drawn"] / "train", shards["drawn"] / "validation"),
        "real signs alone": (shards["thinned"] / "train", shards["thinned"] / "validation"),
        "both": (both, shards["thinned"] / "validation"),
    }
    rows = []
    for number, (name, (train, validation)) in enumerate(runs.items()):
        found = judge(settings, workspace / f"run-{number}", train, validation, shards["thinned"] / "test")
        interval = f"{found['accuracy_lower']:.2%} to {found['accuracy_upper']:.2%}"
        worst, minutes = f"{found['worst_class_recall']:.1%}", f"{found['minutes']:.1f}"
        rows.append((name, f"{_count(train):,}", f"**{found['accuracy']:.2%}**", interval, worst, minutes))
    head = ("trained on", "images", "accuracy", "95 % interval", "worst class recall", "minutes")
    explanation = (
        f"Each is trained once, preset `{quick.preset}`, {quick.epochs} epochs in batches of {quick.batch_size}, seed "
        f"{settings.data.seed}, and judged on the 12,630 real test images. The epoch is chosen on drawn tracks for the "
        f"first, on real ones for the others. Real tracks: the first {quick.tracks_per_class} of each class (rare "
        "classes have seven), every fifth frame. An epoch of *both* has more steps. Minutes are processor time divided "
        "by two."
    )
    title = "# What drawn signs are worth\n\nWritten by `make bench-drawn`."
    return "\n\n".join(
        [title, report.machine(before, ("tensorflow-cpu", "keras"), ()), explanation, report.table(head, rows)]
    )


def _count(folder: Path) -> int:
    import tensorflow as tf

    return sum(1 for _ in tf.data.TFRecordDataset([str(path) for path in sorted(folder.glob("*.tfrecord"))]))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the report and write it beside the code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drawn", description=__doc__)
    parser.add_argument(
        "--real", type=Path, default=NEARBY, help="folder with the official zips (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        text = measure(Path(folder), arguments.real)
    sys.stdout.write(f"{text}\n")
    RESULTS.with_suffix(".new").write_text(f"{text}\n")
    RESULTS.with_suffix(".new").replace(RESULTS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
