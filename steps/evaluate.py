"""Judge a model archive on the test set: metrics, the quality gate's verdict, a report, and golden images.

The images go through the archive's own serving signature, so that what is measured is what an endpoint will answer.
The script succeeds whether or not the gate is passed: the pipeline's condition acts on the verdict.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trafficsigns import failures, gate
from trafficsigns.failures import StepError

# TensorFlow and scikit-learn take seconds to import: they wait until the arguments are known to be good.
if TYPE_CHECKING:
    from trafficsigns.archive import Answers, Model
    from trafficsigns.metrics import Integers, Quality

logger = logging.getLogger("evaluate")


@dataclass(frozen=True)
class TestSet:
    """The test split, in the order of its shards."""

    images: tuple[bytes, ...]
    """Encoded PNG files."""
    labels: Integers
    """int64 ``[images]``"""
    names: tuple[str, ...]
    """The files' names inside the source archive."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step and return its exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    # TensorFlow reads this once, at its import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return failures.run(lambda: evaluate(arguments))


def evaluate(arguments: argparse.Namespace) -> None:
    """Judge the archive in ``model_dir`` and write everything into ``output_dir``.

    Raises ``StepError`` for what cannot be judged; then ``output_dir`` is as it was.
    """
    bounds = _bounds(arguments)

    from trafficsigns import archive, contest

    test = read_test_set(arguments.test_dir)
    with tempfile.TemporaryDirectory(prefix="model-") as scratch:
        model = archive.load(archive.unpack(arguments.model_dir, Path(scratch)))
        logger.info("asking the model about %d test images", len(test.images))
        answers = model.answer(test.images)
        quality = _measure(answers, test, arguments)
        logger.info("asking it about spoilt pictures, for its time, and the champion about the same test images")
        trial = contest.try_out(model, answers, test.images, test.labels, arguments.model_dir, arguments.champion_dir)
    metrics = {**asdict(quality.summary), **trial.metrics()}
    outcome = gate.judge(bounds, metrics)
    evaluation = {**describe(quality, metrics, outcome, model, dict(arguments.lineage)), **trial.findings()}
    for verdict in outcome.bounds:
        logger.info(gate.sentence(verdict))
    with publishing(arguments.output_dir) as staging:
        write_golden(staging / "golden", answers, test)
        write_samples(staging / "samples", test, model.classes)
        write_report(staging / "report.html", evaluation, answers, test, model)
        _write_json(staging / "evaluation.json", evaluation)
    logger.info("the quality gate is %s", "passed" if outcome.passed else "not passed")


def read_test_set(directory: Path) -> TestSet:
    """Read the test split's shards as a whole; 12,630 images of 32x32 pixels take 30 MB.

    Raises ``StepError`` when there is no record, or one that cannot be read.
    """
    import numpy as np
    import tensorflow as tf

    from trafficsigns import records

    try:
        rows = list(records.encoded(directory).as_numpy_iterator())
    except FileNotFoundError as error:
        raise StepError(str(error)) from error
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise StepError(
            f"{directory}: a shard is damaged or holds other records than steps/preprocess.py writes; run it again"
        ) from error
    if not rows:
        raise StepError(f"{directory}: the shards hold no record; expected the test split of steps/preprocess.py")
    images, labels, names = zip(*rows, strict=True)
    return TestSet(images, np.array(labels, dtype=np.int64), tuple(name.decode() for name in names))


def describe(
    quality: Quality, metrics: Mapping[str, float], outcome: gate.Gate, model: Model, lineage: Mapping[str, str]
) -> dict[str, Any]:
    """Lay out ``evaluation.json``: everything that is known of this model, in JSON's types only."""
    return {
        "metrics": dict(metrics),
        "classes": [
            {"class_id": row.class_id, "class_name": model.classes[row.class_id], **asdict(row)}
            for row in quality.classes
        ],
        "confusion_matrix": quality.confusion.tolist(),
        "reliability": [asdict(group) for group in quality.reliability],
        "gate": asdict(outcome),
        "multiclass_classification_metrics": _model_quality(quality),
        "training": dict(model.training),
        "lineage": dict(lineage),
    }


def write_golden(directory: Path, answers: Answers, test: TestSet) -> None:
    """Write the golden images, byte for byte as the test split holds them, and ``golden.json`` with their answers."""
    from trafficsigns import examples

    directory.mkdir()
    rows = []
    for index in examples.golden(answers.probabilities, test.labels):
        file = f"{answers.class_id[index]:02d}.png"
        (directory / file).write_bytes(test.images[index])
        rows.append(
            {
                "file": file,
                "class_id": int(answers.class_id[index]),
                "class_name": answers.class_name[index],
                "probability": float(answers.probability[index]),
            }
        )
    _write_json(directory / "golden.json", rows)


def write_samples(directory: Path, test: TestSet, classes: Sequence[str]) -> None:
    """Write test images to try an endpoint with, drawn whatever the answers, and ``samples.json`` with the truth."""
    from trafficsigns import examples

    directory.mkdir()
    rows = []
    for index in examples.drawn(len(test.images)):
        class_id, file = int(test.labels[index]), f"{Path(test.names[index]).stem}.png"
        (directory / file).write_bytes(test.images[index])
        rows.append({"file": file, "class_id": class_id, "class_name": classes[class_id]})
    _write_json(directory / "samples.json", rows)


def write_report(path: Path, evaluation: Mapping[str, Any], answers: Answers, test: TestSet, model: Model) -> None:
    """Write ``report.html``: the evaluation, with pictures of each class, of the worst mistakes and of the network."""
    from trafficsigns import examples, features, report

    candidates = examples.clearest(answers.probabilities, test.labels, count=8)
    pictures = [report.most_legible([test.images[index] for index in indices]) for indices in candidates]
    mistakes = [
        report.Mistake(
            image=test.images[index],
            name=test.names[index],
            class_id=int(test.labels[index]),
            answered_id=int(answers.class_id[index]),
            probability=float(answers.probability[index]),
        )
        for index in examples.worst_mistakes(answers.probabilities, test.labels, test.names)
    ]
    shown = next(picture for picture in pictures if picture is not None)
    drawn = features.pictures(model.explain(shown))
    stages = [report.Stage(name, features.png(picture)) for name, picture in drawn.items()]
    path.write_text(report.render(evaluation, pictures, mistakes, stages), encoding="utf-8")


@contextmanager
def publishing(output_dir: Path) -> Iterator[Path]:
    """Offer a folder to write into, and move its content into ``output_dir`` only when the body succeeds.

    The folder lies inside ``output_dir``, which in a job is a mount: renaming never crosses a file system there.
    ``evaluation.json`` goes away first and arrives last, so that whoever finds it finds everything that belongs to it.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=output_dir))
    try:
        yield staging
        (output_dir / "evaluation.json").unlink(missing_ok=True)
        for name in ("golden", "samples"):
            shutil.rmtree(output_dir / name, ignore_errors=True)
        for name in ("golden", "samples", "report.html", "evaluation.json"):
            (staging / name).replace(output_dir / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _measure(answers: Answers, test: TestSet, arguments: argparse.Namespace) -> Quality:
    from trafficsigns import metrics

    try:
        return metrics.measure(answers.probabilities, test.labels)
    except ValueError as error:
        places = f"model {arguments.model_dir}, test split {arguments.test_dir}"
        raise StepError(f"{places}: {error}; train and test on the output of one preprocessing") from error


def _model_quality(quality: Quality) -> dict[str, Any]:
    """Repeat the main figures in the schema of SageMaker's model quality metrics, which SageMaker Studio draws.

    Source: developer guide, "Model quality metrics and Amazon CloudWatch monitoring". The schema wants a standard
    deviation, and the text "NaN" where there is one run only.
    """
    figures = {"accuracy": quality.summary.accuracy}
    figures |= {f"weighted_{name}": value for name, value in quality.weighted().items()}
    confusion = {
        str(true): {str(answered): count for answered, count in enumerate(row)}
        for true, row in enumerate(quality.confusion.tolist())
    }
    return {
        **{name: {"value": value, "standard_deviation": "NaN"} for name, value in figures.items()},
        "confusion_matrix": confusion,
    }


def _write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def _bounds(arguments: argparse.Namespace) -> list[gate.Bound]:
    try:
        return [gate.Bound(criterion, getattr(arguments, criterion.name)) for criterion in gate.CRITERIA]
    except ValueError as error:
        raise StepError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    processing = Path("/opt/ml/processing")
    folders = {
        "--model-dir": ("input/model", "folder with model.tar.gz, or an unpacked archive"),
        "--test-dir": ("input/test", "folder with the test split's TFRecord shards"),
        "--champion-dir": ("input/champion", "the champion's archive, or none.json; no folder: there is no champion"),
        "--output-dir": ("output/evaluation", "folder for evaluation.json, report.html, golden/ and samples/"),
    }
    for option, (place, meaning) in folders.items():
        parser.add_argument(
            option, type=Path, default=processing / place, metavar="DIR", help=f"{meaning} (default: %(default)s)"
        )
    for criterion in gate.CRITERIA:
        # argparse would take the sign in "95 % interval" for a conversion.
        meaning = criterion.meaning.replace("%", "%%")
        parser.add_argument(
            criterion.option,
            dest=criterion.name,
            type=float,
            required=True,
            metavar="BOUND",
            help=f"{meaning}: {criterion.comparison.replace('_', ' ')} this, between 0 and {criterion.highest:g}",
        )
    parser.add_argument(
        "--lineage",
        type=_pair,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="where the model comes from, for the report, such as commit=1a2b3c or seed=0; repeatable",
    )
    return parser


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key, value


if __name__ == "__main__":
    sys.exit(main())
