"""The infrastructure on the command line: CloudFormation stacks, shown before they are changed."""

from __future__ import annotations

import typer
from rich.table import Table

from infra import stacks
from pipeline import clouds, infrastructure
from pipeline.clouds import Cloud
from pipeline.commands.common import (
    DEFAULT_SETTINGS,
    CloudName,
    CloudOption,
    Exit,
    ExitCodeOption,
    SettingsOption,
    YesOption,
    console,
    say,
    told,
)
from pipeline.settings import load

app = typer.Typer(help="Deploy, compare and destroy the CloudFormation stacks.", no_args_is_help=True)


@app.command()
@told
def diff(
    exit_code: ExitCodeOption = False,
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Show what deploying would change, and change nothing."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings, role=False)
    differs = False
    for template in infrastructure.wanted(settings):
        if kinds := infrastructure.missing(settings, place, template):
            differs = True
            say(f"{infrastructure.name(settings, template)}: is not there; it may be made of {', '.join(kinds)}")
            continue
        planned = infrastructure.plan(settings, place, template)
        differs = differs or bool(planned.changes)
        try:
            _show(planned)
        finally:
            stacks.discard(place.client("cloudformation"), planned)
    if exit_code and differs:
        raise typer.Exit(Exit.DIFFERS)


@app.command()
@told
def drift(
    exit_code: ExitCodeOption = False,
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Show what was changed by hand in what the stacks made. Only AWS can tell."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings, role=False)
    found = []
    for template in infrastructure.wanted(settings):
        stack = infrastructure.name(settings, template)
        drifted = stacks.drift(place.client("cloudformation"), stack)
        found += drifted
        say(f"{stack}: {'; '.join(drifted) or 'as it was deployed'}")
    if exit_code and found:
        raise typer.Exit(Exit.DIFFERS)


@app.command()
@told
def deploy(
    yes: YesOption = False, cloud: CloudOption = CloudName.LOCAL, settings_file: SettingsOption = DEFAULT_SETTINGS
) -> None:
    """Bring the stacks up to their templates: first shown, then asked, then done."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings, role=False)
    for template in infrastructure.wanted(settings):
        planned = infrastructure.plan(settings, place, template)
        _show(planned)
        _apply(place, planned, yes)


def _apply(place: Cloud, planned: stacks.Plan, yes: bool) -> None:
    client = place.client("cloudformation")
    try:
        if planned.change_set is not None and not yes:
            typer.confirm(f"Deploy {planned.stack}?", abort=True)
    except typer.Abort:
        # Also for whoever interrupts the question, or cannot be asked.
        stacks.discard(client, planned)
        raise
    for key, value in stacks.apply(client, planned).items():
        say(f"  {key} = {value}")


def _show(planned: stacks.Plan) -> None:
    if planned.change_set is None:
        say(f"{planned.stack}: nothing would change")
        return
    view = Table(title=planned.stack, title_justify="left", expand=False)
    for heading in ("change", "resource", "type", "replaced"):
        view.add_column(heading)
    for change in planned.changes:
        view.add_row(change.action, change.logical_id, change.resource_type, change.replacement)
    console.print(view)


@app.command()
@told
def destroy(
    yes: YesOption = False, cloud: CloudOption = CloudName.LOCAL, settings_file: SettingsOption = DEFAULT_SETTINGS
) -> None:
    """Delete the stacks. The buckets, the key, the registry group and images stay, with all that they hold."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings, role=False)
    names = [infrastructure.name(settings, template) for template in reversed(infrastructure.TEMPLATES)]
    if not yes:
        typer.confirm(f"Delete the stacks {' and '.join(names)}? Data and models stay", abort=True)
    for stack in names:
        if stacks.destroy(place.client("cloudformation"), stack):
            say(f"{stack} deleted")
