"""The pipeline calls: definitions checked as they come in, executions started, watched and stopped."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from typing import Any, NoReturn

from infra.local.executions import STEP_TYPES, Execution, ExecutionContext
from infra.local.expressions import dependencies, references
from infra.local.service import Service, now, page, public, refuse
from infra.local.store import Record, Store


class Pipelines:
    """Pipelines and their executions."""

    def __init__(self, service: Service, store: Store, context: ExecutionContext) -> None:
        self._service, self._store, self._context = service, store, context
        self._running: dict[str, Execution] = {}

    # Definitions

    def create_pipeline(self, request: Record) -> Record:
        """CreatePipeline."""
        name, arn = request["PipelineName"], f"{self._context.arn_prefix}:pipeline/{request['PipelineName']}"
        record = {
            "PipelineDisplayName": name,
            **_with_definition(request, self._context),
            "PipelineArn": arn,
            "PipelineStatus": "Active",
            "CreationTime": now(),
            "LastModifiedTime": now(),
        }
        tags = record.pop("Tags", [])
        if not self._store.insert("Pipeline", name, record):
            refuse(
                "Pipeline names must be unique within an AWS account and region. "
                f"Pipeline with name ({name}) already exists."
            )
        if tags:
            self._service.call("AddTags", {"ResourceArn": arn, "Tags": tags})
        return {"PipelineArn": arn}

    def update_pipeline(self, request: Record) -> Record:
        """UpdatePipeline."""
        record = self._pipeline(request["PipelineName"])
        changes = _with_definition(request, self._context) if _has_definition(request) else request
        self._store.update("Pipeline", record["PipelineName"], **{**changes, "LastModifiedTime": now()})
        return {"PipelineArn": record["PipelineArn"]}

    def describe_pipeline(self, request: Record) -> Record:
        """DescribePipeline."""
        return public(self._pipeline(request["PipelineName"]))

    def list_pipelines(self, request: Record) -> Record:
        """ListPipelines."""
        return page(self._service.model, "ListPipelines", request, self._store.list("Pipeline"))

    def delete_pipeline(self, request: Record) -> Record:
        """DeletePipeline; its executions stay readable."""
        record = self._pipeline(request["PipelineName"])
        self._store.delete("Pipeline", record["PipelineName"])
        return {"PipelineArn": record["PipelineArn"]}

    def _pipeline(self, name_or_arn: str) -> Record:
        name = name_or_arn.rpartition("/")[2]
        record = self._store.get("Pipeline", name)
        if record is None:
            refuse(f"Pipeline '{self._context.arn_prefix}:pipeline/{name}' does not exist.", "ResourceNotFound")
        return record

    # Executions

    def start_pipeline_execution(self, request: Record) -> Record:
        """StartPipelineExecution: reads the definition back as it was upserted, and runs it."""
        pipeline = self._pipeline(request["PipelineName"])
        token = request.get("ClientRequestToken")
        if token and (earlier := self._store.get("ClientRequestToken", token)):
            return {"PipelineExecutionArn": earlier["PipelineExecutionArn"]}
        definition = json.loads(
            self.describe_pipeline({"PipelineName": pipeline["PipelineName"]})["PipelineDefinition"]
        )
        parameters = _bind(definition, request.get("PipelineParameters", []))
        arn = f"{pipeline['PipelineArn']}/execution/{secrets.token_hex(6)}"
        record = {
            "PipelineArn": pipeline["PipelineArn"],
            "PipelineExecutionArn": arn,
            "PipelineExecutionDisplayName": request.get(
                "PipelineExecutionDisplayName", f"execution-{int(now() * 1000)}"
            ),
            "PipelineExecutionDescription": request.get("PipelineExecutionDescription", ""),
            "ParallelismConfiguration": request.get(
                "ParallelismConfiguration", pipeline.get("ParallelismConfiguration", {})
            ),
            "PipelineExecutionStatus": "Executing",
            "CreationTime": now(),
            "StartTime": now(),
            "LastModifiedTime": now(),
            "_definition": definition,
            "_parameters": parameters,
        }
        self._store.insert("PipelineExecution", arn, record)
        if token:
            self._store.insert("ClientRequestToken", token, {"PipelineExecutionArn": arn})
        self._store.update("Pipeline", pipeline["PipelineName"], LastRunTime=now())
        self._running[arn] = Execution(self._context, record)
        self._running[arn].start()
        return {"PipelineExecutionArn": arn}

    def stop_pipeline_execution(self, request: Record) -> Record:
        """StopPipelineExecution: no further step starts, and the jobs that run are stopped."""
        record = self._execution(request["PipelineExecutionArn"])
        if record["PipelineExecutionStatus"] not in ("Executing", "Stopping"):
            refuse(
                f"Pipeline execution with ARN {record['PipelineExecutionArn']} cannot be stopped: "
                f"its status is {record['PipelineExecutionStatus']}."
            )
        self._running[record["PipelineExecutionArn"]].stop()
        return {"PipelineExecutionArn": record["PipelineExecutionArn"]}

    def describe_pipeline_execution(self, request: Record) -> Record:
        """DescribePipelineExecution."""
        return public(self._execution(request["PipelineExecutionArn"]))

    def describe_pipeline_definition_for_execution(self, request: Record) -> Record:
        """DescribePipelineDefinitionForExecution."""
        record = self._execution(request["PipelineExecutionArn"])
        return {"PipelineDefinition": json.dumps(record["_definition"]), "CreationTime": record["CreationTime"]}

    def list_pipeline_parameters_for_execution(self, request: Record) -> Record:
        """ListPipelineParametersForExecution."""
        parameters = self._execution(request["PipelineExecutionArn"])["_parameters"]
        return {"PipelineParameters": [{"Name": key, "Value": str(value)} for key, value in parameters.items()]}

    def list_pipeline_executions(self, request: Record) -> Record:
        """ListPipelineExecutions of one pipeline."""
        pipeline = self._pipeline(request["PipelineName"])
        records = self._store.list("PipelineExecution", f"{pipeline['PipelineArn']}/execution/")
        return page(self._service.model, "ListPipelineExecutions", request, records)

    def list_pipeline_execution_steps(self, request: Record) -> Record:
        """ListPipelineExecutionSteps."""
        record = self._execution(request["PipelineExecutionArn"])
        steps = self._store.list("PipelineExecutionStep", f"{record['PipelineExecutionArn']}/")
        return page(self._service.model, "ListPipelineExecutionSteps", request, steps)

    def _execution(self, arn: str) -> Record:
        record = self._store.get("PipelineExecution", arn)
        if record is None:
            refuse(f"Pipeline execution with ARN {arn} does not exist.", "ResourceNotFound")
        return record

    def stop_all(self) -> None:
        """Stop every execution that runs and wait for it: called when the server stops."""
        for execution in list(self._running.values()):
            execution.stop()
        for execution in list(self._running.values()):
            execution.join()


def _has_definition(request: Record) -> bool:
    return "PipelineDefinition" in request or "PipelineDefinitionS3Location" in request


def _with_definition(request: Record, context: ExecutionContext) -> Record:
    """Return the request with its definition as text and checked, fetched from S3 where it lies there."""
    if ("PipelineDefinition" in request) == ("PipelineDefinitionS3Location" in request):
        refuse("Exactly one of PipelineDefinition and PipelineDefinitionS3Location must be given.")
    record = dict(request)
    location = record.pop("PipelineDefinitionS3Location", None)
    if location is not None:
        body = context.client("s3").get_object(Bucket=location["Bucket"], Key=location["ObjectKey"])["Body"]
        record["PipelineDefinition"] = body.read().decode()
    check_definition(record["PipelineDefinition"])
    return record


def check_definition(text: str) -> None:
    """Refuse a definition that could never run: no JSON, unknown step types or references, cycles.

    Raises ``ServiceError`` (``ValidationException``) that names the step.
    """
    try:
        definition = json.loads(text)
        steps = list(all_steps(definition["Steps"]))
        names = [step["Name"] for step in steps]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        refuse(f"Unable to parse pipeline definition: {type(error).__name__}: {error}")
    for name in names:
        if names.count(name) > 1:
            refuse(f"Unable to parse pipeline definition. Duplicate step name '{name}'.")
    parameters = {parameter["Name"] for parameter in definition.get("Parameters", [])}
    for step in steps:
        _check_step(step, set(names), parameters)
    _check_cycles({step["Name"]: dependencies(step) for step in steps})


def _check_step(step: Record, names: set[str], parameters: set[str]) -> None:
    def broken(reason: str) -> NoReturn:
        refuse(f"Unable to parse pipeline definition. Step '{step['Name']}': {reason}")

    if step["Type"] not in STEP_TYPES:
        broken(f"type {step['Type']} is not supported here (supported: {', '.join(sorted(STEP_TYPES))}).")
    if missing := sorted(dependencies(step) - names):
        broken(f"refers to step '{missing[0]}', which does not exist.")
    for reference in references(step["Arguments"]):
        head, _, name = reference.partition(".")
        if head == "Parameters" and name not in parameters:
            broken(f"refers to parameter '{name}', which is not declared.")


def all_steps(steps: list[Record]) -> Iterator[Record]:
    """Yield every step, those inside the branches of conditions too."""
    for step in steps:
        yield step
        if step["Type"] == "Condition":
            yield from all_steps(step["Arguments"].get("IfSteps", []))
            yield from all_steps(step["Arguments"].get("ElseSteps", []))


def _check_cycles(graph: dict[str, set[str]]) -> None:
    done: set[str] = set()
    while len(done) < len(graph):
        free = {name for name, needed in graph.items() if name not in done and needed <= done}
        if not free:
            stuck = ", ".join(sorted(set(graph) - done))
            refuse(f"Unable to parse pipeline definition. Cyclic dependency between steps: {stuck}.")
        done |= free


def _bind(definition: Record, given: list[dict[str, str]]) -> dict[str, Any]:
    """Give every declared parameter its value: the one given, else its default.

    Raises ``ServiceError`` for parameters that are undeclared, missing, of the wrong type or outside their enum.
    """
    declared = {parameter["Name"]: parameter for parameter in definition.get("Parameters", [])}
    values = {item["Name"]: item["Value"] for item in given}
    if unknown := sorted(set(values) - set(declared)):
        refuse(f"Parameters [{', '.join(unknown)}] are not declared by the pipeline: {', '.join(sorted(declared))}.")
    bound: dict[str, Any] = {}
    for name, parameter in declared.items():
        if name in values:
            bound[name] = _parse(name, parameter["Type"], values[name])
        elif "DefaultValue" in parameter:
            bound[name] = parameter["DefaultValue"]
        else:
            refuse(f"Parameter [{name}] has no value and no default.")
        allowed = parameter.get("EnumValues")
        if allowed and bound[name] not in allowed:
            refuse(f"Parameter [{name}] is {bound[name]!r}: expected one of {', '.join(map(str, allowed))}.")
    return bound


def _parse(name: str, kind: str, text: str) -> Any:
    """Read a parameter's value, which travels as text, as its declared type."""
    patterns = {"Integer": r"[+-]?\d+", "Boolean": r"true|false", "Float": r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"}
    if kind == "String":
        return text
    if kind not in patterns or not re.fullmatch(patterns[kind], text, re.IGNORECASE):
        refuse(f"Parameter [{name}] is '{text}': expected a value of type {kind}.")
    if kind == "Boolean":
        return text.lower() == "true"
    return int(text) if kind == "Integer" else float(text)
