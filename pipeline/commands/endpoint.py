"""The endpoint on the command line."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipeline import approvals, clouds, endpoints, executions, lifecycle, registry
from pipeline.clouds import Cloud
from pipeline.commands.common import (
    DEFAULT_SETTINGS,
    CloudName,
    CloudOption,
    Exit,
    ExitCodeOption,
    JsonOption,
    SettingsOption,
    YesOption,
    console,
    print_json,
    say,
    told,
)
from pipeline.commands.views import ExecutionView
from pipeline.settings import Settings, load

app = typer.Typer(help="Describe, watch, roll back and delete the endpoint.", no_args_is_help=True)


@app.command()
@told
def describe(
    cloud: CloudOption = CloudName.LOCAL, json_: JsonOption = False, settings_file: SettingsOption = DEFAULT_SETTINGS
) -> None:
    """Show the endpoint: its state, and which version it serves."""
    settings = load(settings_file)
    described = endpoints.describe(clouds.connect(cloud, settings), settings.endpoint)
    if json_:
        print_json(described)
        return
    view = Table(title=f"endpoint {settings.endpoint}", title_justify="left", show_header=False)
    view.add_row("state", described["EndpointStatus"])
    view.add_row("serves", described["ModelPackageArn"])
    view.add_row("configuration", described["EndpointConfigName"])
    view.add_row("since", f"{described['LastModifiedTime']:%Y-%m-%d %H:%M:%S}")
    if "FailureReason" in described:
        view.add_row("last failure", escape(described["FailureReason"]))
    console.print(view)


@app.command()
@told
def check(
    exit_code: ExitCodeOption = False,
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Compare the version that the endpoint serves with the newest approved one."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    served = registry.by_arn(place, endpoints.live(place, settings.endpoint))
    wanted = registry.newest_approved(place, settings.model_package_group)
    right = wanted is not None and wanted.arn == served.arn
    newest = "no version is approved" if wanted is None else f"version {wanted.number} is the newest approved one"
    say(f"version {served.number} ({served.status}) serves; {newest}")
    if exit_code and not right:
        raise typer.Exit(Exit.DIFFERS)


@app.command()
@told
def watch(
    version: Annotated[
        int | None,
        typer.Option("--version", help="Until this version serves. Exit code 3 if it does not.", show_default="none"),
    ] = None,
    minutes: Annotated[float, typer.Option("--minutes", help="How long to wait for --version.", min=0)] = 60.0,
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Follow an update of the endpoint, step by step. Exit code 3 if it failed or was rolled back."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    if version is not None:
        _watch_version(settings, place, version, minutes)
        return
    reason = ""
    for described, state in endpoints.watch(place, settings.endpoint, lifecycle.WATCH_SECONDS[place.kind]):
        say(f"{datetime.now():%H:%M:%S}  {state}")
        reason = described.get("FailureReason", "")
    if reason:
        say(("last failure", "bold red"), f": {reason}")
        raise typer.Exit(Exit.FAILED)


def _watch_version(settings: Settings, place: Cloud, version: int, minutes: float) -> None:
    arn = registry.version(place, settings.model_package_group, version).arn
    try:
        every = lifecycle.WATCH_SECONDS[place.kind]
        for state in endpoints.until_served(place, settings.endpoint, arn, every, minutes * 60):
            say(f"{datetime.now():%H:%M:%S}  {state}")
    except endpoints.EndpointError as error:
        say((f"version {version} does not serve", "bold red"), f": {error}")
        raise typer.Exit(Exit.FAILED) from error
    say(f"endpoint {settings.endpoint} serves version {version}")


@app.command()
@told
def rollback(
    reason: Annotated[str, typer.Option("--reason", help="Why; kept with the version.")] = "",
    yes: YesOption = False,
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Reject the version that serves; the newest one that is still approved serves next."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    live = registry.by_arn(place, endpoints.live(place, settings.endpoint))
    successor = registry.newest_approved(place, settings.model_package_group, but=live.number)
    if successor is None:
        raise endpoints.EndpointError(
            f"version {live.number} serves and no other is approved: approve one first, or `signs endpoint delete`"
        )
    if not yes:
        typer.confirm(f"Reject version {live.number}? Version {successor.number} will serve", abort=True)
    approvals.decide(place, live, "Rejected", f"rolled back: {reason}" if reason else "rolled back")
    # Where the approval rule is deployed it starts the pipeline too; both end the same.
    arn = executions.start(place, settings.deployment_pipeline, {})
    with ExecutionView(place, console) as view:
        snapshot = lifecycle.follow(place, arn, view)
    raise typer.Exit(Exit.OK if snapshot.status == "Succeeded" else Exit.FAILED)


@app.command()
@told
def delete(
    yes: YesOption = False,
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Delete the endpoint; registered models stay."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    endpoints.describe(place, settings.endpoint)
    if not yes:
        typer.confirm(f"Delete endpoint {settings.endpoint}? Nothing will answer until a model is deployed", abort=True)
    endpoints.delete(place, settings.endpoint)
    say(f"endpoint {settings.endpoint} deleted")
