"""Short words for what the tests of the embedded SageMaker do all the time."""

from __future__ import annotations

import io
import json
import secrets
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROLE = "arn:aws:iam::123456789012:role/test"
CLUSTER = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}


def wait_until(read: Callable[[], Any], done: Callable[[Any], bool], seconds: float = 60) -> Any:
    """Read until ``done`` says so."""
    deadline = time.monotonic() + seconds
    while not done(value := read()):
        assert time.monotonic() < deadline, f"still {value} after {seconds} s"
        time.sleep(0.05)
    return value


def bash(script: str) -> dict[str, Any]:
    """What runs in a container."""
    return {"ContainerEntrypoint": ["bash", "-c"], "ContainerArguments": [script]}


def step(name: str, script: str, **more: Any) -> dict[str, Any]:
    """A Processing step of one line of bash; ``outputs`` maps names under /opt/ml/processing to S3 addresses."""
    outputs = [
        {
            "OutputName": output,
            "S3Output": {"LocalPath": f"/opt/ml/processing/{output}", "S3Uri": uri, "S3UploadMode": "EndOfJob"},
        }
        for output, uri in more.pop("outputs", {}).items()
    ]
    arguments = {
        "ProcessingResources": {"ClusterConfig": CLUSTER},
        "AppSpecification": {"ImageUri": "any", **bash(script)},
        "ProcessingOutputConfig": {"Outputs": outputs},
        "RoleArn": ROLE,
        **more.pop("arguments", {}),
    }
    return {"Name": name, "Type": "Processing", "Arguments": arguments, **more}


def condition(name: str, conditions: list[Any], if_steps: list[Any], else_steps: list[Any]) -> dict[str, Any]:
    """A Condition step."""
    arguments = {"Conditions": conditions, "IfSteps": if_steps, "ElseSteps": else_steps}
    return {"Name": name, "Type": "Condition", "Arguments": arguments}


def fail(name: str, message: Any) -> dict[str, Any]:
    """A Fail step."""
    return {"Name": name, "Type": "Fail", "Arguments": {"ErrorMessage": message}}


def definition(*steps: dict[str, Any], parameters: list[dict[str, Any]] | None = None) -> str:
    """A pipeline definition as text."""
    return json.dumps({"Version": "2020-12-01", "Parameters": parameters or [], "Steps": steps})


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
"""A handler file: numbers as plain text, in and out."""


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


def variant(name: str, model: str, weight: float = 1.0) -> dict[str, Any]:
    """A production variant."""
    serving = {"InitialInstanceCount": 1, "InstanceType": "ml.m5.large", "InitialVariantWeight": weight}
    return {"VariantName": name, "ModelName": model, **serving}


@dataclass(frozen=True)
class Run:
    """An execution that has ended."""

    arn: str
    status: str
    reason: str
    steps: dict[str, dict[str, Any]]

    @property
    def statuses(self) -> dict[str, str]:
        return {name: step["StepStatus"] for name, step in self.steps.items()}


@dataclass(frozen=True)
class Cloud:
    """The embedded SageMaker from a client's side."""

    client: Callable[[str], Any]
    bucket: str

    @property
    def sagemaker(self) -> Any:
        return self.client("sagemaker")

    def s3(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def put(self, objects: Mapping[str, str | bytes]) -> None:
        """Store objects by their keys."""
        for key, body in objects.items():
            self.client("s3").put_object(Bucket=self.bucket, Key=key, Body=body)

    def get(self, uri: str) -> bytes:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        body: bytes = self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def keys(self, prefix: str = "") -> list[str]:
        listing = self.client("s3").list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for item in listing.get("Contents", [])]

    def create_pipeline(self, text: str) -> str:
        name = f"pipeline-{secrets.token_hex(4)}"
        self.sagemaker.create_pipeline(PipelineName=name, PipelineDefinition=text, RoleArn=ROLE)
        return name

    def start(self, text: str, **more: Any) -> str:
        started = self.sagemaker.start_pipeline_execution(PipelineName=self.create_pipeline(text), **more)
        return str(started["PipelineExecutionArn"])

    def ended(self, arn: str) -> Run:
        """Wait for an execution."""
        described = wait_until(
            lambda: self.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn),
            lambda answer: answer["PipelineExecutionStatus"] not in ("Executing", "Stopping"),
        )
        steps = self.sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
        return Run(
            arn,
            described["PipelineExecutionStatus"],
            described.get("FailureReason", ""),
            {item["StepName"]: item for item in steps},
        )

    def run(self, text: str, **more: Any) -> Run:
        return self.ended(self.start(text, **more))

    def process(self, script: str, **more: Any) -> str:
        """Start a processing job."""
        name = f"job-{secrets.token_hex(4)}"
        arguments = step(name, script, **more)["Arguments"]
        self.sagemaker.create_processing_job(ProcessingJobName=name, **arguments)
        return name

    def processed(self, name: str) -> dict[str, Any]:
        """Wait for a processing job."""
        answer: dict[str, Any] = wait_until(
            lambda: self.sagemaker.describe_processing_job(ProcessingJobName=name),
            lambda answer: answer["ProcessingJobStatus"] not in ("InProgress", "Stopping"),
        )
        return answer

    def train(self, script: str, **more: Any) -> dict[str, Any]:
        """Run a training job to its end; ``more`` adds to the request."""
        name = f"job-{secrets.token_hex(4)}"
        request = {
            "TrainingJobName": name,
            "RoleArn": ROLE,
            "OutputDataConfig": {"S3OutputPath": self.s3("models/")},
            "ResourceConfig": CLUSTER,
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
            **more,
        }
        specification = {"TrainingImage": "any", "TrainingInputMode": "File", **bash(script)}
        request["AlgorithmSpecification"] = {**specification, **more.get("AlgorithmSpecification", {})}
        self.sagemaker.create_training_job(**request)
        answer: dict[str, Any] = wait_until(
            lambda: self.sagemaker.describe_training_job(TrainingJobName=name),
            lambda answer: answer["TrainingJobStatus"] not in ("InProgress", "Stopping"),
        )
        return answer

    def log(self, group: str, job: str) -> list[str]:
        logs = self.client("logs")
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/")["logStreams"]
        names = [stream["logStreamName"] for stream in streams]
        return [
            event["message"]
            for name in names
            for event in logs.get_log_events(logGroupName=group, logStreamName=name, startFromHead=True)["events"]
        ]

    def deployable(self, name: str, body: bytes, **environment: str) -> str:
        """Make a model of an archive and a configuration of the model, both of that name."""
        name = f"{name}-{secrets.token_hex(4)}"
        self.put({f"{name}.tar.gz": body})
        container = {"Image": "any", "ModelDataUrl": self.s3(f"{name}.tar.gz"), "Environment": environment}
        self.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant("all", name)])
        return name

    def settled(self, name: str) -> dict[str, Any]:
        """Wait until an endpoint serves or has failed."""
        answer: dict[str, Any] = wait_until(
            lambda: self.sagemaker.describe_endpoint(EndpointName=name),
            lambda answer: answer["EndpointStatus"] in ("InService", "Failed"),
            seconds=120,
        )
        return answer
