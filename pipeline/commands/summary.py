"""A run for those who were not there: told in Markdown, its report beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline import clouds, executions, lifecycle, summaries
from pipeline.commands.common import DEFAULT_SETTINGS, CloudName, CloudOption, SettingsOption, told
from pipeline.settings import load


@told
def summary(
    folder: Annotated[Path, typer.Option("--output-dir", help="Where the report and what belongs to it is put.")],
    execution: Annotated[
        str | None, typer.Argument(help="Identifier or ARN of the execution.", show_default="the newest")
    ] = None,
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Tell an execution in Markdown: steps, gate, metrics, the report's address. Fetches the report."""
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    snapshot = executions.look(place, executions.find(place, settings.training_pipeline, execution))
    typer.echo(summaries.execution(settings.training_pipeline, snapshot))
    address = lifecycle.evaluated(place, snapshot)
    if address is not None:
        lifecycle.fetch(place, address, folder)
        typer.echo(summaries.evaluation(json.loads((folder / "evaluation.json").read_text()), address))
