"""What a classifier's probabilities are worth, measured against the true labels: pure functions, no files.

The interval is SciPy's, and what scikit-learn has is scikit-learn's. Computed here are the calibration error, which
neither has, and the top-five accuracy, whose function there takes no two-class scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

CALIBRATION_BINS = 15
"""Equal-width bins of the calibration error, as in Guo et al. (2017)."""

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Summary:
    """The qualities of a model as single numbers; all but ``images`` and the likelihood lie between 0 and 1."""

    images: int
    accuracy: float
    accuracy_lower: float
    accuracy_upper: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    worst_class_recall: float
    top5_accuracy: float
    negative_log_likelihood: float
    expected_calibration_error: float


@dataclass(frozen=True)
class ClassQuality:
    """One class's qualities; ``None`` for a class without test images, of which nothing is known."""

    class_id: int
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Bin:
    """The answers whose top probability lies above ``lower`` and up to ``upper``; ``None`` where there are none."""

    lower: float
    upper: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Quality:
    """Everything measured on one test set."""

    summary: Summary
    classes: tuple[ClassQuality, ...]
    confusion: Integers
    """Counts, int64 ``[classes, classes]``: true class by row, answered class by column."""
    reliability: tuple[Bin, ...]


def measure(probabilities: Floats, labels: Integers) -> Quality:
    """Measure a model's answers on a test set.

    Takes float ``[images, classes]``, rows summing to 1, and integers ``[images]``. Averages over classes leave out
    classes without test images; a class that is never answered has precision 0. The accuracy's interval is Wilson's at
    95 %. Raises ``ValueError`` when the two do not fit each other or a row is not a probability distribution.
    """
    _check(probabilities, labels)
    answers = probabilities.argmax(axis=1)
    correct = answers == labels
    every = np.arange(probabilities.shape[1])
    confusion = confusion_matrix(labels, answers, labels=every)
    precision, recall, f1, support = precision_recall_fscore_support(labels, answers, labels=every, zero_division=0)
    seen = support > 0
    reliability = calibrate(probabilities.max(axis=1), correct)
    interval = binomtest(int(correct.sum()), len(labels)).proportion_ci(confidence_level=0.95, method="wilson")
    summary = Summary(
        images=len(labels),
        accuracy=float(correct.mean()),
        accuracy_lower=float(interval.low),
        accuracy_upper=float(interval.high),
        macro_precision=float(precision[seen].mean()),
        macro_recall=float(recall[seen].mean()),
        macro_f1=float(f1[seen].mean()),
        worst_class_recall=float(recall[seen].min()),
        top5_accuracy=_top_accuracy(probabilities, labels, 5),
        negative_log_likelihood=float(log_loss(labels, probabilities, labels=every)),
        expected_calibration_error=calibration_error(reliability),
    )
    classes = tuple(
        ClassQuality(int(c), int(support[c]), *map(float, (precision[c], recall[c], f1[c])))
        if seen[c]
        else ClassQuality(int(c), 0, None, None, None)
        for c in every
    )
    return Quality(summary, classes, confusion, reliability)


def calibrate(confidence: Floats, correct: npt.NDArray[np.bool_], bins: int = CALIBRATION_BINS) -> tuple[Bin, ...]:
    """Group answers by their top probability and compare it with how often they were right.

    Takes floats ``[images]`` in 0 to 1 and booleans ``[images]``.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    # Bins are open below and closed above, so that a probability of exactly 1 belongs to the last one.
    members = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    groups = []
    for index in range(bins):
        inside = members == index
        count = int(inside.sum())
        groups.append(
            Bin(
                lower=float(edges[index]),
                upper=float(edges[index + 1]),
                count=count,
                confidence=float(confidence[inside].mean(dtype=np.float64)) if count else None,
                accuracy=float(correct[inside].mean()) if count else None,
            )
        )
    return tuple(groups)


def calibration_error(reliability: tuple[Bin, ...]) -> float:
    """Average the distance between confidence and accuracy over answers: the expected calibration error.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """
    total = sum(group.count for group in reliability)
    return sum(
        group.count / total * abs(group.accuracy - group.confidence)
        for group in reliability
        if group.accuracy is not None and group.confidence is not None
    )


def _check(probabilities: Floats, labels: Integers) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ValueError(f"probabilities {probabilities.shape} do not fit labels {labels.shape}")
    images, classes = probabilities.shape
    if images == 0:
        raise ValueError("there is no image to measure on")
    if labels.min() < 0 or labels.max() >= classes:
        outside = labels[(labels < 0) | (labels >= classes)][0]
        raise ValueError(f"label {outside} lies outside the model's {classes} classes (0 to {classes - 1})")
    if not np.isfinite(probabilities).all():
        broken = int((~np.isfinite(probabilities)).any(axis=1).sum())
        raise ValueError(f"{broken} of {images} answers hold a probability that is not a finite number")
    if probabilities.min() < 0 or np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1).max() > 1e-3:
        raise ValueError("an answer's probabilities are negative or do not sum to 1: is the softmax missing?")


def _top_accuracy(probabilities: Floats, labels: Integers, k: int) -> float:
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((best == labels[:, np.newaxis]).any(axis=1).mean())
