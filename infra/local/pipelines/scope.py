"""What the expressions of one execution can see: parameters, execution variables, steps that ended, files in S3."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from infra.local.jobs.objects import split
from infra.local.pipelines.definitions import all_steps
from infra.local.pipelines.expressions import ExpressionError, follow
from infra.local.store import Record


@dataclass(frozen=True)
class Scope:
    """Answers the look-ups of an execution's expressions."""

    record: Record
    """The execution's own."""
    client: Callable[[str], Any]
    results: Mapping[str, Record]
    """What the steps that have ended answered."""
    job_names: Mapping[str, str] = field(default_factory=dict)
    """Inside a step, the name of the job that it is about to start, as ``TrainingJobName`` or ``ProcessingJobName``."""

    def parameter(self, name: str) -> Any:
        """Return a parameter's value in this execution."""
        return self.record["_parameters"][name]

    def execution(self, name: str) -> Any:
        """Return an execution variable."""
        arn = self.record["PipelineExecutionArn"]
        started = datetime.fromtimestamp(self.record["CreationTime"], UTC)
        variables = {
            "PipelineExecutionArn": arn,
            "PipelineExecutionId": arn.rpartition("/")[2],
            "PipelineArn": self.record["PipelineArn"],
            "PipelineName": self.record["PipelineArn"].rpartition("/")[2],
            "StartDateTime": started.isoformat(timespec="milliseconds"),
            "CurrentDateTime": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **self.job_names,
        }
        if name not in variables:
            raise ExpressionError(f"Execution.{name} has a value only in a step that starts such a job")
        return variables[name]

    def step(self, name: str) -> Any:
        """Return what a step that has ended answered."""
        if name not in self.results:
            raise ExpressionError(f"step {name} has not run in this execution")
        return self.results[name]

    def property_file(self, step: str, name: str) -> Any:
        """Read a property file from where the step's output was uploaded to."""
        declared = {
            each["Name"]: each.get("PropertyFiles", []) for each in all_steps(self.record["_definition"]["Steps"])
        }
        file = next((each for each in declared.get(step, []) if each["PropertyFileName"] == name), None)
        if file is None:
            raise ExpressionError(f"step {step} declares no property file {name}")
        output = follow(self.step(step), f"ProcessingOutputConfig.Outputs['{file['OutputName']}']", f"step {step}")
        uri = f"{output['S3Output']['S3Uri'].rstrip('/')}/{file['FilePath']}"
        return self._read(uri, f"property file {name} of step {step}")

    def json_file(self, uri: str) -> Any:
        """Read a JSON file from S3."""
        return self._read(uri, "the JSON file")

    def _read(self, uri: str, what: str) -> Any:
        bucket, key = split(uri)
        try:
            return json.loads(self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
        except ClientError as error:
            raise ExpressionError(f"{what} is not there: {uri}") from error
        except ValueError as error:
            raise ExpressionError(f"{what} is not JSON: {uri}: {error}") from error
