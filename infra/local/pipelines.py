"""The pipeline calls: definitions kept, executions started, watched and stopped."""

from __future__ import annotations

import json
import secrets

from botocore.exceptions import ClientError

from infra.local.definitions import bind, check_definition
from infra.local.executions import Execution, ExecutionContext
from infra.local.service import Service, now, page, refuse
from infra.local.store import Record, Store

UNFINISHED = ("Executing", "Stopping")
"""The states that an execution leaves again."""


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
        if not self._store.insert("Pipeline", name, record):
            refuse(
                "Pipeline names must be unique within an AWS account and region. "
                f"Pipeline with name ({name}) already exists."
            )
        if request.get("Tags"):
            self._service.call("AddTags", {"ResourceArn": arn, "Tags": request["Tags"]})
        return {"PipelineArn": arn}

    def update_pipeline(self, request: Record) -> Record:
        """UpdatePipeline."""
        record = self._pipeline(request["PipelineName"])
        changes = _with_definition(request, self._context) if _has_definition(request) else request
        self._store.update(
            "Pipeline",
            record["PipelineName"],
            **{**changes, "PipelineName": record["PipelineName"], "LastModifiedTime": now()},
        )
        return {"PipelineArn": record["PipelineArn"]}

    def describe_pipeline(self, request: Record) -> Record:
        """DescribePipeline."""
        return self._pipeline(request["PipelineName"])

    def list_pipelines(self, request: Record) -> Record:
        """ListPipelines."""
        records = self._store.list("Pipeline")
        for record in records:
            # The same time has two names: this one in lists, the other in descriptions.
            record["LastExecutionTime"] = record.get("LastRunTime")
        return page(self._service.model, "ListPipelines", request, records)

    def delete_pipeline(self, request: Record) -> Record:
        """DeletePipeline; refused while it runs, as on AWS. Its executions stay readable."""
        with self._store.exclusive():
            record = self._pipeline(request["PipelineName"])
            arn = record["PipelineArn"]
            executions = self._store.list("PipelineExecution", f"{arn}/execution/")
            if any(execution["PipelineExecutionStatus"] in UNFINISHED for execution in executions):
                refuse(f"Pipeline {arn} cannot be deleted: it has running executions.", "ConflictException")
            self._store.delete("Pipeline", record["PipelineName"])
            self._store.delete("Tags", arn)
        return {"PipelineArn": arn}

    def _pipeline(self, name_or_arn: str) -> Record:
        name = name_or_arn.rpartition("/")[2]
        record = self._store.get("Pipeline", name)
        if record is None:
            refuse(f"Pipeline '{self._context.arn_prefix}:pipeline/{name}' does not exist.", "ResourceNotFound")
        return record

    # Executions

    def start_pipeline_execution(self, request: Record) -> Record:
        """StartPipelineExecution; the same ClientRequestToken again answers the same execution."""
        for key in ("SelectiveExecutionConfig", "PipelineVersionId", "PipelineVersionAlias"):
            if key in request:
                refuse(f"{key} is not supported by the embedded SageMaker.", "UnsupportedOperation")
        with self._store.exclusive():
            pipeline = self._pipeline(request["PipelineName"])
            token = request["ClientRequestToken"]
            if earlier := self._store.get("ClientRequestToken", token):
                return {"PipelineExecutionArn": earlier["PipelineExecutionArn"]}
            record = _execution_record(pipeline, request)
            arn = record["PipelineExecutionArn"]
            self._store.insert("PipelineExecution", arn, record)
            self._store.insert("ClientRequestToken", token, {"PipelineExecutionArn": arn})
            self._store.update("Pipeline", pipeline["PipelineName"], LastRunTime=now())
            self._running = {key: execution for key, execution in self._running.items() if execution.is_alive()}
            self._running[arn] = Execution(self._context, record)
            self._running[arn].start()
        return {"PipelineExecutionArn": arn}

    def stop_pipeline_execution(self, request: Record) -> Record:
        """StopPipelineExecution: no further step starts, and the jobs that run are stopped."""
        record = self._execution(request["PipelineExecutionArn"])
        if record["PipelineExecutionStatus"] not in UNFINISHED:
            refuse(
                f"Pipeline execution with ARN {record['PipelineExecutionArn']} cannot be stopped: "
                f"its status is {record['PipelineExecutionStatus']}."
            )
        execution = self._running.get(record["PipelineExecutionArn"])
        if execution is not None:
            execution.stop()
        return {"PipelineExecutionArn": record["PipelineExecutionArn"]}

    def describe_pipeline_execution(self, request: Record) -> Record:
        """DescribePipelineExecution."""
        return self._execution(request["PipelineExecutionArn"])

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
        for record in records:
            record["PipelineExecutionFailureReason"] = record.get("FailureReason")
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
        running = list(self._running.values())
        for execution in running:
            execution.stop()
        for execution in running:
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
        record["PipelineDefinition"] = _fetch(location, context)
    check_definition(record["PipelineDefinition"])
    return record


def _fetch(location: Record, context: ExecutionContext) -> str:
    try:
        body = context.client("s3").get_object(Bucket=location["Bucket"], Key=location["ObjectKey"])["Body"]
        return str(body.read(), "utf-8")
    except (ClientError, UnicodeDecodeError) as error:
        refuse(f"Cannot read the definition at s3://{location['Bucket']}/{location['ObjectKey']}: {error}")


def _execution_record(pipeline: Record, request: Record) -> Record:
    """Return the record of an execution that begins now: the definition as it was upserted, its parameters bound."""
    definition = json.loads(pipeline["PipelineDefinition"])
    time = now()
    return {
        "PipelineArn": pipeline["PipelineArn"],
        "PipelineExecutionArn": f"{pipeline['PipelineArn']}/execution/{secrets.token_hex(6)}",
        "PipelineExecutionDisplayName": request.get("PipelineExecutionDisplayName", f"execution-{int(time * 1000)}"),
        "PipelineExecutionDescription": request.get("PipelineExecutionDescription"),
        "ParallelismConfiguration": request.get(
            "ParallelismConfiguration", pipeline.get("ParallelismConfiguration", {})
        ),
        "PipelineExecutionStatus": "Executing",
        "CreationTime": time,
        "StartTime": time,
        "LastModifiedTime": time,
        "_definition": definition,
        "_parameters": bind(definition, request.get("PipelineParameters", [])),
    }
