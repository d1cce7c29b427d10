"""Transform jobs: a model's answers to every object under a prefix."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_cloud import HANDLER, Cloud, archive, wait_until

SLOW = HANDLER.replace("return json", "import time; time.sleep(30); return json")
ENVIRONMENT = """
import json, os

def handler(data, context):
    seen = {key: value for key, value in os.environ.items() if key.startswith("SAGEMAKER_")}
    lines = data.read().decode()
    return json.dumps({**seen, "lines": lines, "type": context.request_content_type}), "application/json"
"""


def start(cloud: Cloud, model: str, **more: Any) -> str:
    """Start a job from ``in/`` to ``out/``; ``more`` adds to its request."""
    name = f"transform-{secrets.token_hex(4)}"
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": cloud.s3("in/")}}
    request = {
        "TransformJobName": name,
        "ModelName": model,
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **more,
        "TransformInput": {"DataSource": source, "ContentType": "text/plain", **more.get("TransformInput", {})},
        "TransformOutput": {"S3OutputPath": cloud.s3("out"), **more.get("TransformOutput", {})},
    }
    cloud.sagemaker.create_transform_job(**request)
    return name


def ended(cloud: Cloud, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = wait_until(
        lambda: cloud.sagemaker.describe_transform_job(TransformJobName=name),
        lambda answer: answer["TransformJobStatus"] not in ("InProgress", "Stopping"),
        seconds=120,
    )
    return answer


def test_every_object_gets_its_answers_line_by_line(cloud: Cloud, model: Path) -> None:
    doubler = cloud.deployable("doubler", archive(model, code__inference=HANDLER))
    cloud.put({"in/a.csv": "1\n2\n", "in/deep/b.csv": "3.5", "in-not/c": "no number"})
    name = start(
        cloud,
        doubler,
        BatchStrategy="SingleRecord",
        MaxConcurrentTransforms=2,
        TransformInput={"SplitType": "Line"},
        TransformOutput={"AssembleWith": "Line"},
    )
    described = ended(cloud, name)
    assert described["TransformJobStatus"] == "Completed", described["FailureReason"]
    assert described["CreationTime"] <= described["TransformStartTime"] <= described["TransformEndTime"]
    assert {key: cloud.get(cloud.s3(key)) for key in cloud.keys("out")} == {
        "out/a.csv.out": b"2.0\n4.0\n",
        "out/deep/b.csv.out": b"7.0\n",
    }
    listed = cloud.sagemaker.list_transform_jobs(NameContains=name)["TransformJobSummaries"]
    assert [job["TransformJobStatus"] for job in listed] == ["Completed"]
    streams = cloud.client("logs").describe_log_streams(
        logGroupName="/aws/sagemaker/TransformJobs", logStreamNamePrefix=f"{name}/"
    )
    assert len(streams["logStreams"]) == 1


def test_lines_are_sent_as_many_at_once_as_fit_and_the_container_is_told_how(cloud: Cloud, model: Path) -> None:
    echo = cloud.deployable("echo", archive(model, code__inference=ENVIRONMENT))
    half = "x" * 600_000
    cloud.put(
        {"in/lines": "\n".join([half, half, "last"]), "list/m": json.dumps([{"prefix": cloud.s3("in/")}, "lines"])}
    )
    manifest = {"S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": cloud.s3("list/m")}}
    described = ended(
        cloud,
        start(
            cloud,
            echo,
            BatchStrategy="MultiRecord",
            MaxPayloadInMB=1,
            Environment={"SAGEMAKER_OWN": "mine"},
            TransformInput={"SplitType": "Line", "DataSource": manifest},
            TransformOutput={"AssembleWith": "Line"},
        ),
    )
    assert described["TransformJobStatus"] == "Completed", described["FailureReason"]
    first, second = map(json.loads, cloud.get(cloud.s3("out/lines.out")).splitlines())
    assert (first["lines"], second["lines"]) == (half, f"{half}\nlast")
    assert first["type"] == "text/plain"
    assert {key: first[key] for key in first if key.startswith("SAGEMAKER_")} == {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_BATCH_STRATEGY": "MULTI_RECORD",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "1",
        "SAGEMAKER_OWN": "mine",
    }


def test_a_failure_names_the_object_and_the_models_answer(cloud: Cloud, model: Path) -> None:
    doubler = cloud.deployable("doubler", archive(model, code__inference=HANDLER))
    cloud.put({"in/a": "1", "in/b": "one"})
    described = ended(cloud, start(cloud, doubler, ModelClientConfig={"InvocationsMaxRetries": 1}))
    assert described["TransformJobStatus"] == "Failed"
    place = cloud.s3("in/b")
    assert described["FailureReason"].startswith(
        f"AlgorithmError: {place}: Bad HTTP status received from algorithm: 500: "
    )
    assert "could not convert string to float" in described["FailureReason"]
    assert cloud.keys("out") == ["out/a.out"]


def test_a_record_that_is_too_large_and_a_model_that_does_not_start_are_failures(cloud: Cloud, model: Path) -> None:
    cloud.put({"in/a": b"1" * 1_100_000})
    doubler = cloud.deployable("doubler", archive(model, code__inference=HANDLER))
    large = ended(cloud, start(cloud, doubler, MaxPayloadInMB=1))
    assert "a record has 1100000 bytes, more than MaxPayloadInMB allows" in large["FailureReason"]
    broken = ended(cloud, start(cloud, cloud.deployable("broken", archive(readme="no model"))))
    assert "holds no model version" in broken["FailureReason"]
    empty = ended(
        cloud,
        start(
            cloud,
            doubler,
            TransformInput={"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": cloud.s3("none/")}}},
        ),
    )
    assert "No S3 objects found" in empty["FailureReason"]


def test_a_job_stops_in_the_middle_of_a_request(cloud: Cloud, model: Path) -> None:
    cloud.put({"in/a": "1", "in/b": "2"})
    name = start(cloud, cloud.deployable("slow", archive(model, code__inference=SLOW)))
    wait_until(lambda: "TransformStartTime" in cloud.sagemaker.describe_transform_job(TransformJobName=name), bool)
    cloud.sagemaker.stop_transform_job(TransformJobName=name)
    described = ended(cloud, name)
    assert (described["TransformJobStatus"], "FailureReason" in described) == ("Stopped", False)
    assert cloud.keys("out") == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"DataProcessing": {"InputFilter": "$.a"}}, r"DataProcessing: InputFilter \$.a is not supported"),
        ({"DataProcessing": {"JoinSource": "Input"}}, "JoinSource Input is not supported"),
        ({"TransformInput": {"SplitType": "RecordIO"}}, "SplitType RecordIO is not supported"),
        ({"TransformInput": {"CompressionType": "Gzip"}}, "CompressionType Gzip is not supported"),
        ({"MaxPayloadInMB": 50}, "MaxPayloadInMB 50 is not supported"),
        ({"MaxConcurrentTransforms": 20}, "must not exceed 100 MB"),
        ({"BatchStrategy": "Some"}, "SingleRecord"),
    ],
)
def test_what_cannot_be_done_here_is_refused_by_name(cloud: Cloud, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ClientError, match=message):
        start(cloud, "any", **more)


def test_an_unknown_model_is_refused(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match="no-such-model") as refusal:
        start(cloud, "no-such-model")
    assert refusal.value.response["Error"]["Code"] == "ValidationException"
