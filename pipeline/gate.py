"""The quality gate on this side of the definition: its bounds, and which of them a measured model misses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline import parameters
from pipeline.settings import Settings


class Criterion(NamedTuple):
    """One quality that the gate asks for."""

    metric: str
    """Its key among the metrics of ``evaluation.json``."""
    comparison: str
    """``at_least`` or ``at_most``."""
    words: str
    """For messages."""


GATE: Mapping[str, Criterion] = {
    "MinimumAccuracy": Criterion("accuracy_lower", "at_least", "accuracy (lower end)"),
    "MinimumClassRecall": Criterion("worst_class_recall", "at_least", "worst class recall"),
    "MaximumCalibrationError": Criterion("expected_calibration_error", "at_most", "calibration error"),
    "MinimumCorruptedAccuracy": Criterion("mean_corrupted_accuracy", "at_least", "accuracy on spoilt pictures"),
    "MaximumLatencyRatio": Criterion("latency_ratio", "at_most", "time beside LeNet-5's"),
    "MaximumArchiveMegabytes": Criterion("archive_megabytes", "at_most", "archive in MB"),
    "ChampionSignificance": Criterion("champion_p_value", "at_least", "p-value against the champion"),
}
"""The gate's criteria by the pipeline parameter that carries the bound. ``steps/trafficsigns/gate.py`` has them too,
since steps and pipeline import nothing of each other; a contract test holds the two together."""


@dataclass(frozen=True)
class Missed:
    """A bound that a model does not keep."""

    name: str
    value: float | None
    """``None`` where it was not measured."""
    bound: float

    def __str__(self) -> str:
        """Say it with both numbers: ``worst class recall 0.31 needs 0.4``."""
        criterion = GATE[self.name]
        value = "was not measured and" if self.value is None else f"{self.value:.5g}"
        verb = "needs" if criterion.comparison == "at_least" else "may be"
        return f"{criterion.words} {value} {verb} {self.bound:g}"


def bounds(settings: Settings) -> dict[str, float]:
    """Return the bounds that the settings hold, by parameter."""
    return {name: parameters.default(settings, name) for name in GATE}


def missed(wanted: Mapping[str, float], metrics: Mapping[str, Any]) -> list[Missed]:
    """Return the bounds that metrics do not keep; one that was not measured is not kept.

    The comparisons are inclusive, as the pipeline's conditions are.
    """
    found = ((name, metrics.get(GATE[name].metric), bound) for name, bound in wanted.items())
    return [Missed(name, value, bound) for name, value, bound in found if not _keeps(name, value, bound)]


def _keeps(name: str, value: float | None, bound: float) -> bool:
    if value is None:
        return False
    return value >= bound if GATE[name].comparison == "at_least" else value <= bound


def told(verdicts: Iterable[Mapping[str, Any]]) -> list[Missed]:
    """Return the missed ones of the verdicts that ``evaluation.json`` holds."""
    return [Missed(each["name"], each["value"], each["bound"]) for each in verdicts if not each["passed"]]
