"""What all commands share: options, the console, exit codes, and how an expected error is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import IntEnum, StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, EndpointConnectionError
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from infra import stacks
from pipeline import clouds, datasets, endpoints, executions, parameters, registry, reproduction, settings, wheels

P = ParamSpec("P")
R = TypeVar("R")

EXPECTED = (
    settings.SettingsError,
    clouds.CloudError,
    datasets.DatasetError,
    parameters.ParameterError,
    executions.ExecutionError,
    registry.RegistryError,
    reproduction.ReproductionError,
    endpoints.EndpointError,
    stacks.StackError,
    wheels.WheelsError,
)

LOST = (
    "if that is the embedded SageMaker, it has died; server.log in its state folder says why, and "
    "`signs local start` starts it anew"
)

console = Console()
errors = Console(stderr=True)


class Exit(IntEnum):
    """What an exit code of ``signs`` means."""

    OK = 0
    REFUSED = 1
    """The command could not do what it was asked; one line says why."""
    USAGE = 2
    """The command line is wrong."""
    FAILED = 3
    """The execution failed or was stopped."""
    GATE = 4
    """The quality gate turned the model down."""
    DIFFERS = 5
    """What is there is not what should be; where that is asked for (``--exit-code``), or the question (reproduce)."""


class CloudName(StrEnum):
    """Where a command works."""

    LOCAL = "local"
    AWS = "aws"


CloudOption = Annotated[
    CloudName,
    typer.Option("--cloud", help="Work in the embedded SageMaker on this machine, or on AWS.", envvar="SIGNS_CLOUD"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text for people.")]
SettingsOption = Annotated[
    Path,
    typer.Option("--settings", help="Settings file.", envvar="SIGNS_SETTINGS", show_default="pipeline/settings.toml"),
]
PortOption = Annotated[
    int | None,
    typer.Option(
        help="Port for the embedded SageMaker when it is started; 0 takes any free one.",
        envvar="SIGNS_PORT",
        show_default="[local] port of the settings",
    ),
]


ProfileOption = Annotated[
    settings.ProfileName | None,
    typer.Option(
        "--profile",
        help="What the endpoint is to be, and how a new version takes over.",
        envvar="SIGNS_PROFILE",
        show_default="[deployment] profile of the settings",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
ExitCodeOption = Annotated[bool, typer.Option("--exit-code", help="Exit with 5 if there is a difference.")]
DEFAULT_SETTINGS = settings.DEFAULT_FILE


def told(command: Callable[P, R]) -> Callable[P, R]:
    """Turn an expected error into one line on stderr and exit code 1; a defect keeps its traceback."""

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except EXPECTED as error:
            reason = str(error)
        except ClientError as error:
            reason = f"{error.operation_name}: {error.response['Error']['Message']}{clouds.remedy(error)}"
        except (EndpointConnectionError, ConnectionClosedError) as error:
            reason = f"no answer any more from {error.kwargs['endpoint_url']}: {LOST}"
        except BotoCoreError as error:
            reason = f"the cloud cannot be reached: {error}"
        except S3UploadFailedError as error:
            # boto3's own wrapping of whatever S3 said, for uploads alone.
            reason = str(error)
        # Escaped, because a reason may hold [brackets] of its own.
        errors.print(f"[bold red]signs:[/] {escape(' '.join(reason.split()))}", soft_wrap=True, highlight=False)
        raise typer.Exit(Exit.REFUSED)

    return wrapper


def say(*parts: str | tuple[str, str]) -> None:
    """Print a line for people: texts as they are, [brackets] and all, or pairs of a text and its style.

    It is never broken here, so that addresses and paths can be copied.
    """
    console.print(Text.assemble(*parts), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as JSON; times become ISO 8601."""
    console.print_json(json.dumps(value, default=str))
