"""The model registry on the command line."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import webbrowser
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipeline import approvals, clouds, gate, registry
from pipeline.clouds import Cloud
from pipeline.commands import comparisons
from pipeline.commands.common import (
    DEFAULT_SETTINGS,
    CloudName,
    CloudOption,
    JsonOption,
    SettingsOption,
    console,
    errors,
    print_json,
    say,
    told,
)
from pipeline.registry import RegistryError, Version
from pipeline.settings import ROOT, Settings, load

app = typer.Typer(help="List, show, compare, open, approve and reject registered models.", no_args_is_help=True)

VersionArgument = Annotated[int, typer.Argument(help="Number of the version.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept with the version, with who and when.")]
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
    for heading in ("version", "status", "registered", "commit", "why, and by whom"):
        view.add_column(heading, overflow="fold")
    for version in found:
        status = f"[{COLORS.get(version.status, '')}]{version.status}[/]"
        registered = f"{version.created:%Y-%m-%d %H:%M}"
        # What was decided before stands in `show`.
        latest = version.description.partition(approvals.EARLIER)[0]
        view.add_row(str(version.number), status, registered, version.properties.get("Commit", ""), escape(latest))
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
    try:
        metrics, lacking = registry.evaluation(place, found)["metrics"], ""
    except RegistryError as error:
        # Whoever is to approve it all the same should see the rest.
        metrics, lacking = None, str(error)
    if json_:
        print_json({**asdict(found), "metrics": metrics})
        return
    view = Table(title=f"{settings.model_package_group} version {version}: {found.status}", title_justify="left")
    view.add_column("what")
    view.add_column("value", overflow="fold")
    facts = {"registered": f"{found.created:%Y-%m-%d %H:%M}", **found.properties, "Archive": found.model}
    decided = {"decided": found.description} if found.description else {}
    judged = {"evaluation": lacking} if metrics is None else _judged(settings, metrics)
    for key, value in {**facts, **decided, **judged}.items():
        view.add_row(key, escape(str(value)))
    console.print(view)


def _judged(settings: Settings, metrics: Mapping[str, float | None]) -> dict[str, str]:
    """Hold a version's metrics against today's bounds, and lay them out."""
    missed = [str(each) for each in gate.missed(gate.bounds(settings), metrics)]
    numbers = {name: "none" if number is None else f"{number:.5g}" for name, number in metrics.items()}
    return {"today's bounds": f"missed: {'; '.join(missed)}" if missed else "all kept", **numbers}


app.command()(comparisons.compare)


@app.command("open")
@told
def open_(
    version: VersionArgument,
    print_: Annotated[bool, typer.Option("--print", help="Only say where the file lies; start no browser.")] = False,
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Fetch a version's report and open it in the browser; where there is none, say where the file lies."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    found = registry.version(place, settings.model_package_group, version)
    file = registry.report(place, found, settings.state_dir / "reports" / place.kind / str(version))
    if not print_ and not webbrowser.open(file.as_uri()):
        errors.print("no browser could be started", highlight=False)
    typer.echo(file)


@app.command()
@told
def approve(
    version: VersionArgument,
    reason: ReasonOption = "",
    force: Annotated[
        bool, typer.Option("--force", help="Even if today's bounds would turn it down, or it has no evaluation.")
    ] = False,
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Approve a version; the approval rule, or `signs deploy`, then makes the endpoint serve it.

    Who did it, when and why is kept with the version. One that the bounds of the settings would turn down today is
    approved with --force only.
    """
    settings, place, found = _found(version, cloud, settings_file)
    _tell(version, "Approved", approvals.approve(settings, place, found, reason, force))


@app.command()
@told
def reject(
    version: VersionArgument,
    reason: ReasonOption = "",
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Reject a version. Who did it, when and why is kept with it; if it serves, it is said which one serves next."""
    settings, place, found = _found(version, cloud, settings_file)
    _tell(version, "Rejected", approvals.reject(settings, place, found, reason))


def _found(number: int, cloud: CloudName, settings_file: Path) -> tuple[Settings, Cloud, Version]:
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    return settings, place, registry.version(place, settings.model_package_group, number)


def _tell(number: int, status: str, more: list[str]) -> None:
    say(f"version {number} is {status}")
    for line in more:
        say(line)


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
            version = registry.approved(place, settings.model_package_group)
            model = Path(scratch) / f"version-{version.number}"
            model.mkdir()
            registry.download(place, version, model)
        script = [sys.executable, str(ROOT / "steps" / "explain.py"), "--model-dir", str(model)]
        command = [*script, "--image", str(image), "--output", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        # Its last line is its reason, unless something else ended it: then TensorFlow's chatter stands there.
        lines = done.stderr.strip().splitlines() if done.returncode == 1 else ()
        raise RegistryError(lines[-1] if lines else f"steps/explain.py ended with exit code {done.returncode}")
    typer.echo(done.stdout, nl=False)
