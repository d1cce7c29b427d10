"""The evaluation as one HTML file that needs nothing else: its numbers are ``evaluation.json``'s, its charts inline."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from trafficsigns import charts, diagrams, gate

_TEMPLATE = Path(__file__).with_name("report.html.j2")

_LARGEST_SIDE = 96
"""Pixels of a picture's longer side; originals of 250 pixels would make a report of many megabytes."""

_CONFUSIONS = 12
"""Pairs of classes that the table of confusions lists."""


@dataclass(frozen=True)
class Mistake:
    """A wrongly answered test image."""

    image: bytes
    """An encoded PNG file."""
    name: str
    class_id: int
    answered_id: int
    probability: float
    """Of the wrong answer."""
    reasons: bytes
    """A PNG file: the picture with what speaks for the wrong answer, and for the right one."""


@dataclass(frozen=True)
class Stage:
    """What one stage of the network makes of an image, or looks for."""

    name: str
    image: bytes
    """An encoded PNG file."""


@dataclass(frozen=True)
class Confusion:
    """Two classes of which one was answered for the other."""

    class_id: int
    answered_id: int
    count: int
    share: float
    """Of the true class's images."""


def render(
    evaluation: Mapping[str, Any],
    pictures: Sequence[bytes | None],
    mistakes: Sequence[Mistake],
    stages: Sequence[Stage] = (),
) -> str:
    """Render the report.

    Takes the content of ``evaluation.json``, one encoded PNG for each class (``None`` for a class without test images),
    the mistakes to show, worst first, and pictures of the network's stages, first to last. The same input gives the
    same text: there is no date in it.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "decimal": decimal,
        "count": count,
        "setting": setting,
        "signed": signed,
        "data_uri": data_uri,
        "embedded": _embedded,
    }
    classes = evaluation["classes"]
    seen = [row for row in classes if row["support"]]
    return environment.get_template(_TEMPLATE.name).render(
        evaluation,
        pictures=[None if picture is None else data_uri(picture) for picture in pictures],
        mistakes=mistakes,
        stages=[(stage.name, _embedded(stage.image)) for stage in stages],
        by_recall=sorted(seen, key=lambda row: (row["recall"], row["class_id"])),
        unseen=[row for row in classes if not row["support"]],
        confusions=worst_confusions(evaluation["confusion_matrix"]),
        wrong=_wrong(evaluation["confusion_matrix"]),
        meanings={criterion.name: criterion.meaning for criterion in gate.CRITERIA},
        bullets=_bullets(evaluation),
        curves=_curves(evaluation["training"]),
        matrix=charts.confusion(evaluation["confusion_matrix"], [row["class_name"] for row in classes]),
        diagram=charts.reliability(evaluation["reliability"]),
        spoilt=_by_kind(evaluation["robustness"]["corrupted"]),
        severities=_severities(evaluation["robustness"]),
        regions=diagrams.regions({part["name"]: part["mean"] for part in evaluation["explanation"]["parts"]}),
        histograms=[diagrams.histogram(measure) for measure in (evaluation["data"] or {}).get("measures", ())],
        balance=_balance(evaluation),
        names=[row["class_name"] for row in classes],
    )


def _by_kind(corrupted: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Gather accuracies on spoilt pictures by kind, the mildest first."""
    kinds: dict[str, list[float]] = {}
    for each in sorted(corrupted, key=lambda one: one["severity"]):
        kinds.setdefault(each["kind"], []).append(each["accuracy"])
    return kinds


def _severities(robustness: Mapping[str, Any]) -> list[Markup]:
    """Draw the share of right answers against severity for each kind, all on one scale."""
    clean, kinds = robustness["clean"], _by_kind(robustness["corrupted"])
    low = diagrams.lowest([clean, *(accuracy for accuracies in kinds.values() for accuracy in accuracies)])
    return [diagrams.severities(kind, [clean, *accuracies], low) for kind, accuracies in kinds.items()]


def _balance(evaluation: Mapping[str, Any]) -> Markup | None:
    """Draw how many training images each class has, if that is known."""
    if not evaluation["data"]:
        return None
    images = evaluation["data"]["training_images"]
    return diagrams.balance([(row["class_name"], images.get(str(row["class_id"]), 0)) for row in evaluation["classes"]])


def worst_confusions(matrix: Sequence[Sequence[int]]) -> list[Confusion]:
    """List the most frequent errors of a confusion matrix, largest count first."""
    pairs = [
        Confusion(true, answered, errors, errors / sum(row))
        for true, row in enumerate(matrix)
        for answered, errors in enumerate(row)
        if errors and true != answered
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share, pair.class_id))[:_CONFUSIONS]


def most_legible(images: Sequence[bytes]) -> bytes | None:
    """Pick from encoded images the one whose grey values carry most entropy; ``None`` from none.

    A sign may be told apart with certainty in the dark or against the sun, but such a picture shows nobody the sign.
    """

    def entropy(image: bytes) -> float:
        with Image.open(io.BytesIO(image)) as picture:
            return picture.convert("L").entropy()

    return max(images, key=entropy, default=None)


def data_uri(image: bytes) -> str:
    """Encode a PNG file as a data URI, made smaller if it is larger than the report shows it."""
    with Image.open(io.BytesIO(image)) as picture:
        if max(picture.size) > _LARGEST_SIDE:
            picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
            buffer = io.BytesIO()
            picture.save(buffer, format="PNG", optimize=True)
            image = buffer.getvalue()
    return _embedded(image)


def _embedded(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def percent(value: float | None, digits: int = 2) -> str:
    """Write a share as a percentage; a dash for what was not measured."""
    # Rounding must not turn one error in a hundred thousand into a perfect score.
    if value is not None and value < 1 and round(100 * value, digits) == 100:
        return f">\u202f{100 - 10**-digits:.{digits}f}\u202f%"
    return "\u2013" if value is None else f"{100 * value:.{digits}f}\u202f%"


def decimal(value: float | None, digits: int = 4) -> str:
    """Write a number with a fixed count of digits; a dash for what was not measured."""
    return "\u2013" if value is None else f"{value:.{digits}f}"


def signed(value: float) -> str:
    """Write a share of a probability with its sign."""
    return f"{value:+.3f}".replace("-", "\u2212")


def count(value: int) -> str:
    """Write a count with its thousands set apart."""
    return f"{value:,}"


def setting(value: object) -> str:
    """Write a setting of the training: a number briefly, large counts with their thousands set apart."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return count(value) if type(value) is int and value >= 10_000 else str(value)


def _wrong(matrix: Sequence[Sequence[int]]) -> int:
    return sum(map(sum, matrix)) - sum(row[index] for index, row in enumerate(matrix))


def _bullets(evaluation: Mapping[str, Any]) -> list[Markup]:
    """Draw each bound; only the accuracy has an interval, whose lower end is what its bound looks at."""
    upper = {"accuracy_lower": evaluation["metrics"]["accuracy_upper"]}
    return [charts.bullet(verdict, upper.get(verdict["metric"])) for verdict in evaluation["gate"]["bounds"]]


def _curves(training: Mapping[str, Any]) -> list[Markup]:
    """Draw the learning curves, if the training left a history."""
    history = training.get("history") or []
    if not history:
        return []
    epochs = [int(row["epoch"]) for row in history]

    def panel(title: str, key: str, top: float | None) -> Markup:
        series = [
            charts.Series("training", "training", [row.get(key) for row in history]),
            charts.Series("validation", "validation", [row.get(f"validation_{key}") for row in history]),
        ]
        return charts.lines(title, series, epochs, training.get("selected_epoch"), top)

    return [panel("Loss", "loss", None), panel("Accuracy", "accuracy", 1.0)]
