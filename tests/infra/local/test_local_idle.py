"""The time limit for idle endpoints: the template's own function, run against an endpoint that serves."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cfnlint.decode import cfn_yaml
from embedded_cloud import HANDLER, Cloud, archive, variant, wait_until

from infra import stacks
from infra.local import control

TEMPLATE = json.loads(
    json.dumps(cfn_yaml.loads((Path(stacks.__file__).with_name("aws") / "automation.yaml").read_text()))
)

Look = Callable[..., str]


@pytest.fixture
def serving(cloud: Cloud, model: Path) -> str:
    """An endpoint whose variant is called as the deployment calls it."""
    name = f"idle-{secrets.token_hex(4)}"
    cloud.put({f"{name}.tar.gz": archive(model, code__inference=HANDLER)})
    container = {"Image": "any", "ModelDataUrl": cloud.s3(f"{name}.tar.gz")}
    cloud.sagemaker.create_model(
        ModelName=name, PrimaryContainer=container, ExecutionRoleArn="arn:aws:iam::123456789012:role/r"
    )
    cloud.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant("AllTraffic", name)])
    cloud.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert cloud.settled(name)["EndpointStatus"] == "InService"
    return name


@pytest.fixture
def look(cloud: Cloud, embedded: control.RunningServer, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Calls the function as Lambda would, and returns what it says."""
    topic = cloud.client("sns").create_topic(Name=f"idle-{secrets.token_hex(4)}")["TopicArn"]
    place: dict[str, Any] = {}
    exec(TEMPLATE["Resources"]["IdleFunction"]["Properties"]["Code"]["ZipFile"], place)
    credentials = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": embedded.region}
    for key, value in {**credentials, "AWS_ENDPOINT_URL": embedded.url, "TOPIC": topic}.items():
        monkeypatch.setenv(key, value)

    def call(endpoint: str, hours: float) -> str:
        monkeypatch.setenv("ENDPOINT", endpoint)
        monkeypatch.setenv("HOURS", str(hours))
        said: str = place["handler"]({}, None)
        return said

    return call


def test_an_endpoint_that_is_asked_or_young_is_kept_and_an_idle_one_is_deleted(
    cloud: Cloud, serving: str, look: Look
) -> None:
    assert look(serving, 1) == "kept: it changes, or has changed lately"
    runtime, limit = cloud.client("sagemaker-runtime"), 8 / 3600
    time.sleep(8)
    # Requests are counted once in each of the clock's minutes, which are seconds here.
    for _ in range(15):
        runtime.invoke_endpoint(EndpointName=serving, ContentType="text/plain", Body="1")
        time.sleep(0.2)
    kept = re.fullmatch(r"kept: asked (\d+) times", look(serving, limit))
    assert kept
    assert 1 <= int(kept[1]) <= 15
    assert cloud.settled(serving)["EndpointStatus"] == "InService"
    said = wait_until(lambda: look(serving, limit), lambda said: not said.startswith("kept"), 60)
    assert said == f"Nobody asked the endpoint {serving} for {limit:g} hours, so it was deleted. " + (
        "`signs deploy` brings it back."
    )
    with pytest.raises(ClientError, match="Could not find endpoint"):
        cloud.sagemaker.describe_endpoint(EndpointName=serving)
    assert look(serving, 1) == "there is no endpoint"


def test_the_function_fits_into_a_template_and_calls_what_its_role_may() -> None:
    code = TEMPLATE["Resources"]["IdleFunction"]["Properties"]["Code"]["ZipFile"]
    assert len(code) <= 4096  # AWS::Lambda::Function Code, ZipFile
    statements = TEMPLATE["Resources"]["IdleRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    actions = {a for s in statements for a in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])}
    calls = {"delete_endpoint", "describe_endpoint", "get_metric_statistics", "publish"}
    assert all(f".{call}(" in code for call in calls)
    # Developer guide, "Delete endpoints configured for auto scaling": SageMaker asks for these in its caller's name.
    implied = {"DeregisterScalableTarget", "DescribeScalableTargets", "DeleteAlarms", "DescribeAlarms"}
    assert {action.partition(":")[2] for action in actions if not action.startswith("logs:")} == implied | {
        "".join(word.capitalize() for word in call.split("_")) for call in calls
    }
