"""Judge a model archive on the test set, and write down all that is to be known of the model.

  evaluation.json    metrics, the quality gate's verdict, and all that the other files are made from
  report.html        the same to look at
  model-card.json    the same as the content of a SageMaker model card; model-card.md is the card to read
  package-card.json  the content of a model package's card, as the text under "content"
  model-quality/     statistics.json and constraints.json of SageMaker Model Monitor
  explainability/    analysis.json of SageMaker Clarify
  golden/            images with the answers given, which a deployed copy must repeat
  samples/           images with their true classes, to try an endpoint with

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
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trafficsigns import failures, gate, validation
from trafficsigns.failures import StepError

# TensorFlow and scikit-learn take seconds to import: they wait until the arguments are known to be good.
if TYPE_CHECKING:
    from trafficsigns.archive import Answers, Model
    from trafficsigns.attribution import Answer
    from trafficsigns.metrics import Floats, Quality
    from trafficsigns.testset import TestSet

logger = logging.getLogger("evaluate")


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
    data = validation.read(arguments.validation_dir)

    from trafficsigns import archive, attribution, testset, trials

    test = testset.read(arguments.test_dir)
    with tempfile.TemporaryDirectory(prefix="model-") as scratch:
        model = archive.opened(arguments.model_dir, Path(scratch))
        _check_classes(model, data, arguments)
        logger.info("asking the model about %d test images", len(test.images))
        answers = model.answer(test.images)
        quality = _measure(answers, test, arguments)
        logger.info("asking it about spoilt pictures, for its time, and the champion about the same test images")
        trial = trials.try_out(model, answers, test.images, test.labels, arguments.model_dir, arguments.champion_dir)
        logger.info("asking it about covered pictures")
        explanation = attribution.explain(_probabilities(model), test.images, test.labels)
        digests = {"test split": test.digest(), "weights": model.weights_digest()}
    metrics = {**asdict(quality.summary), **trial.metrics()}
    outcome = gate.judge(bounds, metrics)
    evaluation = {
        **describe(quality, metrics, outcome, model),
        **trial.findings(),
        "explanation": asdict(explanation),
        "data": data,
        "lineage": dict(arguments.lineage),
        "parameters": {**dict(arguments.parameter), **{each.criterion.name: f"{each.bound:g}" for each in bounds}},
        "digests": digests,
    }
    with publishing(arguments.output_dir) as staging:
        write_golden(staging / "golden", answers, test)
        write_samples(staging / "samples", test, model.classes)
        write_baselines(staging, quality, attribution.clarify(explanation))
        write_cards(staging, evaluation)
        write_report(staging / "report.html", evaluation, answers, test, model)
        _write_json(staging / "evaluation.json", evaluation)
    _say(outcome)


def _say(outcome: gate.Gate) -> None:
    for verdict in outcome.bounds:
        logger.info(gate.sentence(verdict))
    logger.info("the quality gate is %s", "passed" if outcome.passed else "not passed")


def describe(quality: Quality, metrics: Mapping[str, float], outcome: gate.Gate, model: Model) -> dict[str, Any]:
    """Lay out what ``evaluation.json`` says of the answers and the model, in JSON's types only."""
    from trafficsigns import installed, model_quality

    return {
        "metrics": dict(metrics),
        "classes": [
            {"class_id": row.class_id, "class_name": model.classes[row.class_id], **asdict(row)}
            for row in quality.classes
        ],
        "confusion_matrix": quality.confusion.tolist(),
        "reliability": [asdict(group) for group in quality.reliability],
        "gate": asdict(outcome),
        # Here too, because SageMaker Studio draws it from the file that the registry names.
        "multiclass_classification_metrics": model_quality.metrics(quality.confusion),
        "training": dict(model.training),
        "versions": installed.versions(),
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
    drawn = examples.drawn(len(test.images))
    stems = [Path(test.names[index]).stem for index in drawn]
    # Folders a class may hold files of one name.
    alike = len(set(stems)) < len(stems)
    for place, (index, stem) in enumerate(zip(drawn, stems, strict=True)):
        class_id, file = int(test.labels[index]), f"{place:02d}-{stem}.png" if alike else f"{stem}.png"
        (directory / file).write_bytes(test.images[index])
        rows.append({"file": file, "class_id": class_id, "class_name": classes[class_id]})
    _write_json(directory / "samples.json", rows)


def write_baselines(directory: Path, quality: Quality, analysis: Mapping[str, Any]) -> None:
    """Write what the registry keeps of a version for comparing what it will do with what it did here."""
    from trafficsigns import model_quality

    folders: dict[str, dict[str, Mapping[str, Any]]] = {
        "model-quality": {
            "statistics.json": model_quality.statistics(quality.confusion),
            "constraints.json": model_quality.constraints(quality.confusion),
        },
        "explainability": {"analysis.json": analysis},
    }
    for folder, files in folders.items():
        (directory / folder).mkdir()
        for name, content in files.items():
            _write_json(directory / folder / name, content)


def write_cards(directory: Path, evaluation: Mapping[str, Any]) -> None:
    """Write the model card: as SageMaker takes it, as its registry takes it, and as people read it."""
    from trafficsigns import card

    (directory / "model-card.json").write_text(card.text(card.content(evaluation)), encoding="utf-8")
    _write_json(directory / "package-card.json", {"content": card.text(card.of_package(evaluation))})
    (directory / "model-card.md").write_text(card.markdown(evaluation), encoding="utf-8")


def write_report(path: Path, evaluation: Mapping[str, Any], answers: Answers, test: TestSet, model: Model) -> None:
    """Write ``report.html``: the evaluation, with pictures of each class, of the worst mistakes and of the network."""
    from trafficsigns import attribution, examples, features, report

    candidates = examples.clearest(answers.probabilities, test.labels, count=8)
    pictures = [report.most_legible([test.images[index] for index in indices]) for indices in candidates]
    mistakes = []
    for index in examples.worst_mistakes(answers.probabilities, test.labels, test.names):
        true, answered = int(test.labels[index]), int(answers.class_id[index])
        reasons = attribution.reasons(_probabilities(model), test.images[index], answered, true)
        mistakes.append(
            report.Mistake(
                image=test.images[index],
                reasons=features.heat(attribution.look(test.images[index]), reasons),
                name=test.names[index],
                class_id=true,
                answered_id=answered,
                probability=float(answers.probability[index]),
            )
        )
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
        for path in sorted(staging.iterdir(), key=lambda written: (written.name == "evaluation.json", written.name)):
            if path.is_dir():
                shutil.rmtree(output_dir / path.name, ignore_errors=True)
            path.replace(output_dir / path.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _probabilities(model: Model) -> Answer:
    """Return the model as a function from encoded pictures, made here from test images, to finite probabilities."""
    import numpy as np

    def answer(pictures: Sequence[bytes]) -> Floats:
        probabilities = model.answer(pictures).probabilities
        if not np.isfinite(probabilities).all():
            raise StepError(
                f"{model.origin}: asked about a test image that is partly covered, the model answers a probability "
                "that is not a finite number; look for divisions by zero in its graph"
            )
        return probabilities

    return answer


def _measure(answers: Answers, test: TestSet, arguments: argparse.Namespace) -> Quality:
    from trafficsigns import metrics

    try:
        return metrics.measure(answers.probabilities, test.labels)
    except ValueError as error:
        places = f"model {arguments.model_dir}, test split {arguments.test_dir}"
        raise StepError(f"{places}: {error}; train and test on the output of one preprocessing") from error


def _check_classes(model: Model, data: Mapping[str, Any] | None, arguments: argparse.Namespace) -> None:
    """Refuse a model of other classes than the data's: its answers would be compared with the numbers of others."""
    if data is None or list(model.classes) == data["class_names"]:
        return
    pairs = enumerate(zip_longest(model.classes, data["class_names"]))
    number, (own, other) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    raise StepError(
        f"{arguments.model_dir}: the model has other classes than the data set: class {number} is {own!r} in its "
        f"training.json and {other!r} in {arguments.validation_dir / validation.OUTCOME}; "
        "train and test on the output of one preprocessing"
    )


def _write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def _bounds(arguments: argparse.Namespace) -> list[gate.Bound]:
    try:
        return [gate.Bound(criterion, getattr(arguments, criterion.name)) for criterion in gate.CRITERIA]
    except ValueError as error:
        raise StepError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = failures.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    processing = Path("/opt/ml/processing")
    folders = {
        "--model-dir": ("input/model", "folder with model.tar.gz, or an unpacked archive"),
        "--test-dir": ("input/test", "folder with the test split's TFRecord shards"),
        "--champion-dir": ("input/champion", "the champion's archive, or none.json; no folder: there is no champion"),
        "--validation-dir": ("input/validation", "what steps/validate.py wrote; no folder: the report does without"),
        "--output-dir": ("output/evaluation", "folder for what is written"),
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
    told = {
        "--lineage": "where the model comes from, for the report, such as commit=1a2b3c; repeatable",
        "--parameter": "a parameter of the pipeline that had a part in this, such as Seed=7; repeatable",
    }
    for option, meaning in told.items():
        parser.add_argument(option, type=_pair, action="append", default=[], metavar="KEY=VALUE", help=meaning)
    return parser


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key, value


if __name__ == "__main__":
    sys.exit(main())
