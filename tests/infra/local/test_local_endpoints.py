"""Endpoints that serve a tiny SavedModel."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from embedded_cloud import HANDLER, Cloud, archive, definition, variant, wait_until

from infra.local.control import RunningServer
from infra.local.endpoints.fleets import AVOID_SECONDS


def invoke(cloud: Cloud, name: str, body: str, content_type: str = "text/plain") -> str:
    answer = cloud.client("sagemaker-runtime").invoke_endpoint(EndpointName=name, Body=body, ContentType=content_type)
    assert answer["InvokedProductionVariant"] == "all"
    return str(answer["Body"].read().decode())


def test_the_life_of_an_endpoint(cloud: Cloud, embedded: RunningServer, model: Path) -> None:
    name = f"endpoint-{secrets.token_hex(4)}"
    good = cloud.deployable("good", archive(model, code__inference=HANDLER))
    arn = cloud.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=good)["EndpointArn"]
    assert cloud.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Creating"
    for call in (cloud.sagemaker.delete_endpoint, cloud.sagemaker.update_endpoint):
        extra = {"EndpointConfigName": good} if call == cloud.sagemaker.update_endpoint else {}
        with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
            call(EndpointName=name, **extra)
    with pytest.raises(ClientError, match="not found") as refusal:
        invoke(cloud, name, "1")
    assert refusal.value.response["Error"]["Code"] == "ValidationError"
    described = cloud.settled(name)
    assert (described["EndpointStatus"], described["EndpointArn"]) == ("InService", arn)
    assert described["ProductionVariants"][0]["VariantName"] == "all"
    assert invoke(cloud, name, "21") == "42.0"
    model_errors(cloud, name)

    (process,) = serving_processes(embedded.state)
    # No interpreter starts in such a place: the cheapest container that dies.
    broken = cloud.deployable("broken", archive(model), PYTHONHOME="/nowhere")
    cloud.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=broken)
    described = cloud.settled(name)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", good)
    assert "ping health check" in described["FailureReason"]
    assert "encodings" in described["FailureReason"]
    assert invoke(cloud, name, "4") == "8.0"

    cloud.sagemaker.delete_endpoint(EndpointName=name)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    with pytest.raises(ClientError, match=f"Could not find endpoint.*{name}"):
        cloud.sagemaker.describe_endpoint(EndpointName=name)


def model_errors(cloud: Cloud, name: str) -> None:
    with pytest.raises(ClientError) as refusal:
        invoke(cloud, name, "1", "image/png")
    assert refusal.value.response["Error"]["Code"] == "ModelError"
    assert refusal.value.response["OriginalStatusCode"] == 415
    assert "cannot read image/png" in refusal.value.response["OriginalMessage"]
    with pytest.raises(ClientError) as refusal:
        invoke(cloud, name, "no number")
    assert refusal.value.response["OriginalStatusCode"] == 500


def serving_processes(state: Path) -> set[int]:
    """Find the model servers of a state folder by their command lines."""
    listing = subprocess.run(["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return {int(line.split()[0]) for line in listing.splitlines() if "model_server" in line and str(state) in line}


def test_traffic_is_shared_by_weight_and_a_caller_may_choose(cloud: Cloud, model: Path) -> None:
    models = [cloud.deployable(name, archive(model, code__inference=HANDLER)) for name in ("one", "two")]
    name = f"endpoint-{secrets.token_hex(4)}"
    variants = [variant("blue", models[0], 3.0), variant("green", models[1], 1.0)]
    cloud.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
    cloud.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert cloud.settled(name)["EndpointStatus"] == "InService"
    runtime = cloud.client("sagemaker-runtime")

    def asked(**more: str) -> str:
        answer = runtime.invoke_endpoint(EndpointName=name, Body="1", ContentType="text/plain", **more)
        return str(answer["InvokedProductionVariant"])

    # One in four of 200: outside of these bounds once in a hundred thousand runs.
    assert 25 <= sum(asked() == "green" for _ in range(200)) <= 79
    assert {asked(TargetVariant="green") for _ in range(20)} == {"green"}
    with pytest.raises(ClientError, match="Variant red not found"):
        asked(TargetVariant="red")
    cloud.sagemaker.delete_endpoint(EndpointName=name)


def test_a_model_in_two_processes_serves_again_after_one_was_killed(
    cloud: Cloud, embedded: RunningServer, model: Path
) -> None:
    name = f"endpoint-{secrets.token_hex(4)}"
    config = cloud.deployable("two", archive(model, code__inference=HANDLER), SAGEMAKER_GUNICORN_WORKERS="2")
    cloud.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    assert cloud.settled(name)["EndpointStatus"] == "InService"
    assert invoke(cloud, name, "21") == "42.0"
    before = serving_processes(embedded.state)
    assert len(before) == 3, "two, and the one that started them"
    os.kill(max(before), signal.SIGKILL)
    wait_until(
        lambda: serving_processes(embedded.state), lambda found: len(found) == 3 and not found & before, seconds=60
    )
    assert wait_until(lambda: answer(cloud, name, "4"), bool, seconds=60) == "8.0"
    cloud.sagemaker.delete_endpoint(EndpointName=name)
    wait_until(lambda: serving_processes(embedded.state), lambda found: not found)


SEVERED = HANDLER.replace("import json", "import json, os, socket").replace(
    "data.read())",
    "sever(data.read()))",
)
SEVERED = (
    SEVERED.replace("str(response.json()", "str(os.getpid()) + ' ' + str(response.json()")
    + """
def sever(text):
    for number in range(3, 256 if text == b"13" else 0):
        try:
            with socket.socket(fileno=os.dup(number)) as connection:
                if connection.family == socket.AF_INET and connection.getpeername():
                    connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # A file, or the socket that listens.
    return text
"""
)
"""A handler that breaks off the connections of its server at the number 13, as the system does for a dying one."""


@pytest.mark.parametrize("count", [1, 2])
def test_who_breaks_off_a_connection_is_asked_last_for_a_moment(cloud: Cloud, model: Path, count: int) -> None:
    name = f"endpoint-{secrets.token_hex(4)}"
    served = cloud.deployable("severed", archive(model, code__inference=SEVERED))
    instances = variant("all", served) | {"InitialInstanceCount": count}
    cloud.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[instances])
    cloud.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert cloud.settled(name)["EndpointStatus"] == "InService"

    def process() -> str:
        number, value = invoke(cloud, name, "21").split()
        assert value == "42.0"
        return number

    both = wait_until(lambda: {process() for _ in range(10)}, lambda found: len(found) == count)
    asked: set[str] = set()
    while not asked:
        began = time.monotonic()
        with pytest.raises(ClientError, match="did not answer"):
            invoke(cloud, name, "13")
        # What comes later may have been asked later; on a machine so slow that all does, it is tried once more.
        while (number := process()) and time.monotonic() < began + AVOID_SECONDS:
            asked.add(number)
    # Where there is another it is asked alone; where there is none, the one that broke off is better than nothing.
    assert len(asked) == 1
    assert wait_until(lambda: {process() for _ in range(10)}, lambda found: len(found) == count) == both
    cloud.sagemaker.delete_endpoint(EndpointName=name)


def answer(cloud: Cloud, name: str, body: str) -> str:
    """Return an endpoint's answer, or nothing while it has none."""
    try:
        return invoke(cloud, name, body)
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500, error
        return ""


def test_endpoints_are_steps_too(cloud: Cloud, model: Path) -> None:
    name = f"endpoint-{secrets.token_hex(4)}"
    good = cloud.deployable("good", archive(model, code__inference=HANDLER))
    broken = cloud.deployable("broken", archive(model), PYTHONHOME="/nowhere")

    def deploying(served: str) -> str:
        made = {"Get": "Steps.Config.EndpointConfigName"}
        config = {
            "Name": "Config",
            "Type": "EndpointConfig",
            "Arguments": {"ProductionVariants": [variant("all", served)]},
        }
        endpoint = {"EndpointName": name, "EndpointConfigName": made}
        return definition(config, {"Name": "Serve", "Type": "Endpoint", "Arguments": endpoint})

    created = cloud.run(deploying(good))
    assert created.status == "Succeeded", created.reason
    assert created.steps["Serve"]["Metadata"]["Endpoint"]["Arn"].endswith(f":endpoint/{name}")
    first = created.steps["Config"]["Metadata"]["EndpointConfig"]["Arn"].rpartition("/")[2]
    assert cloud.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"] == first
    failed = cloud.run(deploying(broken))
    assert failed.statuses == {"Config": "Succeeded", "Serve": "Failed"}
    assert "ping health check" in failed.steps["Serve"]["FailureReason"]
    assert invoke(cloud, name, "4") == "8.0"
    cloud.sagemaker.delete_endpoint(EndpointName=name)


def test_a_first_creation_that_fails_is_failed_and_can_be_deleted(cloud: Cloud) -> None:
    for body in (b"this is no archive", None):
        config = cloud.deployable("broken", body or b"")
        if body is None:
            cloud.client("s3").delete_object(Bucket=cloud.bucket, Key=f"{config}.tar.gz")
        cloud.sagemaker.create_endpoint(EndpointName=config, EndpointConfigName=config)
        described = cloud.settled(config)
        assert described["EndpointStatus"] == "Failed"
        assert f"Failed to download or unpack model data {cloud.s3(config)}.tar.gz" in described["FailureReason"]
        cloud.sagemaker.delete_endpoint(EndpointName=config)


def test_unknown_names_are_refused(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match=r"no-such-endpoint .*not found") as refusal:
        invoke(cloud, "no-such-endpoint", "1")
    assert refusal.value.response["Error"]["Code"] == "ValidationError"
    with pytest.raises(ClientError, match="Could not find endpoint-config"):
        cloud.sagemaker.create_endpoint(EndpointName="any", EndpointConfigName="no-such-config")
    with pytest.raises(ClientError, match="Could not find endpoint "):
        cloud.sagemaker.delete_endpoint(EndpointName="no-such-endpoint")
