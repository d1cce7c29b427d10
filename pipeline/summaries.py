"""A run told in Markdown, for the summary of a CI job. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.executions import Snapshot, Step

SIGNS = {"at_least": "≥", "at_most": "≤"}


def execution(pipeline: str, snapshot: Snapshot) -> str:
    """Tell how an execution stands: its state, its steps, and why it failed."""
    rows = [(step.name, _state(step), _seconds(step), step.reason or step.detail) for step in snapshot.steps]
    told = [f"## {pipeline}: {snapshot.status}", f"`{snapshot.arn}`"]
    told += [f"> {_cell(snapshot.reason)}"] if snapshot.reason else []
    return _joined([*told, _table(("step", "state", "time", ""), rows)])


def evaluation(measured: Mapping[str, Any], address: str) -> str:
    """Tell what evaluation measured: the gate's bounds, the metrics, and where the report lies.

    ``measured`` is the content of ``evaluation.json``, ``address`` the S3 prefix that holds it.
    """
    verdict = "passed" if measured["gate"]["passed"] else "**not passed**"
    bounds = [
        (each["name"], _number(each["value"]), f"{SIGNS[each['comparison']]} {each['bound']:g}", _verdict(each))
        for each in measured["gate"]["bounds"]
    ]
    metrics = [(name, _number(value)) for name, value in measured["metrics"].items()]
    gate = _table(("bound", "measured", "wanted", ""), bounds)
    report = f"Report: `{address.rstrip('/')}/report.html`"
    return _joined([f"### Quality gate: {verdict}", gate, "### Test set", _table(("metric", "value"), metrics), report])


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(parts) + "\n"


def _verdict(bound: Mapping[str, Any]) -> str:
    return "passed" if bound["passed"] else "**missed**"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.5g}"


def _state(step: Step) -> str:
    return f"{step.status}, cached" if step.cached else step.status


def _seconds(step: Step) -> str:
    return "" if step.seconds is None else f"{step.seconds:.0f} s"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """Keep a text in its cell: reasons hold line breaks and bars of their own."""
    return " ".join(text.split()).replace("|", "\\|")
