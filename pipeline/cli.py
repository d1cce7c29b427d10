"""The command ``signs``."""

from __future__ import annotations

import logging

import typer

from pipeline.commands import data, endpoint, infra, local, models, reproduce, runs, summary, wheels

app = typer.Typer(
    help="A traffic-sign classifier's whole life as one SageMaker pipeline, on AWS or on this machine.\n\n"
    "Exit codes: 0 done, 1 refused (one line says why), 2 wrong command line, 3 the execution failed or was stopped, "
    "4 the model did not pass the quality gate, 5 something differs (reproduce; elsewhere with --exit-code).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)

app.command()(runs.run)
app.command()(runs.definition)
app.command()(runs.diff)
app.command()(runs.upsert)
app.command()(runs.start)
app.command()(runs.deploy)
app.command()(runs.status)
app.command()(summary.summary)
app.command()(runs.logs)
app.command()(runs.stop)
app.command()(runs.retry)
app.command()(runs.predict)
app.command()(wheels.wheels)
app.command()(models.explain)
app.command()(reproduce.reproduce)
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(endpoint.app, name="endpoint")
app.add_typer(infra.app, name="infra")
app.add_typer(local.app, name="local")


def main() -> None:
    """Run the command line."""
    # The SageMaker SDK turns everybody's log on, and botocore tells of every endpoint that AWS_ENDPOINT_URL names.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    app()


if __name__ == "__main__":
    main()
