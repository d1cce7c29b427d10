"""The AWS CLI, as people install it, against the embedded SageMaker: what its words do, and how it says no."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.local.control import RunningServer

ROLE = "arn:aws:iam::123456789012:role/test"
REFUSED = 255
"""Version 1's exit code for every error (version 2 has 254 for a service's); what was refused, the message must say."""
LOGS = "/aws/sagemaker/ProcessingJobs"

Aws = Callable[..., str]


@pytest.fixture
def aws(embedded: RunningServer, tmp_path: Path) -> Aws:
    """Runs ``aws``, whole, with nothing of this machine's own configuration; answers what it wrote."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": embedded.url,
        "AWS_DEFAULT_REGION": embedded.region,
        "AWS_DEFAULT_OUTPUT": "json",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }

    def run(*words: object, code: int = 0) -> str:
        command = [Path(sys.executable).with_name("aws"), *map(str, words)]
        ended = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == code, f"{words}: {ended.returncode}: {ended.stdout}{ended.stderr}"
        return ended.stderr if code else ended.stdout

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two files, one below another folder."""
    folder = tmp_path / "data"
    (folder / "below").mkdir(parents=True)
    (folder / "first.txt").write_text("first")
    (folder / "below" / "second.txt").write_text("second")
    return folder


def job(script: str, **more: Any) -> dict[str, Any]:
    cluster = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
    return {
        "ProcessingResources": {"ClusterConfig": cluster},
        "AppSpecification": {
            "ImageUri": "any",
            "ContainerEntrypoint": ["bash", "-c"],
            "ContainerArguments": [script],
        },
        "RoleArn": ROLE,
        **more,
    }


def unique(word: str) -> str:
    return f"cli-{word}-{secrets.token_hex(4)}"


def until(read: Callable[[], Any], done: Callable[[Any], bool]) -> Any:
    """Read until it is done; the CLI's own waiter looks once a minute only."""
    deadline = time.monotonic() + 60
    while not done(value := read()):
        assert time.monotonic() < deadline, f"still {value}"
    return value


def test_s3_commands_move_files_both_ways(aws: Aws, folder: Path, tmp_path: Path) -> None:
    bucket = f"s3://{unique('bucket')}"
    aws("s3", "mb", bucket)
    aws("s3", "cp", folder / "first.txt", f"{bucket}/copied/one.txt")
    aws("s3", "sync", folder, f"{bucket}/synced")
    listed = [line.split()[-1] for line in aws("s3", "ls", "--recursive", bucket).splitlines()]
    assert listed == ["copied/one.txt", "synced/below/second.txt", "synced/first.txt"]
    assert "upload" not in aws("s3", "sync", folder, f"{bucket}/synced")
    (folder / "first.txt").unlink()
    aws("s3", "sync", "--delete", folder, f"{bucket}/synced")
    aws("s3", "sync", f"{bucket}/synced", tmp_path / "back")
    back = tmp_path / "back"
    assert {str(path.relative_to(back)): path.read_text() for path in back.rglob("*.txt")} == {
        "below/second.txt": "second"
    }
    assert aws("s3", "cp", f"{bucket}/copied/one.txt", "-") == "first"
    aws("s3", "rm", "--recursive", bucket)
    assert aws("s3", "ls", "--recursive", bucket) == ""
    aws("s3", "rb", bucket)
    assert "NoSuchBucket" in aws("s3", "ls", bucket, code=REFUSED)


def test_a_large_file_travels_in_parts(aws: Aws, tmp_path: Path) -> None:
    bucket, body = f"s3://{unique('bucket')}", secrets.token_bytes(20_000_000)
    (tmp_path / "large").write_bytes(body)
    aws("s3", "mb", bucket)
    aws("s3", "cp", "--quiet", tmp_path / "large", f"{bucket}/large")
    head = json.loads(aws("s3api", "head-object", "--bucket", bucket.removeprefix("s3://"), "--key", "large"))
    assert head["ETag"].strip('"').endswith("-3")
    aws("s3", "cp", "--quiet", f"{bucket}/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == body


def test_a_pipeline_from_its_definition_to_its_logs(aws: Aws, bucket: str, tmp_path: Path) -> None:
    output = {"LocalPath": "/opt/ml/processing/out", "S3Uri": f"s3://{bucket}/out", "S3UploadMode": "EndOfJob"}
    say = job(
        'echo "said $WORD" | tee /opt/ml/processing/out/word.txt',
        Environment={"WORD": {"Get": "Parameters.Word"}},
        ProcessingOutputConfig={"Outputs": [{"OutputName": "out", "S3Output": output}]},
    )
    steps = [
        {"Name": "Say", "Type": "Processing", "Arguments": say},
        {"Name": "Refuse", "Type": "Processing", "Arguments": job("exit 3"), "DependsOn": ["Say"]},
    ]
    parameters = [{"Name": "Word", "Type": "String", "DefaultValue": "nothing"}]
    (tmp_path / "definition.json").write_text(
        json.dumps({"Version": "2020-12-01", "Parameters": parameters, "Steps": steps})
    )
    name = unique("pipeline")
    aws(
        *("sagemaker", "create-pipeline", "--pipeline-name", name, "--role-arn", ROLE),
        *("--pipeline-definition", "file://definition.json"),
    )
    started = aws(
        *("sagemaker", "start-pipeline-execution", "--pipeline-name", name),
        *("--pipeline-parameters", "Name=Word,Value=hello"),
    )
    execution = ("--pipeline-execution-arn", json.loads(started)["PipelineExecutionArn"])
    described = until(
        lambda: json.loads(aws("sagemaker", "describe-pipeline-execution", *execution)),
        lambda answer: answer["PipelineExecutionStatus"] != "Executing",
    )
    assert described["PipelineExecutionStatus"] == "Failed"
    listed = json.loads(aws("sagemaker", "list-pipeline-execution-steps", *execution))["PipelineExecutionSteps"]
    by_name = {step["StepName"]: step for step in listed}
    assert {key: step["StepStatus"] for key, step in by_name.items()} == {"Say": "Succeeded", "Refuse": "Failed"}
    assert "exit code: 3" in by_name["Refuse"]["FailureReason"]
    assert aws("s3", "cp", f"s3://{bucket}/out/word.txt", "-") == "said hello\n"
    (said, refused) = [by_name[key]["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2] for key in ("Say", "Refuse")]
    waiter = ("sagemaker", "wait", "processing-job-completed-or-stopped", "--processing-job-name")
    assert aws(*waiter, said) == ""
    assert "terminal failure state" in aws(*waiter, refused, code=255)
    logged = aws(
        *("logs", "filter-log-events", "--log-group-name", LOGS, "--log-stream-name-prefix", f"{said}/"),
        *("--query", "events[].message"),
    )
    assert json.loads(logged) == ["said hello"]


def test_a_job_from_a_file_is_listed_and_stopped(aws: Aws, tmp_path: Path) -> None:
    name, lock = unique("job"), tmp_path / "runs"
    request = {"ProcessingJobName": name, **job(f"touch {lock}; sleep 60")}
    (tmp_path / "job.json").write_text(json.dumps(request))
    aws("sagemaker", "create-processing-job", "--cli-input-json", "file://job.json")
    until(lock.exists, bool)
    listed = aws(
        *("sagemaker", "list-processing-jobs", "--name-contains", name, "--status-equals", "InProgress"),
        *("--query", "ProcessingJobSummaries[].ProcessingJobName", "--output", "text"),
    )
    assert listed.split() == [name]
    described = ("sagemaker", "describe-processing-job", "--processing-job-name", name)
    aws("sagemaker", "stop-processing-job", "--processing-job-name", name)
    status = until(
        lambda: aws(*described, "--query", "ProcessingJobStatus", "--output", "text").strip(),
        lambda status: status not in ("InProgress", "Stopping"),
    )
    assert status == "Stopped"
    assert aws("sagemaker", "wait", "processing-job-completed-or-stopped", "--processing-job-name", name) == ""


def test_a_model_package_is_approved(aws: Aws) -> None:
    group = unique("group")
    aws("sagemaker", "create-model-package-group", "--model-package-group-name", group)
    containers = {
        "Containers": [{"Image": "any", "ModelDataUrl": "s3://any/model.tar.gz"}],
        "SupportedContentTypes": ["application/json"],
        "SupportedResponseMIMETypes": ["application/json"],
    }
    created = aws(
        *("sagemaker", "create-model-package", "--model-package-group-name", group),
        *("--inference-specification", json.dumps(containers)),
        *("--model-approval-status", "PendingManualApproval", "--customer-metadata-properties", "commit=abc"),
    )
    arn = json.loads(created)["ModelPackageArn"]
    packages = ("sagemaker", "list-model-packages", "--model-package-group-name", group)
    approved = (
        *packages,
        "--model-approval-status",
        "Approved",
        "--query",
        "ModelPackageSummaryList[].ModelPackageArn",
    )
    assert json.loads(aws(*approved)) == []
    aws(
        *("sagemaker", "update-model-package", "--model-package-arn", arn),
        *("--model-approval-status", "Approved", "--approval-description", "by hand"),
    )
    assert json.loads(aws(*approved)) == [arn]
    described = json.loads(aws("sagemaker", "describe-model-package", "--model-package-name", arn))
    assert (described["ApprovalDescription"], described["CustomerMetadataProperties"]) == ("by hand", {"commit": "abc"})


BROKEN = {"Version": "2020-12-01", "Steps": [{"Name": "Guess", "Type": "Divination", "Arguments": {}}]}


REFUSALS = {
    "unknown name": (
        "describe-pipeline --pipeline-name nobody",
        "ResourceNotFound",
        "pipeline/nobody",
    ),
    "unknown job": (
        "describe-processing-job --processing-job-name nobody",
        "ValidationException",
        "nobody",
    ),
    "no JSON": (
        f"create-pipeline --pipeline-name broken --role-arn {ROLE} --pipeline-definition broken.json",
        "ValidationException",
        "JSON",
    ),
    "unknown step type": (
        f"create-pipeline --pipeline-name broken --role-arn {ROLE} --pipeline-definition file://broken.json",
        "ValidationException",
        "Step 'Guess': type Divination is not supported here",
    ),
    "bad pattern": (
        "create-model-package-group --model-package-group-name under_score",
        "ValidationException",
        "Value 'under_score' at 'ModelPackageGroupName' failed to satisfy constraint",
    ),
    "bad enum": (
        "list-model-packages --model-approval-status Perhaps",
        "ValidationException",
        "[Approved, Rejected, PendingManualApproval]",
    ),
    "action that is not here": (
        "list-notebook-instances",
        "UnsupportedOperation",
        "ListNotebookInstances is not supported by the embedded SageMaker",
    ),
}


@pytest.mark.parametrize(("words", "code", "said"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_an_error_code_and_names_the_thing(
    aws: Aws, tmp_path: Path, words: str, code: str, said: str
) -> None:
    (tmp_path / "broken.json").write_text(json.dumps(BROKEN))
    message = aws("sagemaker", *words.split(), code=REFUSED)
    assert f"({code})" in message
    assert said in message


def test_the_address_may_be_an_option_and_loopbacks_other_name(aws: Aws, embedded: RunningServer) -> None:
    named = embedded.url.replace("127.0.0.1", "localhost")
    identity = aws("--endpoint-url", named, "sts", "get-caller-identity")
    assert json.loads(identity)["Account"] == "123456789012"
