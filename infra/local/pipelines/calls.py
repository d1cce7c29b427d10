"""The pipeline calls: definitions kept, executions started, watched and stopped."""

from __future__ import annotations

import json
import secrets

from botocore.exceptions import ClientError

from infra.local.pipelines.definitions import all_steps, bind, check_definition
from infra.local.pipelines.executions import Execution, ExecutionContext, change_execution, change_step
from infra.local.pipelines.selection import taken_over
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
            "_version": 1,
        }
        with self._store.exclusive():
            if not self._store.insert("Pipeline", name, record):
                refuse(
                    "Pipeline names must be unique within an AWS account and region. "
                    f"Pipeline with name ({name}) already exists."
                )
            self._keep_version(record)
        if request.get("Tags"):
            self._service.call("AddTags", {"ResourceArn": arn, "Tags": request["Tags"]})
        return {"PipelineArn": arn}

    def update_pipeline(self, request: Record) -> Record:
        """UpdatePipeline; every update makes a version."""
        _refuse_members(request, "PipelineVersionAliases")
        changes = _with_definition(request, self._context) if _has_definition(request) else dict(request)
        with self._store.exclusive():
            record = self._pipeline(request["PipelineName"])
            changes.update(PipelineName=record["PipelineName"], LastModifiedTime=now(), _version=record["_version"] + 1)
            self._keep_version(self._store.update("Pipeline", record["PipelineName"], **changes))
        return {"PipelineArn": record["PipelineArn"], "PipelineVersionId": changes["_version"]}

    def describe_pipeline(self, request: Record) -> Record:
        """DescribePipeline, of one version where the request names one."""
        _refuse_members(request, "PipelineVersionAlias")
        record = self._pipeline(request["PipelineName"])
        return self._version(record, request["PipelineVersionId"]) if "PipelineVersionId" in request else record

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
            for version in range(1, record["_version"] + 1):
                self._store.delete("PipelineVersion", f"{arn}/{version}")
        return {"PipelineArn": arn}

    def list_pipeline_versions(self, request: Record) -> Record:
        """ListPipelineVersions."""
        versions = self._store.list("PipelineVersion", f"{self._pipeline(request['PipelineName'])['PipelineArn']}/")
        for record in versions:
            record["CreationTime"] = record["LastModifiedTime"]
        return page(self._service.model, "ListPipelineVersions", request, versions)

    def update_pipeline_version(self, request: Record) -> Record:
        """UpdatePipelineVersion: its display name and description."""
        _refuse_members(request, "PipelineVersionAliasOperations")
        record = self._pipeline(request["PipelineArn"])
        identifier = self._version(record, request["PipelineVersionId"])["PipelineVersionId"]
        changes = {key: value for key, value in request.items() if key.startswith("PipelineVersionD")}
        self._store.update("PipelineVersion", f"{record['PipelineArn']}/{identifier}", **changes)
        return {"PipelineArn": record["PipelineArn"], "PipelineVersionId": identifier}

    def _keep_version(self, record: Record) -> None:
        """Keep a pipeline as it is now, for those who ask for this version later."""
        kept = {**record, "PipelineVersionId": record["_version"]}
        self._store.insert("PipelineVersion", f"{record['PipelineArn']}/{record['_version']}", kept)

    def _version(self, pipeline: Record, identifier: int) -> Record:
        record = self._store.get("PipelineVersion", f"{pipeline['PipelineArn']}/{identifier}")
        if record is None:
            message = f"Version {identifier} of pipeline '{pipeline['PipelineArn']}' does not exist."
            refuse(message, "ResourceNotFound")
        return record

    def _pipeline(self, name_or_arn: str) -> Record:
        name = name_or_arn.rpartition("/")[2]
        record = self._store.get("Pipeline", name)
        if record is None:
            refuse(f"Pipeline '{self._context.arn_prefix}:pipeline/{name}' does not exist.", "ResourceNotFound")
        return record

    # Executions

    def start_pipeline_execution(self, request: Record) -> Record:
        """StartPipelineExecution; the same ClientRequestToken again answers the same execution."""
        _refuse_members(request, "PipelineVersionAlias", "MlflowExperimentName")
        # Refuses a role that cannot be taken on. Not below, where nobody may wait for moto.
        self._context.actor(request.get("RoleArn") or self._pipeline(request["PipelineName"])["RoleArn"])
        with self._store.exclusive():
            pipeline = self._pipeline(request["PipelineName"])
            if earlier := self._store.get("ClientRequestToken", request["ClientRequestToken"]):
                return {"PipelineExecutionArn": earlier["PipelineExecutionArn"]}
            version = self._version(pipeline, request.get("PipelineVersionId") or pipeline["_version"])
            source = self._source(version, request.get("SelectiveExecutionConfig", {}))
            record = _execution_record(version, request, source)
            arn = record["PipelineExecutionArn"]
            self._store.insert("PipelineExecution", arn, record)
            self._context.events.execution(record)
            self._take_over(record, source)
            self._store.update("Pipeline", pipeline["PipelineName"], LastRunTime=now())
            key = f"{pipeline['PipelineArn']}/{version['PipelineVersionId']}"
            self._store.update("PipelineVersion", key, LastExecutionPipelineExecutionArn=arn)
            self._launch(record, request["ClientRequestToken"])
        return {"PipelineExecutionArn": arn}

    def _source(self, pipeline: Record, selective: Record) -> Record | None:
        """Return the execution that a selective one takes results from, which must have ended."""
        if "SourcePipelineExecutionArn" not in selective:
            return None
        source = self._execution(selective["SourcePipelineExecutionArn"])
        if source["PipelineArn"] != pipeline["PipelineArn"] or source["PipelineExecutionStatus"] in UNFINISHED:
            arn, name = source["PipelineExecutionArn"], pipeline["PipelineName"]
            refuse(f"SourcePipelineExecutionArn {arn} must be an execution of pipeline '{name}' that has ended.")
        return source

    def _take_over(self, record: Record, source: Record | None) -> None:
        """Copy the steps that the selected ones need from the source execution."""
        if "SelectiveExecutionConfig" not in record:
            return
        arn = source["PipelineExecutionArn"] if source else None
        steps = {step["StepName"]: step for step in self._store.list("PipelineExecutionStep", f"{arn}/")}
        selected = {step["StepName"] for step in record["SelectiveExecutionConfig"]["SelectedSteps"]}
        for name in taken_over(record["_definition"], selected, steps if source else None):
            step = {**steps[name], "SelectiveExecutionResult": {"SourcePipelineExecutionArn": arn}}
            self._store.insert("PipelineExecutionStep", f"{record['PipelineExecutionArn']}/{name}", step)

    def _launch(self, record: Record, token: str) -> None:
        arn = record["PipelineExecutionArn"]
        self._store.insert("ClientRequestToken", token, {"PipelineExecutionArn": arn})
        self._running = {key: execution for key, execution in self._running.items() if execution.is_alive()}
        self._running[arn] = Execution(self._context, record)
        self._running[arn].start()

    def retry_pipeline_execution(self, request: Record) -> Record:
        """RetryPipelineExecution: goes on from what failed or was stopped; what succeeded is not run again."""
        with self._store.exclusive():
            record = self._execution(request["PipelineExecutionArn"])
            arn = record["PipelineExecutionArn"]
            if self._store.get("ClientRequestToken", request["ClientRequestToken"]):
                return {"PipelineExecutionArn": arn}
            if record["PipelineExecutionStatus"] not in ("Failed", "Stopped"):
                status = record["PipelineExecutionStatus"]
                refuse(f"Pipeline execution with ARN {arn} cannot be retried: its status is {status}.")
            changes = {key: request[key] for key in ("ParallelismConfiguration",) if key in request}
            changes.update(PipelineExecutionStatus="Executing", FailureReason=None, LastModifiedTime=now())
            self._launch(change_execution(self._context, arn, **changes), request["ClientRequestToken"])
        return {"PipelineExecutionArn": arn}

    def recover(self) -> None:
        """Mark what an earlier server left running when it died: failed, so that it can be retried."""
        reason = "InternalServerError: the embedded SageMaker ended while this ran; RetryPipelineExecution goes on."
        for record in self._store.list("PipelineExecution"):
            if record["PipelineExecutionStatus"] not in UNFINISHED:
                continue
            arn = record["PipelineExecutionArn"]
            for step in all_steps(record["_definition"]["Steps"]):
                noted = self._store.get("PipelineExecutionStep", f"{arn}/{step['Name']}")
                if noted is not None and noted["StepStatus"] == "Executing":
                    ended = {"StepStatus": "Failed", "FailureReason": reason, "EndTime": now()}
                    change_step(self._context, record, step, **ended)
            ended = {"PipelineExecutionStatus": "Failed", "FailureReason": reason, "LastModifiedTime": now()}
            change_execution(self._context, arn, **ended)

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


def _refuse_members(request: Record, *members: str) -> None:
    for member in members:
        if member in request:
            refuse(f"{member} is not supported by the embedded SageMaker.", "UnsupportedOperation")


def _execution_record(version: Record, request: Record, source: Record | None) -> Record:
    """Return the record of an execution that begins now: a version's definition, its parameters bound."""
    definition = json.loads(version["PipelineDefinition"])
    time = now()
    shown = ("PipelineExecutionDescription", "SelectiveExecutionConfig", "RoleArn")
    return {
        "ParallelismConfiguration": version.get("ParallelismConfiguration", {}),
        "PipelineExecutionDisplayName": f"execution-{int(time * 1000)}",
        **{key: request[key] for key in shown if key in request},
        **{key: request[key] for key in ("ParallelismConfiguration", "PipelineExecutionDisplayName") if key in request},
        "PipelineArn": version["PipelineArn"],
        "_role": request.get("RoleArn") or version["RoleArn"],
        "PipelineVersionId": version["PipelineVersionId"],
        "PipelineExecutionArn": f"{version['PipelineArn']}/execution/{secrets.token_hex(6)}",
        "PipelineExecutionStatus": "Executing",
        "CreationTime": time,
        "StartTime": time,
        "LastModifiedTime": time,
        "_definition": definition,
        "_parameters": bind(definition, request.get("PipelineParameters", []), source and source["_parameters"]),
    }
