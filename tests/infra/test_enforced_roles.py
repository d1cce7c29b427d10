"""Roles that mean something: the stacks' own, on an embedded SageMaker that enforces them.

The tests build on each other, in their order.
"""

from __future__ import annotations

import base64
import functools
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from deployment_world import World, golden, reach
from role_rights import DEPLOYMENT, allowed, book

from infra import stacks
from infra.local import control
from infra.local.rights.actors import SWITCH
from trafficsigns.hosting import golden as golden_pictures

AWS = Path(stacks.__file__).with_name("aws")
ACCOUNT, REGION, NAME = "123456789012", "eu-central-1", "signs"
BUCKET = "signs-enforced"
ISSUER = "token.actions.githubusercontent.com"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[control.RunningServer]:
    state = tmp_path_factory.mktemp("enforced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SWITCH, "enforced")
        running = control.start(state, port=0, region=REGION)
    yield running
    control.stop(state)


@pytest.fixture(scope="module")
def client(server: control.RunningServer) -> Callable[[str], Any]:
    """Clients of the account's owner, with the stacks deployed."""
    session = boto3.Session("owner", "owner", region_name=REGION)
    make = functools.cache(lambda service: session.client(service, endpoint_url=server.url, config=CONFIG))
    github = {"GitHubOwner": "somebody", "GitHubRepository": "signs"}
    given = {"foundation": {"BucketName": BUCKET, **github}, "automation": {}}
    for template, more in given.items():
        text = (AWS / f"{template}.yaml").read_text()
        planned = stacks.plan(make("cloudformation"), f"{NAME}-{template}", text, {"Name": NAME, **more})
        stacks.apply(make("cloudformation"), planned)
    return make


CONFIG = Config(retries={"total_max_attempts": 1}, proxies={})


def role(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{NAME}-{name}"


def put(client: Callable[[str], Any], key: str, body: str = "x") -> str:
    client("s3").put_object(Bucket=BUCKET, Key=f"{NAME}/{key}", Body=body)
    return f"s3://{BUCKET}/{NAME}/{key}"


def job(client: Callable[[str], Any], name: str, script: str, source: str = "code", target: str = "") -> dict[str, Any]:
    """Run a processing job of a role's, from below a prefix of the project's to another one; describes its end."""
    sagemaker, called = client("sagemaker"), f"{name}-{secrets.token_hex(3)}"
    place = {"S3DataType": "S3Prefix", "S3InputMode": "File", "S3Uri": f"s3://{BUCKET}/{NAME}/{source}"}
    output = {"S3Uri": f"s3://{BUCKET}/{NAME}/{target or f'executions/1/{name}'}", "S3UploadMode": "EndOfJob"}
    sagemaker.create_processing_job(
        ProcessingJobName=called,
        RoleArn=role(name),
        AppSpecification={"ImageUri": "any", "ContainerEntrypoint": ["bash", "-c", script]},
        ProcessingResources={"ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}},
        ProcessingInputs=[{"InputName": "in", "S3Input": {"LocalPath": "/opt/ml/processing/in", **place}}],
        ProcessingOutputConfig={
            "Outputs": [{"OutputName": "out", "S3Output": {"LocalPath": "/opt/ml/processing/out", **output}}]
        },
    )
    while (described := sagemaker.describe_processing_job(ProcessingJobName=called))["ProcessingJobStatus"] not in (
        "Completed",
        "Failed",
    ):
        pass
    answer: dict[str, Any] = described
    return answer


WRITE = "echo done > /opt/ml/processing/out/file"


def test_a_job_reads_and_writes_what_its_role_may(client: Callable[[str], Any]) -> None:
    put(client, "code/step/file")
    for name in ("preprocess", "validate", "evaluate", "deploy"):
        described = job(client, name, WRITE)
        assert described["ProcessingJobStatus"] == "Completed", described
        key = f"{NAME}/executions/1/{name}/file"
        assert client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"done\n"


@pytest.mark.parametrize(
    ("name", "where", "action"),
    [
        ("validate", {"target": "executions/1/train"}, "s3:PutObject"),
        ("evaluate", {"target": "checkpoints"}, "s3:PutObject"),
        ("preprocess", {"target": "code/step"}, "s3:PutObject"),
        ("deploy", {"target": "captured"}, "s3:PutObject"),
        ("evaluate", {"source": "data"}, "s3:GetObject"),
    ],
)
def test_a_job_that_reaches_beyond_its_role_fails_and_names_the_right(
    client: Callable[[str], Any], name: str, where: dict[str, str], action: str
) -> None:
    put(client, "data/set/file")
    described = job(client, name, WRITE, **where)
    assert described["ProcessingJobStatus"] == "Failed"
    assert (
        f"is not authorized to perform: {action} on resource: arn:aws:s3:::{BUCKET}/{NAME}/"
        in described["FailureReason"]
    )
    assert f":assumed-role/{NAME}-{name}/" in described["FailureReason"]


CALLS = """
import boto3
print(boto3.client("sts").get_caller_identity()["Arn"])
for service, action, request in [
    ("sagemaker", "delete_endpoint", {"EndpointName": "signs"}),
    ("iam", "list_roles", {}),
    ("s3", "list_objects_v2", {"Bucket": "another"}),
    ("cloudwatch", "put_metric_alarm", {"AlarmName": "signs-x", "ComparisonOperator": "GreaterThanThreshold",
                                        "EvaluationPeriods": 1}),
]:
    try:
        getattr(boto3.client(service), action)(**request)
        print(service, "allowed")
    except Exception as error:
        print(service, error.response["Error"]["Code"])
"""


def test_a_script_has_the_credentials_of_its_role_and_no_others(client: Callable[[str], Any]) -> None:
    put(client, "code/step/calls.py", CALLS)
    described = job(client, "evaluate", "python3 /opt/ml/processing/in/step/calls.py > /opt/ml/processing/out/said")
    assert described["ProcessingJobStatus"] == "Completed", described
    said = client("s3").get_object(Bucket=BUCKET, Key=f"{NAME}/executions/1/evaluate/said")["Body"].read().decode()
    who, *answers = said.splitlines()
    assert who.startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/{NAME}-evaluate/")
    assert answers == [
        "sagemaker AccessDeniedException", "iam AccessDenied", "s3 AccessDenied", "cloudwatch AccessDeniedException",
    ]  # fmt: skip


def test_a_role_that_sagemaker_may_not_take_on_is_refused_at_once(client: Callable[[str], Any]) -> None:
    for name in ("no-such", "approval"):
        with pytest.raises(ClientError, match=f"Could not assume role {role(name)}"):
            job(client, name, "true")


# Pipelines and rules


def pipeline(client: Callable[[str], Any], name: str, job_role: str, of: str = "pipeline") -> str:
    """Upsert a pipeline of one job, and return its name."""
    arguments = {
        "RoleArn": role(job_role),
        "AppSpecification": {"ImageUri": "any", "ContainerEntrypoint": ["true"]},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
        },
    }
    step = {"Name": "Only", "Type": "Processing", "Arguments": arguments}
    text = json.dumps({"Version": "2020-12-01", "Parameters": [], "Steps": [step]})
    client("sagemaker").create_pipeline(PipelineName=name, PipelineDefinition=text, RoleArn=role(of))
    return name


def executed(client: Callable[[str], Any], name: str) -> dict[str, Any]:
    sagemaker = client("sagemaker")
    arn = sagemaker.start_pipeline_execution(PipelineName=name)["PipelineExecutionArn"]
    while (described := sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn))[
        "PipelineExecutionStatus"
    ] == "Executing":
        pass
    answer: dict[str, Any] = described
    return answer


def test_a_pipeline_hands_jobs_the_roles_that_it_may(client: Callable[[str], Any]) -> None:
    assert executed(client, pipeline(client, "allowed", "validate"))["PipelineExecutionStatus"] == "Succeeded"
    described = executed(client, pipeline(client, "escalating", "pipeline"))
    assert described["PipelineExecutionStatus"] == "Failed"
    assert f"not authorized to perform: iam:PassRole on resource: {role('pipeline')}" in described["FailureReason"]
    described = executed(client, pipeline(client, "as-a-job", "validate", of="train"))
    assert "not authorized to perform: sagemaker:CreateProcessingJob" in described["FailureReason"]


# GitHub


def token(**claims: str) -> str:
    """A token as GitHub's, but for its signature, which nobody here could check."""
    body = {"iss": f"https://{ISSUER}", "aud": "sts.amazonaws.com", **claims}
    parts = (json.dumps(each).encode() for each in ({"alg": "RS256"}, body))
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "signature"])


MAIN = {"sub": "repo:somebody/signs:ref:refs/heads/main", "ref": "refs/heads/main"}
PRODUCTION = {"sub": "repo:somebody/signs:environment:production", "ref": "refs/heads/main"}


def taken_on(server: control.RunningServer, name: str, **claims: str) -> dict[str, str]:
    config = CONFIG.merge(Config(signature_version=UNSIGNED))
    sts = boto3.client("sts", endpoint_url=server.url, region_name=REGION, config=config)
    answer = sts.assume_role_with_web_identity(
        RoleArn=role(name), RoleSessionName="GitHubActions", WebIdentityToken=token(**claims)
    )
    keys: dict[str, str] = answer["Credentials"]
    return keys


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("github-train", PRODUCTION),
        ("github-train", {**MAIN, "sub": "repo:somebody/signs:pull_request"}),
        ("github-train", {**MAIN, "sub": "repo:somebody-else/signs:ref:refs/heads/main"}),
        ("github-train", {**MAIN, "aud": "https://github.com/somebody"}),
        ("github-train", {**MAIN, "iss": "https://gitlab.com"}),
        ("github-deploy", MAIN),
        ("github-deploy", {**PRODUCTION, "sub": "repo:somebody/signs:environment:staging"}),
        ("github-deploy", {**PRODUCTION, "ref": "refs/heads/other"}),
        ("pipeline", MAIN),
    ],
)
def test_who_else_asks_github_for_a_token_gets_no_role(
    server: control.RunningServer, client: Callable[[str], Any], name: str, claims: dict[str, str]
) -> None:
    with pytest.raises(ClientError) as refused:
        taken_on(server, name, **claims)
    assert refused.value.response["Error"]["Code"] in ("AccessDenied", "InvalidIdentityToken")


def test_a_workflow_gets_its_role_and_no_more(server: control.RunningServer, client: Callable[[str], Any]) -> None:
    assert client("sts").get_caller_identity()["Account"] == ACCOUNT
    for name, claims, other in (("github-train", MAIN, "approve"), ("github-deploy", PRODUCTION, "start")):
        keys = taken_on(server, name, **claims)
        session = boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], REGION)
        sagemaker = session.client("sagemaker", endpoint_url=server.url, config=CONFIG)
        assert sagemaker.list_model_packages(ModelPackageGroupName=NAME)["ModelPackageSummaryList"] == []
        arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/{NAME}/1"
        with pytest.raises(ClientError, match="AccessDenied"):
            if other == "approve":
                sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
            else:
                sagemaker.start_pipeline_execution(PipelineName=f"{NAME}-training")


def test_the_owner_cannot_take_on_a_role_that_trusts_somebody_else(client: Callable[[str], Any]) -> None:
    with pytest.raises(ClientError, match="Not authorized to perform sts:AssumeRole"):
        client("sts").assume_role(RoleArn=role("deploy"), RoleSessionName="me")


# The deployment, which calls more than any other job


@pytest.fixture
def as_deployment(
    server: control.RunningServer, client: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Any]:
    """Let the step, run in this process, act as the role's jobs do: with the credentials that one of them was given."""
    put(client, "code/step/file")
    assert (
        job(client, "deploy", "echo hello; env | grep ^AWS_ > /opt/ml/processing/out/keys")["ProcessingJobStatus"]
        == "Completed"
    )
    keys = client("s3").get_object(Bucket=BUCKET, Key=f"{NAME}/executions/1/deploy/keys")["Body"].read().decode()
    reach(server, monkeypatch)
    for name, value in (line.split("=", 1) for line in keys.splitlines()):
        monkeypatch.setenv(name, value)
    return client


def test_a_deployments_life_takes_what_its_role_has_and_no_more(
    server: control.RunningServer, as_deployment: Callable[[str], Any], tmp_path: Path
) -> None:
    world = World(as_deployment, NAME, tmp_path, make_group=False, place=f"{BUCKET}/{NAME}/executions/1")
    right = {golden_pictures.KEY: world.put_golden("right", golden(0.9))}
    wrong = {golden_pictures.KEY: world.put_golden("wrong", golden(0.3))}
    common = {"role_arn": role("serve"), "keep": 0}
    capture = {"capture_percentage": 100, "capture_uri": f"s3://{BUCKET}/{NAME}/captured"}
    model = world.put_model(0.9)
    world.register(model, right)
    assert world.deploy(tmp_path / "1", **common, **capture, maximum_instance_count=2) == 0
    second = world.register(model, right)
    assert world.deploy(tmp_path / "2", **common) == 0
    assert world.serving() == second
    # A version that answers otherwise: put back, and turned down.
    third = world.register(model, wrong)
    assert world.deploy(tmp_path / "3", **common) == 1
    assert (world.serving(), world.status(third)[0]) == (second, "Rejected")
    # One that does not start where nothing served: the endpoint that failed gives way to the one before.
    world.sagemaker.delete_endpoint(EndpointName=NAME)
    broken = world.register(world.put_broken_model(), right)
    assert world.deploy(tmp_path / "4", **common) == 1
    assert (world.serving(), world.status(broken)[0]) == (second, "Rejected")
    lines = book(server.state, NAME)
    used = {line["action"] for line in lines if line["role"] == "deploy" and line["allowed"]}
    may = allowed(as_deployment("iam"), f"{NAME}-deploy")
    assert used <= may
    assert may - used <= set(DEPLOYMENT)
    refused = {(line["role"], line["action"]) for line in lines if not line["allowed"]}
    # What a test above provoked.
    assert {action for name, action in refused if name == "deploy"} == {"s3:PutObject"}
