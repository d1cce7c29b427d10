"""Pipeline executions: start, watch, stop, and read their logs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from pipeline.clouds import Cloud, remedy

FINAL = ("Succeeded", "Failed", "Stopped")
LOG_GROUPS = {"ProcessingJob": "/aws/sagemaker/ProcessingJobs", "TrainingJob": "/aws/sagemaker/TrainingJobs"}
GATE_FAILED = "QualityGateFailed"


class ExecutionError(Exception):
    """An execution that cannot be started or found; the text is one line."""


@dataclass(frozen=True)
class Step:
    """One step of an execution, as it stands."""

    name: str
    status: str
    """``Waiting`` until it starts, then SageMaker's own words."""
    started: datetime | None = None
    ended: datetime | None = None
    reason: str = ""
    job_kind: str = ""
    job: str = ""
    detail: str = ""
    """What a step without a job has to say: a condition's outcome, the version that was registered."""
    cached: bool = False

    @property
    def seconds(self) -> float | None:
        """How long the step took, or has taken so far."""
        if self.started is None:
            return None
        return ((self.ended or datetime.now(UTC)) - self.started).total_seconds()


@dataclass(frozen=True)
class Snapshot:
    """An execution, as it stands."""

    arn: str
    status: str
    reason: str
    started: datetime
    steps: tuple[Step, ...]

    @property
    def identifier(self) -> str:
        """The last part of the ARN."""
        return self.arn.rpartition("/")[2]

    @property
    def failed_gate(self) -> bool:
        """Whether the quality gate turned the model down."""
        return any(step.name == GATE_FAILED and step.status == "Failed" for step in self.steps)

    def step(self, name: str) -> Step:
        """Return a step by name. Raises ``KeyError``."""
        return {step.name: step for step in self.steps}[name]


@dataclass(frozen=True)
class Selection:
    """Some steps of a pipeline, run again on what an earlier execution made of the others."""

    steps: tuple[str, ...]
    source: str
    """ARN of the earlier execution."""


def start(
    cloud: Cloud,
    pipeline: str,
    parameters: Mapping[str, str],
    token: str | None = None,
    selection: Selection | None = None,
    version: int | None = None,
) -> str:
    """Start an execution and return its ARN; the same ``token`` again answers the same execution.

    It runs the pipeline as it was upserted last, or an earlier ``version`` of it.

    Raises ``ExecutionError`` when the pipeline does not exist, or a parameter or the selection is not accepted.
    """
    request: dict[str, Any] = {
        "PipelineName": pipeline,
        "PipelineParameters": [{"Name": key, "Value": value} for key, value in parameters.items()],
    }
    if version is not None:
        request["PipelineVersionId"] = version
    if token:
        request["ClientRequestToken"] = token
    if selection:
        request["SelectiveExecutionConfig"] = {
            "SourcePipelineExecutionArn": selection.source,
            "SelectedSteps": [{"StepName": step} for step in selection.steps],
        }
    try:
        return str(cloud.client("sagemaker").start_pipeline_execution(**request)["PipelineExecutionArn"])
    except ClientError as error:
        detail = error.response["Error"]
        unknown = detail["Code"] == "ResourceNotFound" and version is None
        hint = ": create it with `signs upsert`" if unknown else remedy(error)
        raise ExecutionError(f"{pipeline} cannot be started: {detail['Message']}{hint}") from error


def parameters(cloud: Cloud, arn: str) -> dict[str, str]:
    """Return what an execution was started with, by parameter; what was not given has its definition's default.

    Raises ``ExecutionError`` when there is no such execution any more.
    """
    sagemaker = cloud.client("sagemaker")
    declared = json.loads(definition(cloud, arn)).get("Parameters", [])
    defaults = {each["Name"]: str(each["DefaultValue"]) for each in declared if "DefaultValue" in each}
    pages = sagemaker.get_paginator("list_pipeline_parameters_for_execution").paginate(PipelineExecutionArn=arn)
    return {**defaults, **{each["Name"]: each["Value"] for page in pages for each in page["PipelineParameters"]}}


def definition(cloud: Cloud, arn: str) -> str:
    """Return the definition that an execution runs, whatever its pipeline has become since.

    Raises ``ExecutionError`` when there is no such execution any more.
    """
    try:
        answer = cloud.client("sagemaker").describe_pipeline_definition_for_execution(PipelineExecutionArn=arn)
    except ClientError as error:
        raise ExecutionError(f"{arn} cannot be read: {error.response['Error']['Message']}") from error
    return str(answer["PipelineDefinition"])


def find(cloud: Cloud, pipeline: str, identifier: str | None = None) -> str:
    """Return the ARN of an execution of a pipeline by its identifier, or of the newest one.

    An ARN is taken as it is, whatever pipeline it belongs to. Raises ``ExecutionError`` when there is none.
    """
    if identifier is not None and identifier.startswith("arn:"):
        return identifier
    if identifier == "":
        raise ExecutionError("the execution's identifier is empty: name one, or none for the newest")
    try:
        pages = cloud.client("sagemaker").get_paginator("list_pipeline_executions").paginate(PipelineName=pipeline)
        arns = [str(item["PipelineExecutionArn"]) for page in pages for item in page["PipelineExecutionSummaries"]]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFound":
            raise
        raise ExecutionError(f"{error.response['Error']['Message']} Create it with `signs upsert`.") from error
    if identifier is None and arns:
        return arns[0]
    for arn in arns:
        if arn.endswith(f"/{identifier}"):
            return arn
    raise ExecutionError(f"{pipeline} has no execution {identifier or 'yet: start one with `signs start`'}")


def look(cloud: Cloud, arn: str) -> Snapshot:
    """Return an execution as it stands, with the steps that still wait."""
    sagemaker = cloud.client("sagemaker")
    described = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    pages = sagemaker.get_paginator("list_pipeline_execution_steps").paginate(
        PipelineExecutionArn=arn, SortOrder="Ascending"
    )
    begun = {item["StepName"]: _step(item) for page in pages for item in page["PipelineExecutionSteps"]}
    names = list(_step_names(json.loads(definition(cloud, arn))["Steps"]))
    waiting = [] if described["PipelineExecutionStatus"] in FINAL else [n for n in names if n not in begun]
    return Snapshot(
        arn,
        described["PipelineExecutionStatus"],
        described.get("FailureReason", ""),
        described["CreationTime"],
        (*begun.values(), *(Step(name, "Waiting") for name in waiting)),
    )


def _step_names(steps: list[dict[str, Any]]) -> Iterator[str]:
    for step in steps:
        yield step["Name"]
        if step["Type"] == "Condition":
            yield from _step_names(step["Arguments"].get("IfSteps", []))
            yield from _step_names(step["Arguments"].get("ElseSteps", []))


def _step(item: Mapping[str, Any]) -> Step:
    described: dict[str, dict[str, str]] = item.get("Metadata") or {"": {}}
    kind, metadata = next(iter(described.items()))
    name = metadata.get("Arn", "").rpartition("/")[2]
    details = {
        "Condition": f"outcome {metadata.get('Outcome', '')}",
        "RegisterModel": f"version {name}",
        "Fail": metadata.get("ErrorMessage", ""),
    }
    return Step(
        item["StepName"],
        item["StepStatus"],
        item.get("StartTime"),
        item.get("EndTime"),
        item.get("FailureReason", ""),
        kind,
        name,
        details.get(kind, ""),
        "CacheHitResult" in item,
    )


def watch(cloud: Cloud, arn: str, every: float) -> Iterator[Snapshot]:
    """Yield the execution every so many seconds until it has ended; the last one is final."""
    while True:
        snapshot = look(cloud, arn)
        yield snapshot
        if snapshot.status in FINAL:
            return
        time.sleep(every)


def stop(cloud: Cloud, arn: str) -> None:
    """Ask an execution to stop. Raises ``ExecutionError`` when it has ended."""
    try:
        cloud.client("sagemaker").stop_pipeline_execution(PipelineExecutionArn=arn)
    except ClientError as error:
        raise ExecutionError(error.response["Error"]["Message"]) from error


def retry(cloud: Cloud, arn: str) -> None:
    """Let an execution that failed or was stopped go on. Raises ``ExecutionError`` when it runs or succeeded."""
    try:
        cloud.client("sagemaker").retry_pipeline_execution(PipelineExecutionArn=arn)
    except ClientError as error:
        raise ExecutionError(error.response["Error"]["Message"]) from error


def log(cloud: Cloud, step: Step, last: int | None = None) -> list[str]:
    """Return the lines of a step's job, all or the last few; none for a step without a job or without a log yet."""
    group = LOG_GROUPS.get(step.job_kind)
    if group is None:
        return []
    logs = cloud.client("logs")
    try:
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{step.job}/")["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        return []
    lines: list[str] = []
    for stream in streams:
        lines += _events(logs, group, stream["logStreamName"], last)
    return lines if last is None else lines[-last:]


def _events(logs: Any, group: str, stream: str, last: int | None) -> Iterator[str]:
    request: dict[str, Any] = {"logGroupName": group, "logStreamName": stream}
    if last is not None:
        yield from _messages(logs.get_log_events(**request, limit=last, startFromHead=False))
        return
    token = None
    while True:
        answer = logs.get_log_events(**request, startFromHead=True, **({"nextToken": token} if token else {}))
        yield from _messages(answer)
        # The end is reached when the token comes back unchanged.
        if answer["nextForwardToken"] == token:
            return
        token = answer["nextForwardToken"]


def _messages(answer: Mapping[str, Any]) -> list[str]:
    return [event["message"] for event in answer["events"]]
