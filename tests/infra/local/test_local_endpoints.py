"""Endpoints that serve a tiny SavedModel, and the model server's REST rules."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_cloud import ROLE, Cloud, wait_until

from infra.local.control import RunningServer

HANDLER = """
import json

class Refusal(Exception):
    status = "415 Unsupported Media Type"

def input_handler(data, context):
    if context.request_content_type != "text/plain":
        raise Refusal(f"cannot read {context.request_content_type}")
    return json.dumps({"instances": [float(data.read())]})

def output_handler(response, context):
    if response.status_code != 200:
        raise ValueError(response.content.decode())
    return str(response.json()["predictions"][0]), "text/plain"
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with version 1 of a model that doubles numbers, another signature that adds, and no handler."""
    import tensorflow as tf

    class Doubler(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def double(self, x: Any) -> Any:
            return {"y": 2.0 * x}

        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.float32, name="a"), tf.TensorSpec([None], tf.string, name="b")]
        )
        def echo(self, a: Any, b: Any) -> Any:
            return {"a": a, "b": b}

    folder, module = tmp_path_factory.mktemp("model"), Doubler()
    signatures = {"serving_default": module.double, "echo": module.echo}
    tf.saved_model.save(module, str(folder / "1"), signatures=signatures)
    return folder


def archive(folder: Path | None = None, **files: str) -> bytes:
    """Pack a folder and some more files; a double underscore in a name stands for a slash."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        if folder is not None:
            tar.add(folder, arcname=".")
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/") + ".py")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return body.getvalue()


@pytest.fixture
def post(model: Path) -> Callable[..., tuple[int, Any]]:
    """Sends a body to a model in this process, without a handler file."""
    from infra.local.model_server import Context, Server

    server, context = Server(model), Context(*[None] * 11)

    def send(body: Any) -> tuple[int, Any]:
        answer = server.answer(body if isinstance(body, bytes) else json.dumps(body).encode(), context)
        return answer.status_code, json.loads(answer.body)

    return send


def test_the_rest_rules_of_tensorflow_serving(post: Callable[..., tuple[int, Any]]) -> None:
    assert post({"instances": [1.5, 2]}) == (200, {"predictions": [3.0, 4.0]})
    assert post({"instances": [{"x": 1}]}) == (200, {"predictions": [2.0]})
    rows = [{"a": 1, "b": {"b64": "aGk="}}, {"a": 2, "b": "yo"}]
    answer = {"predictions": [{"a": 1.0, "b": "hi"}, {"a": 2.0, "b": "yo"}]}
    assert post({"signature_name": "echo", "instances": rows}) == (200, answer)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"no json", "JSON Parse error"),
        ({"inputs": [1]}, "instances"),
        ({"instances": []}, "non-empty list"),
        ({"instances": ["word"]}, "do not fit"),
        ({"instances": [{"b64": "not base64!"}]}, "not base64"),
        ({"instances": [1, [2, 3]]}, "do not fit"),
        ({"instances": [1], "signature_name": "none"}, 'signature name: "none" not found'),
        ({"instances": [{"a": 1}], "signature_name": "echo"}, "must name the inputs (a, b|b, a)"),
    ],
)
def test_a_request_that_does_not_fit_is_a_400(post: Callable[..., tuple[int, Any]], body: Any, message: str) -> None:
    status, answer = post(body)
    assert status == 400, answer
    assert re.search(message, answer["error"])


def deployable(cloud: Cloud, name: str, body: bytes, **environment: str) -> str:
    """Make a model of an archive and a configuration of the model, both of that name."""
    name = f"{name}-{secrets.token_hex(4)}"
    cloud.put({f"{name}.tar.gz": body})
    container = {"Image": "any", "ModelDataUrl": cloud.s3(f"{name}.tar.gz"), "Environment": environment}
    cloud.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "all", "ModelName": name, "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    cloud.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    return name


def settled(cloud: Cloud, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = wait_until(
        lambda: cloud.sagemaker.describe_endpoint(EndpointName=name),
        lambda answer: answer["EndpointStatus"] in ("InService", "Failed"),
        seconds=120,
    )
    return answer


def invoke(cloud: Cloud, name: str, body: str, content_type: str = "text/plain") -> str:
    answer = cloud.client("sagemaker-runtime").invoke_endpoint(EndpointName=name, Body=body, ContentType=content_type)
    assert answer["InvokedProductionVariant"] == "all"
    return str(answer["Body"].read().decode())


def test_the_life_of_an_endpoint(cloud: Cloud, embedded: RunningServer, model: Path) -> None:
    name = f"endpoint-{secrets.token_hex(4)}"
    good = deployable(cloud, "good", archive(model, code__inference=HANDLER))
    arn = cloud.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=good)["EndpointArn"]
    assert cloud.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Creating"
    for call in (cloud.sagemaker.delete_endpoint, cloud.sagemaker.update_endpoint):
        extra = {"EndpointConfigName": good} if call == cloud.sagemaker.update_endpoint else {}
        with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
            call(EndpointName=name, **extra)
    with pytest.raises(ClientError, match="not found") as refusal:
        invoke(cloud, name, "1")
    assert refusal.value.response["Error"]["Code"] == "ValidationError"
    described = settled(cloud, name)
    assert (described["EndpointStatus"], described["EndpointArn"]) == ("InService", arn)
    assert described["ProductionVariants"][0]["VariantName"] == "all"
    assert invoke(cloud, name, "21") == "42.0"
    model_errors(cloud, name)

    process = serving_process(embedded.state)
    # No interpreter starts in such a place: the cheapest container that dies.
    broken = deployable(cloud, "broken", archive(model), PYTHONHOME="/nowhere")
    cloud.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=broken)
    described = settled(cloud, name)
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


def serving_process(state: Path) -> int:
    """Find the only model server of a state folder by its command line."""
    listing = subprocess.run(["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    (found,) = (line for line in listing.splitlines() if "model_server" in line and str(state) in line)
    return int(found.split()[0])


def test_an_archive_without_a_version_is_named(tmp_path: Path) -> None:
    from infra.local.model_server import Server

    (tmp_path / "code").mkdir()
    with pytest.raises(SystemExit, match="holds no model version"):
        Server(tmp_path)


def test_a_first_creation_that_fails_is_failed_and_can_be_deleted(cloud: Cloud) -> None:
    for body in (b"this is no archive", None):
        config = deployable(cloud, "broken", body or b"")
        if body is None:
            cloud.client("s3").delete_object(Bucket=cloud.bucket, Key=f"{config}.tar.gz")
        cloud.sagemaker.create_endpoint(EndpointName=config, EndpointConfigName=config)
        described = settled(cloud, config)
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
