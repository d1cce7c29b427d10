"""What is left after the server's sudden death: everything that it had acknowledged."""

from __future__ import annotations

import os
import random
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from embedded_cloud import HANDLER, Cloud, archive, definition, step, variant, wait_until

from infra.local import control

ROUNDS = 8
"""Deaths in the random test; each costs a start of the server."""


class Mortal:
    """A server of the test's own that can be killed and started again on the same folder."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.folder = folder

    def free_port(self) -> int:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
        return self.port

    def start(self, port: int = 0) -> Cloud:
        server = control.start(self.state, port=port, region="eu-central-1")
        session = boto3.Session("local", "local", region_name=server.region)
        # A call that the death interrupts is not acknowledged; trying it again would blur that.
        config = Config(retries={"total_max_attempts": 1}, proxies={}, read_timeout=90)
        clients: dict[str, Any] = {}

        def client(service: str) -> Any:
            return clients.setdefault(service, session.client(service, endpoint_url=server.url, config=config))

        for service in ("s3", "sagemaker", "sagemaker-runtime", "sqs"):
            client(service)  # Made here: boto3 makes clients in one thread at a time.
        cloud = Cloud(client, "bucket")
        with suppress(client("s3").exceptions.BucketAlreadyOwnedByYou):
            where = {"LocationConstraint": server.region}
            client("s3").create_bucket(Bucket="bucket", CreateBucketConfiguration=where)
        return cloud

    def kill(self) -> None:
        server = control.find(self.state)
        assert server is not None
        os.kill(server.pid, signal.SIGKILL)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Mortal]:
    server = Mortal(tmp_path)
    yield server
    control.stop(server.state)


def marks(folder: Path) -> list[str]:
    file = folder / "runs"
    return file.read_text().split() if file.is_file() else []


def retry(cloud: Cloud, arn: str) -> None:
    cloud.sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=secrets.token_hex(20))


def test_an_execution_that_was_running_is_marked_and_can_be_retried(mortal: Mortal, tmp_path: Path) -> None:
    cloud, slow = mortal.start(), f"echo Slow >> {tmp_path}/runs; [ -e {tmp_path}/ok ] || sleep 100"
    quick = step("Quick", f"echo Quick >> {tmp_path}/runs")
    arn = cloud.start(definition(quick, step("Slow", slow, DependsOn=["Quick"])))
    wait_until(lambda: marks(tmp_path), lambda names: names == ["Quick", "Slow"])
    mortal.kill()
    (tmp_path / "ok").touch()
    cloud = mortal.start()
    run = cloud.ended(arn)
    assert (run.status, run.statuses) == ("Failed", {"Quick": "Succeeded", "Slow": "Failed"})
    assert "RetryPipelineExecution" in run.reason
    job = run.steps["Slow"]["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
    described = cloud.processed(job)
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"].startswith("InternalServerError: ")
    retry(cloud, arn)
    assert cloud.ended(arn).statuses == {"Quick": "Succeeded", "Slow": "Succeeded"}
    assert marks(tmp_path) == ["Quick", "Slow", "Slow"]


def test_the_cache_still_knows_what_had_succeeded(mortal: Mortal, tmp_path: Path) -> None:
    cloud = mortal.start()
    once = step("Once", f"echo Once >> {tmp_path}/runs", CacheConfig={"Enabled": True})
    name = cloud.create_pipeline(definition(once))
    first = cloud.ended(cloud.sagemaker.start_pipeline_execution(PipelineName=name)["PipelineExecutionArn"])
    mortal.kill()
    cloud = mortal.start()
    again = cloud.ended(cloud.sagemaker.start_pipeline_execution(PipelineName=name)["PipelineExecutionArn"])
    assert again.steps["Once"]["CacheHitResult"] == {"SourcePipelineExecutionArn": first.arn}
    assert marks(tmp_path) == ["Once"]


def test_endpoints_come_back_and_updates_go_on(mortal: Mortal, model: Path) -> None:
    cloud = mortal.start()
    first = cloud.deployable("first", archive(model, code__inference=HANDLER))
    cloud.sagemaker.create_endpoint(EndpointName="numbers", EndpointConfigName=first)
    assert cloud.settled("numbers")["EndpointStatus"] == "InService"
    created = cloud.deployable("created", archive(model, code__inference=HANDLER))
    cloud.sagemaker.create_endpoint(EndpointName="young", EndpointConfigName=created)
    cloud.sagemaker.create_endpoint_config(EndpointConfigName="other", ProductionVariants=[variant("b", first)])
    cloud.sagemaker.update_endpoint(EndpointName="numbers", EndpointConfigName="other")
    mortal.kill()
    cloud = mortal.start()
    # It answers at once, if slowly: a request waits for the models.
    asked = cloud.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="numbers", Body="21", ContentType="text/plain"
    )
    assert asked["Body"].read() == b"42.0"
    described = wait_until(
        lambda: cloud.sagemaker.describe_endpoint(EndpointName="numbers"),
        lambda answer: answer["EndpointConfigName"] == "other",
        seconds=120,
    )
    assert described["EndpointStatus"] == "InService"
    assert cloud.settled("young")["EndpointStatus"] == "InService"
    for name in ("numbers", "young"):
        cloud.sagemaker.delete_endpoint(EndpointName=name)


def test_scaling_that_was_acknowledged_goes_on_after_death(mortal: Mortal, model: Path) -> None:
    cloud = mortal.start()
    config = cloud.deployable("scaled", archive(model, code__inference=HANDLER))
    cloud.sagemaker.create_endpoint(EndpointName="numbers", EndpointConfigName=config)
    name = cloud.settled("numbers")["ProductionVariants"][0]["VariantName"]
    wanted = {"VariantName": name, "DesiredWeight": 0.25, "DesiredInstanceCount": 2}
    cloud.sagemaker.update_endpoint_weights_and_capacities(EndpointName="numbers", DesiredWeightsAndCapacities=[wanted])
    mortal.kill()
    cloud = mortal.start()
    (found,) = cloud.settled("numbers")["ProductionVariants"]
    assert (found["CurrentInstanceCount"], found["CurrentWeight"]) == (2, 0.25)
    cloud.sagemaker.delete_endpoint(EndpointName="numbers")


def test_whoever_knows_the_address_is_answered_from_the_first_moment_on(mortal: Mortal, model: Path) -> None:
    cloud = mortal.start(mortal.free_port())
    config = cloud.deployable("known", archive(model, code__inference=HANDLER))
    cloud.sagemaker.create_endpoint(EndpointName="numbers", EndpointConfigName=config)
    cloud.settled("numbers")
    arn = cloud.start(definition(step("Slow", "sleep 100")))
    mortal.kill()
    answers: list[str] = []

    def ask() -> None:
        while not answers:
            time.sleep(0.01)
            with suppress(BotoCoreError):
                try:
                    answer = cloud.client("sagemaker-runtime").invoke_endpoint(
                        EndpointName="numbers", Body="21", ContentType="text/plain"
                    )
                    answers.append(answer["Body"].read().decode())
                except ClientError as error:
                    answers.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    mortal.start(mortal.port)
    asking.join(timeout=120)
    assert answers == ["42.0"]
    assert cloud.ended(arn).status == "Failed"
    cloud.sagemaker.delete_endpoint(EndpointName="numbers")


class Client(threading.Thread):
    """Changes things as fast as it can and remembers what was acknowledged, until the server dies."""

    def __init__(self, cloud: Cloud, pipeline: str, acknowledged: dict[str, list[str]]) -> None:
        super().__init__(daemon=True)
        self.cloud, self.pipeline, self.acknowledged = cloud, pipeline, acknowledged

    def run(self) -> None:
        with suppress(BotoCoreError, ClientError):
            while True:
                self.change()

    def change(self) -> None:
        key, sagemaker = secrets.token_hex(6), self.cloud.sagemaker
        self.cloud.put({key: key * 1000})
        self.acknowledged["objects"].append(key)
        container = {"Image": "any", "ModelDataUrl": self.cloud.s3(key)}
        types = {"SupportedContentTypes": ["image/png"], "SupportedResponseMIMETypes": ["application/json"]}
        package = sagemaker.create_model_package(
            ModelPackageGroupName="group", InferenceSpecification={"Containers": [container], **types}
        )["ModelPackageArn"]
        self.acknowledged["packages"].append(package)
        sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus="Approved", ApprovalDescription=key)
        self.acknowledged["approved"].append(package)
        if len(self.acknowledged["executions"]) < 2 * ROUNDS:
            started = sagemaker.start_pipeline_execution(PipelineName=self.pipeline)
            self.acknowledged["executions"].append(started["PipelineExecutionArn"])


def check(cloud: Cloud, acknowledged: dict[str, list[str]]) -> None:
    """Everything that was acknowledged is there, whole."""
    for key in acknowledged["objects"]:
        assert cloud.get(cloud.s3(key)) == (key * 1000).encode()
    numbers = [int(package.rpartition("/")[2]) for package in acknowledged["packages"]]
    assert len(set(numbers)) == len(numbers)
    for package in acknowledged["packages"]:
        described = cloud.sagemaker.describe_model_package(ModelPackageName=package)
        assert package not in acknowledged["approved"] or described["ModelApprovalStatus"] == "Approved"
    for arn in acknowledged["executions"]:
        assert cloud.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)["PipelineExecutionStatus"] in (
            "Executing",
            "Succeeded",
            "Failed",
        )


def test_death_at_any_moment_loses_nothing_that_was_acknowledged(mortal: Mortal) -> None:
    seed = secrets.randbelow(1_000_000)
    rng = random.Random(seed)
    chain = [
        step(
            name,
            "sleep 0.1; date > /opt/ml/processing/out/when",
            outputs={
                "out": {
                    "Std:Join": {"On": "/", "Values": ["s3://bucket", {"Get": "Execution.PipelineExecutionId"}, name]}
                }
            },
            DependsOn=[before] if before else [],
        )
        for before, name in zip(["", "A", "B"], ["A", "B", "C"], strict=True)
    ]
    cloud = mortal.start()
    pipeline = cloud.create_pipeline(definition(*chain))
    cloud.sagemaker.create_model_package_group(ModelPackageGroupName="group")
    acknowledged: dict[str, list[str]] = {key: [] for key in ("objects", "packages", "approved", "executions")}
    for _ in range(ROUNDS):
        clients = [Client(cloud, pipeline, acknowledged) for _ in range(2)]
        for client in clients:
            client.start()
        time.sleep(rng.uniform(0.05, 1.5))
        mortal.kill()
        for client in clients:
            client.join(timeout=60)
        cloud = mortal.start()
        check(cloud, acknowledged)
        for arn in acknowledged["executions"]:
            run = cloud.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
            if run["PipelineExecutionStatus"] == "Failed":
                retry(cloud, arn)
    for arn in acknowledged["executions"]:
        run = cloud.ended(arn)
        assert run.status == "Succeeded", f"seed {seed}: {run}"
        assert len(cloud.keys(f"{run.arn.rpartition('/')[2]}/")) == 3
    assert len(acknowledged["objects"]) > ROUNDS, f"seed {seed}: the server died before anything was done"
