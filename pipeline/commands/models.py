"""The model registry on the command line."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipeline import clouds, registry
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
from pipeline.registry import RegistryError
from pipeline.settings import ROOT, load

app = typer.Typer(help="List, show, approve and reject registered models.", no_args_is_help=True)

VersionArgument = Annotated[int, typer.Argument(help="Number of the version.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept with the version.")]
COLORS = {"Approved": "green", "Rejected": "red", "PendingManualApproval": "yellow"}


@app.command("list")
@told
def list_(
    cloud: CloudOption = CloudName.LOCAL, json_: JsonOption = False, settings_file: SettingsOption = DEFAULT_SETTINGS
) -> None:
    """List the registered versions, newest first."""
    settings = load(settings_file)
    found = registry.versions(clouds.connect(cloud, settings), settings.model_package_group)
    if json_:
        print_json([asdict(version) for version in found])
        return
    if not found:
        say("no model is registered yet: run `signs run`")
        return
    view = Table(title=settings.model_package_group, title_justify="left", expand=False)
    for heading in ("version", "status", "registered", "commit", "reason"):
        view.add_column(heading)
    for version in found:
        status = f"[{COLORS.get(version.status, '')}]{version.status}[/]"
        registered = f"{version.created:%Y-%m-%d %H:%M}"
        view.add_row(
            str(version.number), status, registered, version.properties.get("Commit", ""), escape(version.description)
        )
    console.print(view)


@app.command()
@told
def show(
    version: VersionArgument,
    cloud: CloudOption = CloudName.LOCAL,
    json_: JsonOption = False,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Show one version: its metrics, where it came from, where its files lie."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    found = registry.version(place, settings.model_package_group, version)
    metrics = registry.evaluation(place, found)["metrics"]
    if json_:
        print_json({**asdict(found), "metrics": metrics})
        return
    view = Table(title=f"{settings.model_package_group} version {version}: {found.status}", title_justify="left")
    view.add_column("what")
    view.add_column("value", overflow="fold")
    facts = {"registered": f"{found.created:%Y-%m-%d %H:%M}", **found.properties, "Archive": found.model}
    for key, value in {**facts, **{name: f"{number:.5g}" for name, number in metrics.items()}}.items():
        view.add_row(key, escape(str(value)))
    console.print(view)


@app.command()
@told
def approve(
    version: VersionArgument,
    reason: ReasonOption = "",
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Approve a version; `signs deploy` then makes the endpoint serve it."""
    _decide(version, "Approved", reason, cloud, settings_file)


@app.command()
@told
def reject(
    version: VersionArgument,
    reason: ReasonOption = "",
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Reject a version."""
    _decide(version, "Rejected", reason, cloud, settings_file)


def _decide(number: int, status: str, reason: str, cloud: CloudName, settings_file: SettingsOption) -> None:
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    found = registry.version(place, settings.model_package_group, number)
    registry.decide(place, found, status, reason)
    say(f"version {number} is {status}")


@told
def explain(
    image: Annotated[Path, typer.Argument(help="A PNG or JPEG file.")],
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Folder with model.tar.gz.", show_default="the newest approved version"),
    ] = None,
    output: Annotated[Path, typer.Option("--output", help="The PNG file to write.")] = Path("explanation.png"),
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Draw what the network has learned: its filters, and its feature maps for one picture."""
    with tempfile.TemporaryDirectory(prefix="model-") as scratch:
        if model is None:
            settings = load(settings_file)
            place = clouds.connect(cloud, settings)
            model = Path(scratch)
            registry.download(place, registry.approved(place, settings.model_package_group), model)
        script = [sys.executable, str(ROOT / "steps" / "explain.py"), "--model-dir", str(model)]
        command = [*script, "--image", str(image), "--output", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise RegistryError(lines[-1] if lines else f"steps/explain.py ended with exit code {done.returncode}")
    typer.echo(done.stdout, nl=False)
