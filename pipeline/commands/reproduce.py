"""A registered version made anew, on the command line."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pipeline import clouds, lifecycle, registry, reproduction
from pipeline.commands.common import (
    DEFAULT_SETTINGS,
    CloudName,
    CloudOption,
    Exit,
    JsonOption,
    SettingsOption,
    console,
    errors,
    print_json,
    say,
    told,
)
from pipeline.commands.views import ExecutionView
from pipeline.reproduction import Fact
from pipeline.settings import load

DIGITS = 16
"""Of a digest, on a terminal."""


@told
def reproduce(
    version: Annotated[int, typer.Argument(help="Number of the version.")],
    cloud: CloudOption = CloudName.LOCAL,
    json_: JsonOption = False,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Make a version anew from its own definition and parameters, and compare data, weights and metrics.

    Nothing is registered or deployed. Exit code 5 if something differs, 3 if the execution failed.
    """
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    found = registry.version(place, settings.model_package_group, version)
    arn = reproduction.start(settings, place, found)
    # What a machine reads is one document.
    shown = errors if json_ else console
    shown.print(f"started {arn}, from the definition of {found.execution}", highlight=False, soft_wrap=True)
    with ExecutionView(place, shown) as view:
        snapshot = lifecycle.follow(place, arn, view)
    if snapshot.status != "Succeeded":
        shown.print(f"[bold red]{snapshot.status}[/]: {escape(snapshot.reason)}", highlight=False, soft_wrap=True)
        raise typer.Exit(Exit.FAILED)
    facts = reproduction.compare(place, found, snapshot)
    differing = [fact for fact in facts if fact.judged and not fact.same]
    if json_:
        told_ = [{**asdict(fact), "same": fact.same} for fact in facts]
        print_json({"PipelineExecutionArn": arn, "reproduced": not differing, "facts": told_})
    else:
        console.print(_table(version, facts))
        _conclude(version, differing)
    if differing:
        raise typer.Exit(Exit.DIFFERS)


def _conclude(version: int, differing: list[Fact]) -> None:
    if not differing:
        say(f"version {version} is reproduced: data, weights and metrics are the same")
        return
    names = ", ".join(fact.name for fact in differing)
    say(
        (f"version {version} is not reproduced", "bold red"),
        f", different are: {names}\n"
        "docs/model.md, Determinism, says what may be behind it where only weights and metrics differ",
    )


def _table(version: int, facts: list[Fact]) -> Table:
    view = Table(title=f"version {version} and what it became today", title_justify="left", expand=False)
    view.add_column("what", no_wrap=True)
    for heading in ("registered", "reproduced", ""):
        view.add_column(heading, no_wrap=True)
    for fact in facts:
        view.add_row(fact.name, _text(fact.registered), _text(fact.reproduced), _verdict(fact))
    return view


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value[:DIGITS]
    return "none" if value is None else f"{value:.6g}"


def _verdict(fact: Fact) -> str:
    if not fact.judged:
        return "need not be the same"
    return "[green]same[/]" if fact.same else "[bold red]differs[/]"
