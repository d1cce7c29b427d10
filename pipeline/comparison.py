"""Two registered versions side by side: metrics, classes, parameters, and where they come from. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.gate import GATE

LOWER_IS_BETTER = frozenset(
    {
        "negative_log_likelihood",
        *(criterion.metric for criterion in GATE.values() if criterion.comparison == "at_most"),
    }
)
NEITHER_IS_BETTER = frozenset({"images", "champion_p_value", "latency_p50_milliseconds", "latency_p99_milliseconds"})
"""How many pictures there were, how each did beside a champion of its own, and the milliseconds of a machine."""


@dataclass(frozen=True)
class Row:
    """One thing that both versions have, or one of them."""

    name: str
    first: Any
    second: Any
    verdict: str = ""
    """``better`` or ``worse``, of the second; empty where neither can be said."""

    @property
    def difference(self) -> float | None:
        """The second less the first, where both are numbers."""
        return _less(self.second, self.first)


def _less(one: Any, other: Any) -> float | None:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one - other
    return None


def metrics(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Row]:
    """Compare the metrics of two evaluations, by their names in ``evaluation.json``."""
    return [_judged(name, first.get(name), second.get(name), name) for name in _names(first, second)]


def classes(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Compare the recall of each class, by its name: those that changed, the greatest change first."""
    before, after = ({row["class_name"]: row["recall"] for row in rows} for rows in (first, second))
    rows = [_judged(name, before.get(name), after.get(name), "recall") for name in _names(before, after)]
    return sorted((row for row in rows if row.first != row.second), key=_change, reverse=True)


def _change(row: Row) -> float:
    # A class that only one of the two knows is the greatest change there is.
    return 2.0 if row.difference is None else abs(row.difference)


def _judged(name: str, first: Any, second: Any, metric: str) -> Row:
    difference = _less(second, first)
    if not difference or metric in NEITHER_IS_BETTER:
        return Row(name, first, second)
    return Row(name, first, second, "worse" if (difference > 0) == (metric in LOWER_IS_BETTER) else "better")


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Row]:
    """Return what two mappings do not have in common."""
    rows = [Row(name, first.get(name), second.get(name)) for name in _names(first, second)]
    return [row for row in rows if row.first != row.second]


def _names(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return [*first, *(name for name in second if name not in first)]
