"""The quality gate: measured qualities against their bounds, nothing else.

The comparisons are inclusive, as SageMaker's ``ConditionGreaterThanOrEqualTo`` and ``ConditionLessThanOrEqualTo`` are,
so that this verdict and the pipeline's condition on the same numbers always agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Comparison = Literal["at_least", "at_most"]


@dataclass(frozen=True)
class Criterion:
    """One quality that the gate asks for; adding one here adds its argument, its verdict and its line in the report."""

    name: str
    """The pipeline parameter that carries the bound, in PascalCase."""
    metric: str
    """The key of the measured value among the evaluation's metrics."""
    comparison: Comparison
    meaning: str
    """What is bounded, for help texts and reports."""
    highest: float = 1.0
    """The largest value that a bound can reasonably have; the smallest is 0."""

    @property
    def option(self) -> str:
        """The command-line option that carries the bound: ``--minimum-accuracy`` for ``MinimumAccuracy``."""
        return "-" + re.sub("(?=[A-Z])", "-", self.name).lower()


CRITERIA: tuple[Criterion, ...] = (
    # The interval's lower end, not the point: a lucky small test set must not open the gate.
    Criterion("MinimumAccuracy", "accuracy_lower", "at_least", "Accuracy, lower end of its 95 % interval"),
    Criterion("MinimumClassRecall", "worst_class_recall", "at_least", "Recall of the worst class"),
    Criterion("MaximumCalibrationError", "expected_calibration_error", "at_most", "Expected calibration error"),
    Criterion("MinimumCorruptedAccuracy", "mean_corrupted_accuracy", "at_least", "Mean accuracy on spoilt pictures"),
    Criterion("MaximumLatencyRatio", "latency_ratio", "at_most", "Time for one picture, beside LeNet-5's", 1000.0),
    Criterion("MaximumArchiveMegabytes", "archive_megabytes", "at_most", "Size of the model archive in MB", 5000.0),
    # Below the bound the champion's lead is more than chance would explain.
    Criterion("ChampionSignificance", "champion_p_value", "at_least", "McNemar's test against the champion, p-value"),
)


@dataclass(frozen=True)
class Bound:
    """A criterion with its bound.

    Raises ``ValueError`` for a bound outside of its range, where every model or none would pass.
    """

    criterion: Criterion
    bound: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.bound <= self.criterion.highest:
            raise ValueError(
                f"{self.criterion.name} is {self.bound}: a bound lies between 0 and {self.criterion.highest:g}"
            )


@dataclass(frozen=True)
class Verdict:
    """One bound's outcome, with the value that decided it."""

    name: str
    metric: str
    comparison: Comparison
    bound: float
    value: float | None
    passed: bool


@dataclass(frozen=True)
class Gate:
    """The outcome of all bounds; ``passed`` only if each one is."""

    passed: bool
    bounds: tuple[Verdict, ...]


def judge(bounds: Iterable[Bound], metrics: Mapping[str, float | int | None]) -> Gate:
    """Compare each bound with its metric.

    A metric that could not be measured (``None``) passes nothing. Raises ``KeyError`` for a metric that is not there at
    all, and ``ValueError`` without any bound: a gate that asks nothing is no gate.
    """
    verdicts = tuple(_verdict(bound, metrics[bound.criterion.metric]) for bound in bounds)
    if not verdicts:
        raise ValueError("a quality gate needs at least one bound")
    return Gate(passed=all(verdict.passed for verdict in verdicts), bounds=verdicts)


def _verdict(bound: Bound, value: float | int | None) -> Verdict:
    criterion = bound.criterion
    if value is None:
        passed = False
    elif criterion.comparison == "at_least":
        passed = value >= bound.bound
    else:
        passed = value <= bound.bound
    return Verdict(criterion.name, criterion.metric, criterion.comparison, bound.bound, value, passed)


def sentence(verdict: Verdict) -> str:
    """Say a verdict on one line, for logs."""
    value = "unknown" if verdict.value is None else f"{verdict.value:.4f}"
    outcome = "passed" if verdict.passed else "NOT passed"
    wanted = verdict.comparison.replace("_", " ")
    return f"{verdict.name}: {verdict.metric} is {value}, must be {wanted} {verdict.bound:.4f}: {outcome}"
