"""The embedded SageMaker on the command line."""

from __future__ import annotations

import typer

from infra.local import control
from pipeline import clouds
from pipeline.clouds import CloudError
from pipeline.commands.common import (
    DEFAULT_SETTINGS,
    Exit,
    JsonOption,
    PortOption,
    SettingsOption,
    print_json,
    say,
    told,
)
from pipeline.settings import load

app = typer.Typer(help="Start, stop and find the embedded SageMaker.", no_args_is_help=True)


@app.command()
@told
def start(port: PortOption = None, settings_file: SettingsOption = DEFAULT_SETTINGS) -> None:
    """Start the embedded SageMaker in the background, unless it runs."""
    settings = load(settings_file)
    running = clouds.start_local(settings.state_dir, settings.local.port if port is None else port, settings.region)
    say(f"the embedded SageMaker answers at {running.url}")
    say("for other clients:")
    say(f"export AWS_ENDPOINT_URL={running.url} AWS_DEFAULT_REGION={running.region}")
    say("export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local")


@app.command()
@told
def stop(settings_file: SettingsOption = DEFAULT_SETTINGS) -> None:
    """Stop the embedded SageMaker with all its jobs; what it holds is kept, and endpoints come back with it."""
    settings = load(settings_file)
    try:
        was_running = control.stop(settings.state_dir)
    except control.ServerError as error:
        raise CloudError(str(error)) from error
    say("stopped" if was_running else "it did not run")


@app.command()
@told
def status(json_: JsonOption = False, settings_file: SettingsOption = DEFAULT_SETTINGS) -> None:
    """Say whether the embedded SageMaker runs, and where. Exit code 1 if it does not."""
    settings = load(settings_file)
    running = control.find(settings.state_dir)
    if json_:
        print_json(None if running is None else {"pid": running.pid, "url": running.url, "region": running.region})
    elif running is None:
        say("the embedded SageMaker does not run")
    else:
        say(f"runs at {running.url}, process {running.pid}, state in {running.state}")
    if running is None:
        raise typer.Exit(Exit.REFUSED)
