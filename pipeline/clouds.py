"""A cloud to work in: AWS, or the embedded SageMaker on this machine. The rest of the code does not care which."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra import stacks
from infra.local import control
from pipeline.settings import JobRoles, Settings

LOCAL_ROLE = "arn:aws:iam::123456789012:role/embedded-sagemaker"

STACKS = ("network", "foundation", "automation")
"""What `signs infra deploy` makes, by the ends of the stacks' names; the network's only if it is wanted."""

Actor = Literal["preprocess", "validate", "train", "evaluate", "deploy", "serve"]
"""Who has a role of their own: the jobs by their scripts, and the model that serves."""


class CloudError(Exception):
    """A cloud that cannot be worked in; the text is one line with the reason and the way out."""


NO_MACHINE = "AWS has no such machine just now: try later, or take another machine type"

REMEDIES = {
    "ResourceLimitExceeded": "a quota of this account: Service Quotas, Amazon SageMaker; or take another machine type",
    "CapacityError": NO_MACHINE,
    "InsufficientInstanceCapacity": NO_MACHINE,
    "ThrottlingException": "AWS was asked too often: try again in a minute",
    "AccessDenied": "these credentials lack that right: docs/aws.md says which a person needs",
    "ExpiredToken": "these credentials have expired: sign in again",
}
"""What helps against an error of AWS's, by the beginning of its code."""


def remedy(error: ClientError) -> str:
    """Return the way out of an error, to be put behind its message, or nothing where none is known."""
    code = str(error.response["Error"].get("Code", ""))
    return next((f" ({remedy})" for beginning, remedy in REMEDIES.items() if code.startswith(beginning)), "")


class EndpointSession(boto3.Session):  # type: ignore[misc]  # boto3 ships no types
    """A boto3 session whose clients all talk to one URL."""

    def __init__(self, url: str, region: str) -> None:
        # Any credentials will do; without some, botocore would go looking for real ones.
        super().__init__("local", "local", region_name=region)
        self._url = url

    def client(self, *args: Any, **kwargs: Any) -> Any:
        """Make a client."""
        return super().client(*args, **{"endpoint_url": self._url, **kwargs})

    def resource(self, *args: Any, **kwargs: Any) -> Any:
        """Make a resource."""
        return super().resource(*args, **{"endpoint_url": self._url, **kwargs})


@dataclass(frozen=True)
class Cloud:
    """A boto3 session, and the names of what is used with it."""

    kind: Literal["local", "aws"]
    session: boto3.Session
    region: str
    bucket: str
    role_arn: str
    job_roles: JobRoles | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    """What the stacks made, by the outputs' names."""

    def role(self, actor: Actor) -> str:
        """Return the role of a job, or of the model that serves."""
        named = getattr(self.job_roles, actor, "") or self.outputs.get(f"{actor.capitalize()}RoleArn", "")
        return named or self.role_arn

    def listed(self, output: str) -> list[str]:
        """Return an output that is a list; empty where no stack made it."""
        return [each for each in self.outputs.get(output, "").split(",") if each]

    def client(self, service: str) -> Any:
        """Make a boto3 client of a service."""
        return self.session.client(service)


def connect(kind: str, settings: Settings, *, start: bool = False, port: int | None = None, role: bool = True) -> Cloud:
    """Connect to ``local`` or ``aws``; with ``start`` an embedded SageMaker that does not run is started.

    Without ``role`` the settings need not name one yet. Raises ``CloudError``.
    """
    return local(settings, start=start, port=port) if kind == "local" else aws(settings, role)


def local(settings: Settings, *, start: bool, port: int | None = None) -> Cloud:
    """Connect to the embedded SageMaker and make its bucket. Raises ``CloudError`` when it does not run."""
    state = settings.state_dir
    if start:
        running = start_local(state, settings.local.port if port is None else port, settings.region)
    else:
        found = control.find(state)
        if found is None:
            raise CloudError("the embedded SageMaker does not run: start it with `signs local start` (or `signs run`)")
        running = found
    session = EndpointSession(running.url, running.region)
    bucket = f"sagemaker-{running.region}-123456789012"
    location = {"LocationConstraint": running.region}
    s3 = session.client("s3")
    # S3 knows its first region only by its absence.
    place = {} if running.region == "us-east-1" else {"CreateBucketConfiguration": location}
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=bucket, **place)
    return Cloud("local", session, running.region, bucket, LOCAL_ROLE)


def start_local(state: Path, port: int, region: str) -> control.RunningServer:
    """Start the embedded SageMaker unless it runs. Raises ``CloudError``."""
    try:
        return control.start(state, port, region)
    except control.ServerError as error:
        raise CloudError(str(error)) from error


def aws(settings: Settings, role: bool = True) -> Cloud:
    """Connect to AWS with the ordinary credential chain.

    Raises ``CloudError`` when there are no credentials, they are not valid, or the settings lack the ``role``.
    """
    session = boto3.Session(region_name=settings.region)
    if session.get_credentials() is None:
        raise CloudError("no AWS credentials found: run `aws configure` or `aws sso login`, or set AWS_PROFILE")
    try:
        account = session.client("sts").get_caller_identity()["Account"]
    except (ClientError, BotoCoreError) as error:
        raise CloudError(f"AWS does not accept the credentials: {error}") from error
    bucket = settings.aws.bucket or f"sagemaker-{settings.region}-{account}"
    outputs = _outputs(session, settings) if role else {}
    named = settings.aws.role_arn or outputs.get("RoleArn", "")
    if role and not named:
        raise CloudError(
            f"no role for the pipelines: there is no stack {settings.name}-foundation that could be read, and [aws] "
            "role_arn in settings.toml is empty; `signs infra deploy` makes the one, or name the other"
        )
    return Cloud("aws", session, settings.region, bucket, named, settings.aws.job_roles, outputs)


def _outputs(session: boto3.Session, settings: Settings) -> dict[str, str]:
    """Return the outputs of all stacks; nothing of one that is not there, or that these credentials may not read."""
    client, found = session.client("cloudformation"), dict[str, str]()
    for stack in STACKS:
        with suppress(stacks.StackError):
            found |= stacks.outputs(client, f"{settings.name}-{stack}")
    return found


def offline(settings: Settings) -> Cloud:
    """Name what a definition needs without reaching any cloud, for printing one."""
    session = EndpointSession("http://127.0.0.1:9", settings.region)
    bucket = settings.aws.bucket or f"sagemaker-{settings.region}-123456789012"
    role = settings.aws.role_arn or LOCAL_ROLE
    # What the stacks are to make has no names yet.
    outputs = {"KeyArn": f"arn:aws:kms:{settings.region}:123456789012:key/of-the-stack"}
    if settings.network.own:
        outputs |= {"Subnets": "subnet-00000001,subnet-00000002", "SecurityGroups": "sg-00000001"}
    return Cloud("local", session, settings.region, bucket, role, settings.aws.job_roles, outputs)
