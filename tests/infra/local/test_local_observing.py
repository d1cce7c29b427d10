"""What an endpoint tells of its requests, and what follows from it: metrics, captured data, more instances."""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_cloud import HANDLER, Cloud, archive, variant, wait_until

SLEEPY = HANDLER.replace("import json", "import json, time").replace(
    "def output_handler", "def pause():\n    time.sleep(0.5)\n\ndef output_handler"
)
SLEEPY = SLEEPY.replace("    return json.dumps", "    pause()\n    return json.dumps")


@pytest.fixture(scope="module")
def cloud(client: Callable[[str], Any]) -> Cloud:
    """The session's server, with a bucket of this file's own."""
    bucket = f"bucket-{secrets.token_hex(4)}"
    client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return Cloud(client, bucket)


@pytest.fixture(scope="module")
def endpoint(cloud: Cloud, model: Path) -> Iterator[str]:
    """An endpoint whose requests are all captured."""
    name = f"endpoint-{secrets.token_hex(4)}"
    served = cloud.deployable("good", archive(model, code__inference=HANDLER))
    cloud.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[variant("all", served)],
        DataCaptureConfig={
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": cloud.s3("captured/"),
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"CsvContentTypes": ["text/plain"]},
        },
    )
    cloud.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert cloud.settled(name)["EndpointStatus"] == "InService"
    yield name
    cloud.settled(name)
    cloud.sagemaker.delete_endpoint(EndpointName=name)


def ask(cloud: Cloud, endpoint: str, body: str = "21", **more: str) -> str:
    answer = cloud.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint, Body=body, ContentType=more.pop("ContentType", "text/plain"), **more
    )
    return str(answer["Body"].read().decode())


def sums(cloud: Cloud, endpoint: str, **more: str) -> dict[str, float]:
    """The sums of all metrics of an endpoint's only variant, since an hour ago."""
    dimensions = {"EndpointName": endpoint, "VariantName": "all", **more}
    shown = [{"Name": name, "Value": text} for name, text in dimensions.items()]
    cloudwatch, now = cloud.client("cloudwatch"), datetime.now(UTC)
    listed = cloudwatch.list_metrics(Namespace="AWS/SageMaker", Dimensions=shown)["Metrics"]
    result = {}
    for name in {metric["MetricName"] for metric in listed}:
        window = {"StartTime": now - timedelta(hours=1), "EndTime": now + timedelta(minutes=1), "Period": 7200}
        answer = cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker", MetricName=name, Dimensions=shown, Statistics=["Sum"], **window
        )
        result[name] = sum(point["Sum"] for point in answer["Datapoints"])
    return result


def test_every_invocation_is_counted_and_timed(cloud: Cloud, endpoint: str) -> None:
    before = sums(cloud, endpoint).get("Invocations", 0.0)
    for _ in range(3):
        ask(cloud, endpoint)
    with pytest.raises(ClientError):
        ask(cloud, endpoint, ContentType="image/png")
    with pytest.raises(ClientError):
        ask(cloud, endpoint, "no number")
    wait_until(lambda: sums(cloud, endpoint), lambda now: now.get("Invocations", 0) >= before + 5)
    # Each metric is a call, and while the wait made them a batch may have come in between.
    found = sums(cloud, endpoint)
    assert found["Invocations"] == found["InvocationsPerInstance"] == before + 5
    errors = ("Invocation4XXErrors", "Invocation5XXErrors", "InvocationModelErrors")
    assert [found[name] for name in errors] == [1, 1, 2]
    # Microseconds: a model call takes more than a tenth of a millisecond, and all of them less than a minute.
    assert 5 * 100 < found["ModelLatency"] < 60e6
    assert 0 < found["OverheadLatency"] < 60e6
    assert sums(cloud, endpoint, EndpointConfigName=endpoint) == found


def test_requests_and_answers_are_captured_in_sagemakers_format(cloud: Cloud, endpoint: str) -> None:
    summary = cloud.sagemaker.describe_endpoint(EndpointName=endpoint)["DataCaptureConfig"]
    assert (summary["EnableCapture"], summary["CaptureStatus"]) == (True, "Started")
    ask(cloud, endpoint, "8", InferenceId="number-eight", CustomAttributes="a=b")

    def events() -> list[dict[str, Any]]:
        keys = cloud.keys(f"captured/{endpoint}/all/")
        pattern = rf"captured/{endpoint}/all/\d{{4}}/\d\d/\d\d/\d\d/\d\d-\d\d-\d{{3}}-[0-9a-f-]{{36}}\.jsonl"
        assert all(re.fullmatch(pattern, key) for key in keys), keys
        return [json.loads(line) for key in keys for line in cloud.get(cloud.s3(key)).splitlines()]

    def mine(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [event for event in found if event["eventMetadata"].get("inferenceId") == "number-eight"]

    (event,) = mine(wait_until(events, lambda found: bool(mine(found))))
    assert event["captureData"] == {
        "endpointInput": {"observedContentType": "text/plain", "mode": "INPUT", "data": "8", "encoding": "CSV"},
        "endpointOutput": {
            "observedContentType": "text/plain", "mode": "OUTPUT", "data": "16.0", "encoding": "CSV",
        },
    }  # fmt: skip
    assert event["eventVersion"] == "0"
    assert event["eventMetadata"]["customAttributes"] == ["a=b"]
    datetime.strptime(event["eventMetadata"]["inferenceTime"], "%Y-%m-%dT%H:%M:%SZ")


def test_other_types_are_captured_as_base64() -> None:
    from infra.local.endpoints.capture import Captures, Exchange

    stored: list[bytes] = []

    class Store:
        def put_object(self, Body: str, **_: Any) -> None:  # boto3's name
            stored.append(Body.encode())

    captures, s3 = Captures(), Store()
    exchange = Exchange(b"\x89PNG", "image/png", b"{}", "application/json", None, None)
    sampled = {"InitialSamplingPercentage": 100, "DestinationS3Uri": "s3://b/p", "CaptureOptions": []}
    captures.add("e", "v", {**sampled, "CaptureOptions": [{"CaptureMode": "InputAndOutput"}]}, exchange, s3)
    for nothing in (None, {**sampled, "EnableCapture": False}, {**sampled, "InitialSamplingPercentage": 0}):
        captures.add("e", "v", nothing, exchange, s3)
    captures.send()
    captures.send()
    (line,) = stored
    shown = json.loads(line)["captureData"]
    assert base64.b64decode(shown["endpointInput"]["data"]) == b"\x89PNG"
    assert {side["encoding"] for side in shown.values()} == {"BASE64"}


def test_a_variant_grows_under_load_and_shrinks_without_it(cloud: Cloud, endpoint: str) -> None:
    scaling, resource = cloud.client("application-autoscaling"), f"endpoint/{endpoint}/variant/all"
    where = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": resource,
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    scaling.register_scalable_target(**where, MinCapacity=1, MaxCapacity=2)
    scaling.put_scaling_policy(
        **where,
        PolicyName="follow",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 5,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
            "ScaleOutCooldown": 60,
            "ScaleInCooldown": 60,
        },
    )

    def count() -> int:
        (found,) = cloud.sagemaker.describe_endpoint(EndpointName=endpoint)["ProductionVariants"]
        return int(found["CurrentInstanceCount"])

    def load() -> None:
        while not ended.wait(0.02):
            ask(cloud, endpoint)

    ended = threading.Event()
    asking = threading.Thread(target=load)
    asking.start()
    try:
        wait_until(count, lambda found: found == 2, seconds=90)
    finally:
        ended.set()
        asking.join()
    wait_until(count, lambda found: found == 1, seconds=90)
    assert ask(cloud, endpoint) == "42.0"
    scaling.deregister_scalable_target(**where)


def test_a_serverless_endpoint_answers_so_many_at_once_and_no_more(cloud: Cloud, model: Path) -> None:
    name = f"serverless-{secrets.token_hex(4)}"
    served = cloud.deployable("sleepy", archive(model, code__inference=SLEEPY))
    serverless = {
        "VariantName": "all",
        "ModelName": served,
        "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1},
    }
    cloud.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[serverless])
    cloud.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    (shown,) = cloud.settled(name)["ProductionVariants"]
    assert shown["CurrentServerlessConfig"]["MaxConcurrency"] == 1
    assert "CurrentInstanceCount" not in shown
    # A busy machine may not have begun with the first one when the second one comes.
    for _ in range(20):
        first = threading.Thread(target=asked, args=(cloud, name))
        first.start()
        time.sleep(0.2)
        answer = raw(cloud, name)
        first.join()
        if answer.status_code != 200:
            break
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (429, "ThrottlingException")
    assert ask(cloud, name) == "42.0"
    routing = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    guarded = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}
    with pytest.raises(ClientError, match="not supported for serverless"):
        cloud.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=name, DeploymentConfig=guarded)
    cloud.sagemaker.delete_endpoint(EndpointName=name)


def asked(cloud: Cloud, name: str) -> None:
    """Ask, whether or not there is an answer."""
    with suppress(ClientError):
        ask(cloud, name)


def raw(cloud: Cloud, name: str) -> Any:
    """Ask without boto3, which tries what was throttled again."""
    import httpx

    url = cloud.client("sagemaker-runtime").meta.endpoint_url
    headers = {"Content-Type": "text/plain"}
    return httpx.post(f"{url}/endpoints/{name}/invocations", content=b"1", headers=headers, timeout=60)


def test_an_endpoint_with_instances_stays_one(cloud: Cloud, endpoint: str) -> None:
    served = cloud.sagemaker.describe_endpoint_config(EndpointConfigName=endpoint)["ProductionVariants"][0]["ModelName"]
    name = f"serverless-{secrets.token_hex(4)}"
    limits = {"MemorySizeInMB": 2048, "MaxConcurrency": 1}
    one = {"VariantName": "all", "ModelName": served, "ServerlessConfig": limits}
    cloud.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[one])
    with pytest.raises(ClientError, match="cannot be updated to a serverless"):
        cloud.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=name)
    capture = {
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": cloud.s3("captured/"),
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    two = [one, {**one, "VariantName": "other"}]
    for refused in ({"DataCaptureConfig": capture, "ProductionVariants": [one]}, {"ProductionVariants": two}):
        with pytest.raises(ClientError, match="serverless"):
            cloud.sagemaker.create_endpoint_config(EndpointConfigName=f"{name}-2", **refused)
