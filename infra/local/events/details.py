"""What SageMaker's events say: pure functions from records to detail types, resources and details.

The events and their fields are those of the developer guide ("Events that Amazon SageMaker AI sends to Amazon
EventBridge"). The details of jobs, endpoints and model packages are what describing them answers, so their members are
read from botocore's service model.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from botocore.model import ServiceModel, Shape

from infra.local.store import Record


class Change(NamedTuple):
    """An event's own part; what surrounds it is the same in all of them."""

    detail_type: str
    resources: list[str]
    detail: Record


def moment(seconds: float) -> str:
    """Return a time as the envelope and most details write it: ``2021-02-24T17:00:14Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds(seconds: float) -> int:
    """Return a time as the details of jobs and endpoints write it."""
    return round(seconds * 1000)


RESOURCES: dict[str, tuple[str, Callable[[float], Any]]] = {
    "TrainingJob": ("SageMaker Training Job State Change", milliseconds),
    "ProcessingJob": ("SageMaker Processing Job State Change", milliseconds),
    "TransformJob": ("SageMaker Transform Job State Change", moment),
    "Endpoint": ("SageMaker Endpoint State Change", milliseconds),
    "ModelPackage": ("SageMaker Model Package State Change", moment),
}
"""The kinds of records whose changes are sent: their detail type, and how their details write times."""


def resource(model: ServiceModel, kind: str, record: Record, tags: dict[str, str]) -> Change:
    """Build the event of a job, an endpoint or a model package that changed."""
    detail_type, time = RESOURCES[kind]
    detail = _described(record, model.operation_model(f"Describe{kind}").output_shape, time)
    if kind == "Endpoint":
        # Its events alone spell the status in another way than the API: IN_SERVICE.
        detail["EndpointStatus"] = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", record["EndpointStatus"]).upper()
    if kind != "ModelPackage":
        detail["Tags"] = tags
    return Change(detail_type, [record[f"{kind}Arn"]], detail)


def _described(value: Any, shape: Shape, time: Callable[[float], Any]) -> Any:
    """Return what a Describe action would show of a value, with its times written as the event's details do."""
    if shape.type_name == "structure":
        known = {key: value[key] for key in shape.members if value.get(key) is not None}
        return {key: _described(item, shape.members[key], time) for key, item in known.items()}
    if shape.type_name == "list":
        return [_described(item, shape.member, time) for item in value]
    return time(value) if shape.type_name == "timestamp" else value


def execution(record: Record, previous: str | None) -> Change:
    """Build the event of a pipeline execution that changed its status."""
    status = record["PipelineExecutionStatus"]
    return Change(
        "SageMaker Model Building Pipeline Execution Status Change",
        [record["PipelineArn"], record["PipelineExecutionArn"]],
        _given(
            pipelineExecutionDisplayName=record.get("PipelineExecutionDisplayName"),
            currentPipelineExecutionStatus=status,
            previousPipelineExecutionStatus=previous,
            executionStartTime=moment(record["CreationTime"]),
            executionEndTime=None if status in ("Executing", "Stopping") else moment(record["LastModifiedTime"]),
            pipelineExecutionDescription=record.get("PipelineExecutionDescription"),
            pipelineArn=record["PipelineArn"],
            pipelineExecutionArn=record["PipelineExecutionArn"],
        ),
    )


def step(execution: Record, record: Record, step_type: str, previous: str | None) -> Change:
    """Build the event of an execution's step that changed its status."""
    return Change(
        "SageMaker Model Building Pipeline Execution Step Status Change",
        [execution["PipelineArn"], execution["PipelineExecutionArn"]],
        _given(
            metadata=_lower_camel(record.get("Metadata") or {}),
            stepStartTime=moment(record["StartTime"]),
            stepEndTime=moment(record["EndTime"]) if record.get("EndTime") else None,
            stepName=record["StepName"],
            stepType=step_type,
            previousStepStatus=previous,
            currentStepStatus=record["StepStatus"],
            cacheHitResult=_lower_camel(record["CacheHitResult"]) if record.get("CacheHitResult") else None,
            failureReason=record.get("FailureReason"),
            pipelineArn=execution["PipelineArn"],
            pipelineExecutionArn=execution["PipelineExecutionArn"],
        ),
    )


def _given(**fields: Any) -> Record:
    return {key: value for key, value in fields.items() if value is not None}


def _lower_camel(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key[:1].lower() + key[1:]: _lower_camel(item) for key, item in value.items()}
