"""Updates of an endpoint under a steady load: what is good loses nothing, what is bad goes back. All is real."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_cloud import HANDLER, Cloud, archive, wait_until

from infra.local.control import RunningServer

RATE = 200
"""Requests a second, as many as the load's threads send together."""
THREADS = 8
CANARY = 0.5
"""The smallest part of two instances."""

RAISING = HANDLER.replace("float(data.read())", "float(data.read()) / 0")
SLOW = HANDLER.replace("def input_handler(data, context):", "def input_handler(data, context):\n    time.sleep(0.2)")
SLOW = SLOW.replace("import json", "import json, time")
DYING = "raise SystemExit('this model is not for today')"


class Load:
    """Requests at a steady rate, and what came back."""

    def __init__(self, server: RunningServer, endpoint: str) -> None:
        self._host, self._path = server.url.removeprefix("http://"), f"/endpoints/{endpoint}/invocations"
        self._ended = threading.Event()
        self.log: list[tuple[float, int | str]] = []

    @property
    def answers(self) -> Counter[int | str]:
        return Counter(answer for _, answer in self.log)

    def _send(self, offset: float) -> None:
        connection, due = http.client.HTTPConnection(self._host, timeout=30), time.monotonic() + offset
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due += THREADS / RATE
            try:
                connection.request("POST", self._path, b"21", {"Content-Type": "text/plain"})
                answer = connection.getresponse()
                body = answer.read()
                right = answer.status != 200 or body == b"42.0"
                self.log.append((time.monotonic(), answer.status if right else "wrong"))
            except (OSError, http.client.HTTPException) as error:
                self.log.append((time.monotonic(), repr(error)))
                connection = http.client.HTTPConnection(self._host, timeout=30)

    @contextmanager
    def running(self) -> Iterator[Load]:
        threads = [threading.Thread(target=self._send, args=(i / RATE,), daemon=True) for i in range(THREADS)]
        for thread in threads:
            thread.start()
        yield self
        self._ended.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def load(embedded: RunningServer, endpoint: str) -> Iterator[Load]:
    with Load(embedded, endpoint).running() as running:
        yield running


def two_instances(cloud: Cloud, body: bytes) -> str:
    """Make a configuration of two instances."""
    name = cloud.deployable("two", body)
    variant = {"VariantName": "all", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 2}
    config = f"{name}-x2"
    cloud.sagemaker.create_endpoint_config(EndpointConfigName=config, ProductionVariants=[variant])
    return config


@pytest.fixture(scope="module")
def endpoint(client: Callable[[str], Any], model: Path) -> Iterator[str]:
    """An endpoint of two instances that serve well, and are left so by every test."""
    name = f"endpoint-{secrets.token_hex(4)}"
    cloud = Cloud(client, name)
    client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    config = two_instances(cloud, archive(model, code__inference=HANDLER))
    cloud.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    assert cloud.settled(name)["EndpointStatus"] == "InService"
    yield name
    cloud.settled(name)
    cloud.sagemaker.delete_endpoint(EndpointName=name)


def alarm(cloud: Cloud, endpoint: str, metric: str, threshold: float) -> str:
    """Make an alarm on the average of one of the endpoint's metrics in one minute."""
    name = f"{endpoint}-{metric}"
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "all"}]
    cloud.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SageMaker",
        MetricName=metric,
        Dimensions=dimensions,
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=threshold,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
    )
    return name


def canary(*alarms: str, bake: int = 240) -> dict[str, Any]:
    """A deployment that shows the new fleet half of the traffic for four of AWS's minutes, four seconds here."""
    size = {"Type": "CAPACITY_PERCENT", "Value": 50}
    routing = {"Type": "CANARY", "CanarySize": size, "WaitIntervalInSeconds": bake}
    policy = {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": 60}
    rollback = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": each} for each in alarms]}} if alarms else {}
    return {"BlueGreenUpdatePolicy": policy, **rollback}


def update(cloud: Cloud, endpoint: str, config: str, deployment: dict[str, Any]) -> dict[str, Any]:
    cloud.sagemaker.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=config, DeploymentConfig=deployment, RetainAllVariantProperties=True
    )
    return cloud.settled(endpoint)


def test_a_good_deployment_loses_no_request(cloud: Cloud, endpoint: str, load: Load, model: Path) -> None:
    alarms = [alarm(cloud, endpoint, "Invocation5XXErrors", 0.01), alarm(cloud, endpoint, "ModelLatency", 30e6)]
    config = two_instances(cloud, archive(model, code__inference=HANDLER))
    statuses = set()
    cloud.sagemaker.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=config, DeploymentConfig=canary(*alarms, bake=120)
    )
    while (now := cloud.sagemaker.describe_endpoint(EndpointName=endpoint))["EndpointStatus"] == "Updating":
        pending = now.get("PendingDeploymentSummary")
        if pending:
            assert pending["EndpointConfigName"] == config
            statuses |= {each["VariantStatus"][0]["Status"] for each in pending["ProductionVariants"]}
        time.sleep(0.05)
    assert (now["EndpointStatus"], now["EndpointConfigName"]) == ("InService", config), now.get("FailureReason")
    assert {"Creating", "Baking"} <= statuses
    assert now["LastDeploymentConfig"] == canary(*alarms, bake=120)
    assert "PendingDeploymentSummary" not in now
    time.sleep(0.5)
    assert set(load.answers) == {200}, load.answers
    assert load.answers[200] > 200


def test_a_canary_that_raises_touches_its_share_and_is_rolled_back(
    cloud: Cloud, endpoint: str, load: Load, model: Path
) -> None:
    served = cloud.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    name = alarm(cloud, endpoint, "Invocation5XXErrors", 0.1)
    after = update(
        cloud, endpoint, two_instances(cloud, archive(model, code__inference=RAISING)), canary(name, bake=1200)
    )
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", served)
    assert name in after["FailureReason"]
    failed = [moment for moment, answer in load.log if answer == 424]
    during = [answer for moment, answer in load.log if failed[0] <= moment <= failed[-1]]
    # Half of the traffic, give or take what a fair coin does once in a million runs.
    assert len(failed) <= CANARY * len(during) + 2.5 * len(during) ** 0.5
    assert failed[-1] - failed[0] < 20, "the alarm ends it before the bake time does"
    settled = load.answers
    wait_until(lambda: load.answers[200], lambda number: number > settled[200] + 100)
    assert load.answers[424] - settled[424] <= THREADS, "what was under way at the rollback, and no more"
    assert set(load.answers) == {200, 424}


def test_a_canary_that_is_slow_is_rolled_back(cloud: Cloud, endpoint: str, load: Load, model: Path) -> None:
    served = cloud.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    name = f"{endpoint}-slow"
    slow = two_instances(cloud, archive(model, code__inference=SLOW))
    # An alarm on the new fleet alone: the old one's speed does not thin it out.
    dimensions = {"EndpointName": endpoint, "VariantName": "all", "EndpointConfigName": slow}
    cloud.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SageMaker",
        MetricName="ModelLatency",
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        Statistic="Minimum",
        Period=60,
        EvaluationPeriods=2,
        DatapointsToAlarm=1,
        Threshold=190_000,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
    )
    after = update(cloud, endpoint, slow, canary(name))
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", served)
    assert name in after["FailureReason"]
    assert set(load.answers) == {200}, load.answers


def test_a_model_that_dies_at_its_start_is_never_asked(cloud: Cloud, endpoint: str, load: Load, model: Path) -> None:
    served = cloud.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    after = update(cloud, endpoint, two_instances(cloud, archive(model, code__inference=DYING)), canary())
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", served)
    assert "did not pass the ping health check" in after["FailureReason"]
    assert "not for today" in after["FailureReason"]
    assert set(load.answers) == {200}, load.answers


def test_a_killed_model_server_is_restarted_while_the_other_answers(
    cloud: Cloud, embedded: RunningServer, endpoint: str, load: Load
) -> None:
    first, second = instances(embedded.state)
    wait_until(lambda: load.answers[200], lambda number: number > 100)
    os.kill(first, signal.SIGKILL)
    killed = load.answers
    alive = wait_until(
        lambda: instances(embedded.state), lambda found: len(found) == 2 and first not in found, seconds=60
    )
    assert second in alive
    wait_until(lambda: load.answers[200], lambda number: number > killed[200] + 300)
    lost = sum(number for answer, number in load.answers.items() if answer != 200)
    # What the dead process was answering is lost, on AWS too; what comes after it goes to the other one.
    assert lost <= THREADS, load.answers


def instances(state: Path) -> set[int]:
    """Find the model servers of a state folder that listen."""
    found = set()
    for process in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        try:
            command = (process / "cmdline").read_text() if process.name.isdecimal() else ""
        except OSError:
            continue
        if "model_server" in command and str(state) in command:
            found.add(int(process.name))
    return found


def test_instances_and_weights_change_without_an_update(cloud: Cloud, endpoint: str, embedded: RunningServer) -> None:
    def change(count: int) -> dict[str, Any]:
        wanted = {"VariantName": "all", "DesiredWeight": 2.0, "DesiredInstanceCount": count}
        cloud.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=endpoint, DesiredWeightsAndCapacities=[wanted]
        )
        (variant,) = cloud.settled(endpoint)["ProductionVariants"]
        return dict(variant)

    assert change(1) == {
        "VariantName": "all",
        "CurrentWeight": 2.0,
        "DesiredWeight": 2.0,
        "CurrentInstanceCount": 1,
        "DesiredInstanceCount": 1,
    }
    assert len(instances(embedded.state)) == 1
    config = cloud.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    cloud.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config, RetainAllVariantProperties=True)
    (variant,) = cloud.settled(endpoint)["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == (1, 2.0)
    with pytest.raises(ClientError, match="limit for instances") as refusal:
        change(9)
    assert refusal.value.response["Error"]["Code"] == "ResourceLimitExceeded"
    with pytest.raises(ClientError, match="Variant other not found"):
        cloud.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=endpoint, DesiredWeightsAndCapacities=[{"VariantName": "other", "DesiredWeight": 1.0}]
        )


def test_updates_that_aws_would_refuse(cloud: Cloud, endpoint: str, model: Path) -> None:
    config = cloud.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]

    def refused(match: str, **deployment: Any) -> None:
        with pytest.raises(ClientError, match=match):
            cloud.sagemaker.update_endpoint(
                EndpointName=endpoint, EndpointConfigName=config, DeploymentConfig=deployment
            )
        assert cloud.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] == "InService"

    refused("alarm nobody does not exist", **canary("nobody"))
    size = {"Type": "INSTANCE_COUNT", "Value": 1}
    routing = {"Type": "LINEAR", "WaitIntervalInSeconds": 0}
    refused("LinearStepSize is required", BlueGreenUpdatePolicy={"TrafficRoutingConfiguration": routing})
    refused("RollingUpdatePolicy is not", RollingUpdatePolicy={"MaximumBatchSize": size, "WaitIntervalInSeconds": 0})
    single = cloud.deployable("single", archive(model, code__inference=HANDLER))
    with pytest.raises(ClientError, match="more than 50%"):
        cloud.sagemaker.update_endpoint(
            EndpointName=endpoint, EndpointConfigName=single, DeploymentConfig=canary(bake=0)
        )
