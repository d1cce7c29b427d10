"""The endpoint on the command line."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from pipeline import clouds, endpoints
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
from pipeline.settings import load

app = typer.Typer(help="Describe and delete the endpoint.", no_args_is_help=True)


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
        view.add_row("last failure", described["FailureReason"])
    console.print(view)


@app.command()
@told
def delete(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
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
