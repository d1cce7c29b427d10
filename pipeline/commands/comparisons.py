"""Versions beside each other on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pipeline import clouds, comparison, executions, registry
from pipeline.clouds import Cloud
from pipeline.commands.common import (
    DEFAULT_SETTINGS,
    CloudName,
    CloudOption,
    JsonOption,
    SettingsOption,
    console,
    print_json,
    say,
    told,
)
from pipeline.comparison import Row
from pipeline.executions import ExecutionError
from pipeline.registry import Version
from pipeline.settings import load

CLASSES = 12
"""Classes that are shown; those with the greatest changes."""

ARTIFACTS = ("Report", "ModelCard", "GoldenImages")
"""Properties that say where files lie, and not where a version comes from."""

STYLES = {"better": "green", "worse": "red"}


@dataclass(frozen=True)
class Compared:
    """Everything that two versions differ in."""

    metrics: list[Row]
    classes: list[Row]
    parameters: list[Row]
    """Those that are no lineage."""
    lineage: list[Row]
    notes: list[str]
    """What the reader has to know about the rest."""


@told
def compare(
    first: Annotated[int, typer.Argument(help="Number of a version.")],
    second: Annotated[int, typer.Argument(help="Number of another one.")],
    cloud: CloudOption = CloudName.LOCAL,
    json_: JsonOption = False,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Show two versions side by side: metrics, the classes that changed, parameters, and where they come from."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    both = [registry.version(place, settings.model_package_group, number) for number in (first, second)]
    found = compared(place, both[0], both[1])
    if json_:
        print_json({"versions": [asdict(version) for version in both], **_plain(found)})
        return
    title = (
        f"{settings.model_package_group}: version {first} ({both[0].status}) and version {second} ({both[1].status})"
    )
    console.print(_table(title, found.metrics, both))
    if found.classes:
        console.print(_table(f"recall, {_of(found.classes)}", found.classes[:CLASSES], both))
    for name, rows in (("parameters that differ", found.parameters), ("where they come from", found.lineage)):
        if rows:
            console.print(_table(name, rows, both, numbers=False))
    for note in found.notes:
        say(("note", "yellow"), f": {note}")


def compared(cloud: Cloud, first: Version, second: Version) -> Compared:
    """Compare two versions. Raises ``RegistryError`` for one whose evaluation cannot be read."""
    evaluations = [registry.evaluation(cloud, version) for version in (first, second)]
    notes = _tested([evaluation.get("digests", {}).get("test split") for evaluation in evaluations])
    parameters: list[Row] = []
    try:
        given = [executions.parameters(cloud, version.execution) for version in (first, second) if version.execution]
        if len(given) == 2:
            parameters = [row for row in comparison.differences(*given) if row.name not in first.properties]
        else:
            notes.append("parameters cannot be compared: a version does not say which execution made it")
    except ExecutionError as error:
        notes.append(f"parameters cannot be compared: {error}")
    return Compared(
        comparison.metrics(*(evaluation["metrics"] for evaluation in evaluations)),
        comparison.classes(*(evaluation.get("classes", []) for evaluation in evaluations)),
        parameters,
        comparison.differences(*(_origin(version) for version in (first, second))),
        notes,
    )


def _tested(splits: Sequence[str | None]) -> list[str]:
    """Say, by the digests of the test splits, if figures were not measured on the same pictures."""
    if None in splits:
        return ["whether they were tested on the same pictures is not known"]
    different = "they were tested on different pictures: small differences between their figures say nothing"
    return [different] if len(set(splits)) > 1 else []


def _origin(version: Version) -> dict[str, str]:
    return {name: value for name, value in version.properties.items() if name not in ARTIFACTS}


def _plain(found: Compared) -> dict[str, Any]:
    rows = {name: value for name, value in vars(found).items() if name != "notes"}
    told = {name: [{**asdict(row), "difference": row.difference} for row in value] for name, value in rows.items()}
    return {**told, "notes": found.notes}


def _of(rows: Sequence[Row]) -> str:
    changed = f"{len(rows)} class{'es' if len(rows) > 1 else ''} changed"
    return changed if len(rows) <= CLASSES else f"the {CLASSES} that changed most of {len(rows)}"


def _table(title: str, rows: Sequence[Row], both: Sequence[Version], numbers: bool = True) -> Table:
    view = Table(title=escape(title), title_justify="left", expand=False)
    view.add_column("what", no_wrap=True)
    for version in both:
        view.add_column(str(version.number), justify="right" if numbers else "left", overflow="fold")
    if numbers:
        view.add_column("difference", justify="right")
    for row in rows:
        cells = [escape(row.name), *(escape(_text(value)) for value in (row.first, row.second))]
        view.add_row(*cells, *([_difference(row)] if numbers else []))
    return view


def _text(value: Any) -> str:
    if value is None:
        return "–"  # noqa: RUF001 - a dash for what is not there
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _difference(row: Row) -> str:
    if row.difference is None:
        return ""
    text = f"{row.difference:+.4g}" if row.difference else "="
    return f"[{STYLES[row.verdict]}]{text}[/] {row.verdict}" if row.verdict else text
