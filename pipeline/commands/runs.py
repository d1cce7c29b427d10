"""Runs: the whole life in one command, and its parts one by one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from shlex import quote
from shutil import which
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipeline import changes, clouds, definitions, endpoints, executions, lifecycle
from pipeline.changes import Change
from pipeline.clouds import Cloud
from pipeline.commands.common import (
    DEFAULT_SETTINGS,
    CloudName,
    CloudOption,
    Exit,
    ExitCodeOption,
    JsonOption,
    PortOption,
    ProfileOption,
    SettingsOption,
    YesOption,
    console,
    errors,
    print_json,
    say,
    told,
)
from pipeline.commands.views import Downloads, ExecutionView, table, tell_missed
from pipeline.datasets import NEARBY, Dataset
from pipeline.executions import ExecutionError, Snapshot
from pipeline.lifecycle import Outcome
from pipeline.parameters import ParameterError, check, check_machines
from pipeline.settings import Settings, load

DATA = typer.Option(
    "--data",
    help="`synthetic` (drawn here), `official` (GTSRB, downloaded), a folder with a data set, or an s3:// prefix.",
)
DataOption = Annotated[str, DATA]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Set a pipeline parameter for this run, NAME=VALUE; may be repeated.", metavar="NAME=VALUE"
    ),
]
ExecutionArgument = Annotated[
    str | None, typer.Argument(help="Identifier or ARN of the execution.", show_default="the newest")
]


class PipelineName(StrEnum):
    """The pipelines, as the command line calls them."""

    TRAINING = "training"
    DEPLOYMENT = "deployment"


@told
def run(
    data: DataOption = "synthetic",
    changed: SetOption = None,
    cloud: CloudOption = CloudName.LOCAL,
    port: PortOption = None,
    profile: ProfileOption = None,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Run a model's whole life: data, pipeline, gate, registry, endpoint; then ask the endpoint about test pictures.

    Starts the embedded SageMaker if it does not run. The model is registered as approved, so the pipeline deploys it.
    """
    settings = load(settings_file, profile)
    begun = time.monotonic()
    parameters = {"ModelApprovalStatus": "Approved", **lifecycle.suited(settings, data), **_changes(changed)}
    check(parameters)
    check_machines(settings, parameters)
    place = clouds.connect(cloud, settings, start=True, port=port)
    say(f"{_where(place)}; bucket {place.bucket}")
    found = _dataset(settings, place, data)
    say(f"data set: {found.address}  ({time.monotonic() - begun:.0f} s)")
    definitions.upsert(settings, place)
    arn = lifecycle.start(settings, place, found, parameters)
    say(f"pipeline {settings.training_pipeline} upserted and started  ({time.monotonic() - begun:.0f} s)")
    with ExecutionView(place, console) as view:
        snapshot = lifecycle.follow(place, arn, view)
    outcome = lifecycle.conclude(settings, place, snapshot)
    _print_outcome(outcome)
    if outcome.samples:
        _print_next(outcome, place, settings_file)
    say(f"{time.monotonic() - begun:.0f} s in all")
    raise typer.Exit(_exit_code(place, snapshot))


def _dataset(settings: Settings, place: Cloud, data: str) -> Dataset:
    if data == "official" and NEARBY.is_dir():
        errors.print(f"the archives in {NEARBY} are taken, unchecked", highlight=False, soft_wrap=True, markup=False)
    with Downloads(console) as downloads:
        return lifecycle.dataset(settings, place, data, downloads)


def _where(cloud: Cloud) -> str:
    return f"AWS, {cloud.region}" if cloud.kind == "aws" else "embedded SageMaker on this machine"


def _changes(given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ParameterError(f"--set {text}: expected NAME=VALUE, for example Epochs=5")
        found[name] = value
    return found


def _print_outcome(outcome: Outcome) -> None:
    if outcome.metrics:
        metrics = outcome.metrics
        say(
            "\ntest accuracy ",
            (f"{metrics['accuracy']:.2%}", "bold"),
            f" (95 % interval {metrics['accuracy_lower']:.2%} to {metrics['accuracy_upper']:.2%}, "
            f"{metrics['images']:.0f} pictures), worst class recall {metrics['worst_class_recall']:.2%}, "
            f"calibration error {metrics['expected_calibration_error']:.4f}",
        )
    if outcome.samples:
        console.print(_samples(outcome))
    if outcome.snapshot.status != "Succeeded":
        say((outcome.snapshot.status, "bold red"), f": {outcome.snapshot.reason}")
    if outcome.report is not None:
        say(f"report: {outcome.report}")


def _print_next(outcome: Outcome, place: Cloud, settings_file: Path) -> None:
    """Print commands that go to where the run was when they are copied."""
    picture = outcome.report.parent / "samples" / outcome.samples[0].file if outcome.report else ""
    commands = [f"predict {quote(str(picture))}", "models list", "endpoint describe"]
    if place.kind == "aws" or "SIGNS_CLOUD" in os.environ:
        commands = [f"{each} --cloud {place.kind}" for each in commands]
    if place.kind == "local":
        commands.append("local stop")
    if settings_file != DEFAULT_SETTINGS and "SIGNS_SETTINGS" not in os.environ:
        commands = [f"{each} --settings {quote(str(settings_file))}" for each in commands]
    # Under make the command is not on the PATH.
    program = "signs" if which("signs") else quote(sys.argv[0])
    for number, command in enumerate(commands):
        say(f"{'' if number else 'next:':<8}{program} {command}")


def _samples(outcome: Outcome) -> Table:
    right = sum(sample.answer.class_name == sample.truth for sample in outcome.samples)
    view = Table(
        title=f"the endpoint on {len(outcome.samples)} test pictures: {right} right", title_justify="left", expand=False
    )
    view.add_column("picture", no_wrap=True)
    view.add_column("truth", no_wrap=True)
    view.add_column("answer", no_wrap=True)
    view.add_column("probability", justify="right")
    for sample in outcome.samples:
        style = "green" if sample.answer.class_name == sample.truth else "bold red"
        answer = f"[{style}]{escape(sample.answer.class_name)}[/]"
        view.add_row(escape(sample.file), escape(sample.truth), answer, f"{sample.answer.probability:.3f}")
    return view


def _exit_code(place: Cloud, snapshot: Snapshot, tell: bool = True) -> Exit:
    if snapshot.failed_gate:
        if tell:
            tell_missed(place, snapshot)
        return Exit.GATE
    return Exit.OK if snapshot.status == "Succeeded" else Exit.FAILED


@told
def definition(
    pipeline: Annotated[PipelineName, typer.Argument(help="Which pipeline.")] = PipelineName.TRAINING,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            help="Print what changes from the definition in this file instead, as Markdown.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    profile: ProfileOption = None,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Print a pipeline's definition, the JSON that SageMaker is given. Needs no cloud."""
    settings = load(settings_file, profile)
    name = f"{settings.name}-{pipeline}"
    text = definitions.render(settings, clouds.offline(settings))[name]
    if against is None:
        typer.echo(text)
        return
    try:
        found = changes.compare(against.read_text(), text)
    except ValueError as error:
        raise typer.BadParameter(f"{against} holds no definition of a pipeline: {error}") from error
    typer.echo(changes.markdown(name, found))


@told
def upsert(
    yes: YesOption = False,
    profile: ProfileOption = None,
    cloud: CloudOption = CloudName.LOCAL,
    json_: JsonOption = False,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Create or update the pipelines, upload their code, and make sure that the registry group exists.

    On AWS what changes is shown first, step by step, and asked about.
    """
    settings = load(settings_file, profile)
    place = clouds.connect(cloud, settings)
    built = definitions.build(settings, place)
    if place.kind == "aws":
        _agree(definitions.changes(built, place), yes)
    sent = definitions.send(built, settings, place)
    if json_:
        print_json({"PipelineArns": list(sent)})
    for arn, version in [] if json_ else sent.items():
        say(f"upserted {arn}, version {version}")


def _agree(found: Mapping[str, Sequence[Change]], yes: bool) -> None:
    """Show what would change, on stderr because stdout may be for a machine, and ask whether it shall."""
    for name, changed in found.items():
        typer.echo(changes.text(name, changed), err=True)
    if any(found.values()) and not yes:
        typer.confirm("Upsert?", abort=True, err=True)


@told
def diff(
    exit_code: ExitCodeOption = False,
    profile: ProfileOption = None,
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Show what `signs upsert` would change in the pipelines, step by step, and change nothing."""
    settings = load(settings_file, profile)
    place = clouds.connect(cloud, settings)
    found = definitions.changes(definitions.build(settings, place), place)
    for name, changed in found.items():
        typer.echo(changes.text(name, changed))
    if exit_code and any(found.values()):
        raise typer.Exit(Exit.DIFFERS)


@told
def start(
    data: Annotated[str | None, DATA] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Run this step alone, on an earlier execution's results; may be repeated."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="The earlier execution, for --only.", show_default="the newest")
    ] = None,
    version: Annotated[
        int | None, typer.Option("--version", help="Version of the pipeline.", show_default="the newest", min=1)
    ] = None,
    changed: SetOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch the execution until it has ended.")] = False,
    cloud: CloudOption = CloudName.LOCAL,
    json_: JsonOption = False,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Start the pipeline. The model waits for approval unless --set says otherwise.

    In a run of GitHub Actions the same start is made once, whatever is repeated.
    """
    if bool(data) == bool(only):
        raise typer.BadParameter("expected either --data, or --only with the steps to run again")
    if source and not only:
        raise typer.BadParameter("--from names the earlier execution for --only, which is not given")
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    if only:
        arn = lifecycle.start_only(settings, place, only, source, _changes(changed), version)
    else:
        named = str(data)
        parameters = {**lifecycle.suited(settings, named), **_changes(changed)}
        arn = lifecycle.start(settings, place, _dataset(settings, place, named), parameters, version)
    if json_:
        print_json({"PipelineExecutionArn": arn})
    else:
        say(f"started {arn}")
    if wait:
        # What a machine reads is one document.
        with ExecutionView(place, errors if json_ else console) as view:
            snapshot = lifecycle.follow(place, arn, view)
        raise typer.Exit(_exit_code(place, snapshot))


@told
def deploy(
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Start the deployment pipeline, which makes the endpoint serve the newest approved version, and watch it."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    arn = executions.start(place, settings.deployment_pipeline, {})
    with ExecutionView(place, console) as view:
        snapshot = lifecycle.follow(place, arn, view)
    raise typer.Exit(_exit_code(place, snapshot))


@told
def status(
    execution: ExecutionArgument = None,
    cloud: CloudOption = CloudName.LOCAL,
    json_: JsonOption = False,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Show an execution and its steps. Exit code 3 if it failed, 4 if its model did not pass the gate."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    snapshot = executions.look(place, executions.find(place, settings.training_pipeline, execution))
    if json_:
        print_json(asdict(snapshot))
    else:
        lines = {step.name: (executions.log(place, step, last=1) or [""])[-1] for step in snapshot.steps}
        console.print(table(snapshot, lines))
        if snapshot.reason:
            say((snapshot.status, "bold red"), f": {snapshot.reason}")
    if snapshot.status in ("Failed", "Stopped"):
        raise typer.Exit(_exit_code(place, snapshot, tell=not json_))


@told
def logs(
    step: Annotated[str, typer.Argument(help="Name of the step, for example TrainLeNet.")],
    execution: ExecutionArgument = None,
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Print the log of a step's job."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    snapshot = executions.look(place, executions.find(place, settings.training_pipeline, execution))
    names = [candidate.name for candidate in snapshot.steps]
    if step not in names:
        raise ExecutionError(f"there is no step {step}: expected one of {', '.join(names)}")
    for line in executions.log(place, snapshot.step(step)):
        typer.echo(line)


@told
def stop(
    execution: ExecutionArgument = None,
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Stop an execution: its jobs are ended and nothing further starts."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    arn = executions.find(place, settings.training_pipeline, execution)
    executions.stop(place, arn)
    say(f"stopping {arn}")


@told
def retry(
    execution: ExecutionArgument = None,
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Let an execution that failed or was stopped go on from the steps that did not succeed, and watch it."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    arn = executions.find(place, settings.training_pipeline, execution)
    executions.retry(place, arn)
    with ExecutionView(place, console) as view:
        snapshot = lifecycle.follow(place, arn, view)
    raise typer.Exit(_exit_code(place, snapshot))


@told
def predict(
    images: Annotated[list[Path], typer.Argument(help="PNG or JPEG files.")],
    cloud: CloudOption = CloudName.LOCAL,
    json_: JsonOption = False,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Ask the endpoint which sign each picture shows."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    answers = {str(image): endpoints.ask(place, settings.endpoint, image) for image in images}
    if json_:
        print_json({image: asdict(answer) for image, answer in answers.items()})
        return
    view = Table(expand=False)
    for heading in ("picture", "answer", "probability", "otherwise"):
        view.add_column(heading)
    for image, answer in answers.items():
        others = ", ".join(f"{name} {probability:.3f}" for name, probability in answer.top[1:3])
        told = (Path(image).name, answer.class_name, f"{answer.probability:.3f}", others)
        view.add_row(*(escape(text) for text in told))
    console.print(view)
