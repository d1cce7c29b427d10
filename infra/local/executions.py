"""Runs a pipeline definition: its steps in the order of their dependencies, side by side where nothing forbids it."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from infra.local.cache import StepCache
from infra.local.expressions import ExpressionError, dependencies, follow, holds, resolve
from infra.local.objects import split
from infra.local.service import Service, ServiceError, now
from infra.local.store import Record, Store

logger = logging.getLogger(__name__)

DEFAULT_PARALLELISM = 50
"""Steps side by side where nothing says otherwise, SageMaker's own default."""

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class ExecutionContext:
    """What an execution works with."""

    service: Service
    store: Store
    arn_prefix: str
    client: Callable[[str], Any]
    """Makes a boto3 client of the embedded cloud, for example of ``s3``."""


@dataclass(frozen=True)
class JobStep:
    """A step that starts a job and waits for it."""

    kind: str

    def start(self, run: Execution, name: str, arguments: Record) -> Record:
        """Start the job and answer what describing it says once it has ended."""
        job = run.name_for(name)
        created = run.context.service.call(f"Create{self.kind}", {**arguments, f"{self.kind}Name": job})
        run.note(name, Metadata={self.kind: {"Arn": created[f"{self.kind}Arn"]}})
        stopping = False
        while True:
            described = run.context.service.call(f"Describe{self.kind}", {f"{self.kind}Name": job})
            status = described[f"{self.kind}Status"]
            if status == "Failed":
                raise StepFailed(described.get("FailureReason", f"{job} failed"))
            if status == "Stopped" and "FailureReason" in described:
                # Nobody stopped it: it ran out of time.
                raise StepFailed(described["FailureReason"])
            if status == "Stopped":
                raise StepStopped
            if status == "Completed":
                return described
            if run.stopping and not stopping:
                stopping = True
                with suppress(ServiceError):  # It may have ended just now.
                    run.context.service.call(f"Stop{self.kind}", {f"{self.kind}Name": job})
            time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class ResourceStep:
    """A step that creates a resource and is done."""

    kind: str
    metadata: str
    named: bool = True

    def start(self, run: Execution, name: str, arguments: Record) -> Record:
        """Create the resource and answer what describing it says."""
        if self.named and f"{self.kind}Name" not in arguments:
            arguments = {**arguments, f"{self.kind}Name": run.name_for(name)}
        created = run.context.service.call(f"Create{self.kind}", arguments)
        arn = created[f"{self.kind}Arn"]
        run.note(name, Metadata={self.metadata: {"Arn": arn}})
        key = arguments[f"{self.kind}Name"] if self.named else arn
        return run.context.service.call(f"Describe{self.kind}", {f"{self.kind}Name": key})


STEP_TYPES: dict[str, JobStep | ResourceStep | None] = {
    "Processing": JobStep("ProcessingJob"),
    "Training": JobStep("TrainingJob"),
    "Model": ResourceStep("Model", "Model"),
    "RegisterModel": ResourceStep("ModelPackage", "RegisterModel", named=False),
    # These two are decided here, without a call.
    "Condition": None,
    "Fail": None,
}
"""The step types that run here."""


class StepFailed(Exception):
    """A step that ended badly; the text is its failure reason."""


class StepStopped(Exception):
    """A step whose job was stopped."""


class Execution(threading.Thread):
    """One run of a definition. ``run`` ends when nothing runs any more and nothing can start."""

    def __init__(self, context: ExecutionContext, record: Record) -> None:
        self.arn: str = record["PipelineExecutionArn"]
        self.identifier = self.arn.rpartition("/")[2]
        super().__init__(name=f"execution {self.identifier}", daemon=True)
        self.context = context
        self._record = record
        self._definition: Record = record["_definition"]
        self._results: dict[str, Any] = {}
        self._failures: dict[str, str] = {}
        self._stop_requested = threading.Event()
        self._cache = StepCache(context.store, record["PipelineArn"])

    @property
    def stopping(self) -> bool:
        """Whether somebody asked this execution to stop."""
        return self._stop_requested.is_set()

    def stop(self) -> None:
        """Ask the execution to stop: nothing new starts, running jobs are stopped; without effect once it has ended."""
        with self.context.store.exclusive():
            record = self.context.store.get("PipelineExecution", self.arn)
            if record is not None and record["PipelineExecutionStatus"] == "Executing":
                self._stop_requested.set()
                self._set("Stopping")

    def run(self) -> None:
        """Run the whole definition and write down how it ended."""
        try:
            self._run_steps()
        except Exception:
            # The edge of a thread: without this the execution would stay Executing for ever.
            logger.exception("execution %s broke", self.identifier)
            self._set("Failed", FailureReason="InternalError: see the server log.")
            return
        if self._failures:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self._failures.items())
            self._set("Failed", FailureReason=f"Step failure: One or multiple steps failed. {reasons}"[:3000])
        else:
            self._set("Stopped" if self.stopping else "Succeeded")

    def name_for(self, step: str) -> str:
        """Return a name for what a step creates, made of letters, digits and hyphens as such names must be."""
        return f"pipelines-{self.identifier}-{step.replace('_', '-')[:20]}-{secrets.token_hex(5)}"

    def _set(self, status: str, **changes: Any) -> None:
        self.context.store.update(
            "PipelineExecution", self.arn, PipelineExecutionStatus=status, LastModifiedTime=now(), **changes
        )

    def note(self, step: str, **changes: Any) -> None:
        """Write down something about a step."""
        self.context.store.update("PipelineExecutionStep", f"{self.arn}/{step}", **changes)

    # The schedule

    def _run_steps(self) -> None:
        pending: dict[str, Record] = {step["Name"]: step for step in self._definition["Steps"]}
        running: dict[Future[list[Record]], str] = {}
        limit = self._record["ParallelismConfiguration"].get("MaxParallelExecutionSteps", DEFAULT_PARALLELISM)
        with ThreadPoolExecutor(limit) as pool:
            while True:
                if not self._failures and not self.stopping:
                    for step in self._ready(pending, limit - len(running)):
                        running[pool.submit(self._run_step, step)] = step["Name"]
                        del pending[step["Name"]]
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    del running[future]
                    # The branch that a condition took joins the steps that wait; the other one never does.
                    pending.update({step["Name"]: step for step in future.result()})

    def _ready(self, pending: dict[str, Record], free: int) -> list[Record]:
        ready = [step for step in pending.values() if dependencies(step) <= set(self._results)]
        return ready[:free]

    def _run_step(self, step: Record) -> list[Record]:
        """Run one step, write down how it ended, and answer the steps that it sets free."""
        name = step["Name"]
        record = {
            "StepName": name,
            "StepDisplayName": step.get("DisplayName", name),
            "StepDescription": step.get("Description", ""),
            "StartTime": now(),
            "StepStatus": "Executing",
            "AttemptCount": 1,
        }
        self.context.store.insert("PipelineExecutionStep", f"{self.arn}/{name}", record)
        try:
            branch = self._carry_out(step)
        except StepStopped:
            self.note(name, StepStatus="Stopped", EndTime=now())
            self._stop_requested.set()
            return []
        except (StepFailed, ExpressionError, ServiceError) as error:
            reason = f"ClientError: {error}" if isinstance(error, ServiceError | ExpressionError) else str(error)
            self._fail(name, reason)
            return []
        except Exception:
            # Whatever else breaks is ours; the step must not stay Executing for ever.
            logger.exception("step %s of execution %s broke", name, self.identifier)
            self._fail(name, "InternalServerError: see the server log.")
            return []
        self.note(name, StepStatus="Succeeded", EndTime=now())
        return branch

    def _fail(self, name: str, reason: str) -> None:
        self._failures[name] = reason
        self.note(name, StepStatus="Failed", FailureReason=reason[:3000], EndTime=now())

    def _carry_out(self, step: Record) -> list[Record]:
        name, arguments = step["Name"], step["Arguments"]
        if step["Type"] == "Condition":
            outcome = all(holds(condition, self) for condition in arguments["Conditions"])
            self.note(name, Metadata={"Condition": {"Outcome": str(outcome)}})
            self._results[name] = {"Outcome": outcome}
            branch: list[Record] = arguments.get("IfSteps" if outcome else "ElseSteps", [])
            return branch
        resolved = resolve(arguments, self)
        if step["Type"] == "Fail":
            self.note(name, Metadata={"Fail": {"ErrorMessage": resolved["ErrorMessage"]}})
            raise StepFailed(resolved["ErrorMessage"])
        runner = STEP_TYPES[step["Type"]]
        assert runner is not None
        self._results[name] = {
            **self._answer(step, runner, resolved),
            "_property_files": {file["PropertyFileName"]: file for file in step.get("PropertyFiles", [])},
        }
        return []

    def _answer(self, step: Record, runner: JobStep | ResourceStep, arguments: Record) -> Record:
        """Return what describing the step's job says: an earlier one's, where the cache knows it, or a new one's."""
        name, kind = step["Name"], runner.kind
        hit = self._cache.find(step, kind, arguments)
        if hit is not None:
            described = self.context.service.call(f"Describe{kind}", {f"{kind}Name": hit["Job"]})
            source = {"SourcePipelineExecutionArn": hit["PipelineExecutionArn"]}
            self.note(name, Metadata={kind: {"Arn": described[f"{kind}Arn"]}}, CacheHitResult=source)
            return described
        described = runner.start(self, name, arguments)
        self._cache.keep(step, kind, arguments, described.get(f"{kind}Name", ""), self.arn)
        return described

    # What expressions read

    def parameter(self, name: str) -> Any:
        """Return a parameter's value in this execution."""
        return self._record["_parameters"][name]

    def execution(self, name: str) -> Any:
        """Return an execution variable."""
        started = datetime.fromtimestamp(self._record["CreationTime"], UTC)
        variables = {
            "PipelineExecutionArn": self.arn,
            "PipelineExecutionId": self.identifier,
            "PipelineArn": self._record["PipelineArn"],
            "PipelineName": self._record["PipelineArn"].rpartition("/")[2],
            "StartDateTime": started.isoformat(timespec="milliseconds"),
            "CurrentDateTime": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        return variables[name]

    def step(self, name: str) -> Any:
        """Return what a step that has ended answered."""
        if name not in self._results:
            raise ExpressionError(f"step {name} has not run in this execution")
        return self._results[name]

    def property_file(self, step: str, name: str) -> Any:
        """Read a property file from where the step's output was uploaded to."""
        result = self.step(step)
        file = result["_property_files"].get(name)
        if file is None:
            raise ExpressionError(f"step {step} declares no property file {name}")
        output = follow(result, f"ProcessingOutputConfig.Outputs['{file['OutputName']}']", f"step {step}")
        uri = f"{output['S3Output']['S3Uri'].rstrip('/')}/{file['FilePath']}"
        bucket, key = split(uri)
        try:
            return json.loads(self.context.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
        except ClientError as error:
            raise ExpressionError(f"property file {name} of step {step} is not there: {uri}") from error
        except ValueError as error:
            raise ExpressionError(f"property file {name} of step {step} is not JSON: {uri}: {error}") from error
