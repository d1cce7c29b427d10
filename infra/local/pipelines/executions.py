"""Runs a pipeline definition: its steps in the order of their dependencies, side by side where nothing forbids it."""

from __future__ import annotations

import functools
import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from infra.local.events.delivery import Events
from infra.local.pipelines.cache import StepCache
from infra.local.pipelines.definitions import all_steps
from infra.local.pipelines.expressions import ExpressionError, dependencies, holds, resolve
from infra.local.pipelines.retries import Attempts, exception_type
from infra.local.pipelines.scope import Scope
from infra.local.pipelines.steps import STEP_TYPES, StepFailed, StepStopped, StepType
from infra.local.rights.actors import Actor, Free, Rights
from infra.local.service import Service, ServiceError, now
from infra.local.store import Record, Store

logger = logging.getLogger(__name__)

DEFAULT_PARALLELISM = 50
"""Steps side by side where nothing says otherwise, SageMaker's own default."""

NAME_LENGTH = 63
"""Characters of a job's name, SageMaker's limit."""


@dataclass(frozen=True)
class ExecutionContext:
    """What an execution works with."""

    service: Service
    store: Store
    events: Events
    arn_prefix: str
    client: Callable[[str], Any]
    """Makes a boto3 client of the embedded cloud, for example of ``s3``."""
    rights: Rights | None = None
    """What roles mean; ``None``: nothing."""

    def actor(self, role_arn: str | None) -> Actor:
        """Return who acts in the name of a pipeline's role. Raises ``ServiceError`` where it cannot be taken on."""
        return (self.rights or Free(self.client, self.service.call)).actor(role_arn)


class Execution(threading.Thread):
    """One run of a definition. ``run`` ends when nothing runs any more and nothing can start."""

    def __init__(self, context: ExecutionContext, record: Record) -> None:
        self.arn: str = record["PipelineExecutionArn"]
        self.identifier = self.arn.rpartition("/")[2]
        super().__init__(name=f"execution {self.identifier}", daemon=True)
        self.context, self.record = context, record
        self.results: dict[str, Record] = {}
        self.scope = Scope(record, lambda service: self.actor.client(service), self.results)
        self.cache = StepCache(context.store, record["PipelineArn"])
        self.stop_requested = threading.Event()
        self._failures: dict[str, str] = {}
        selective = record.get("SelectiveExecutionConfig")
        self._selected = {step["StepName"] for step in selective["SelectedSteps"]} if selective else None

    @functools.cached_property
    def actor(self) -> Actor:
        """Who acts for the execution: its pipeline's role."""
        return self.context.actor(self.record.get("_role"))

    def stop(self) -> None:
        """Ask the execution to stop: nothing new starts, running jobs are stopped; without effect once it has ended."""
        with self.context.store.exclusive():
            record = self.context.store.get("PipelineExecution", self.arn)
            if record is not None and record["PipelineExecutionStatus"] == "Executing":
                self.stop_requested.set()
                self._set("Stopping")

    def run(self) -> None:
        """Run the whole definition, or what an earlier attempt left of it, and write down how it ended."""
        try:
            self._recall()
            self._run_steps()
        except Exception:
            # The edge of a thread: without this the execution would stay Executing for ever.
            logger.exception("execution %s broke", self.identifier)
            self._set("Failed", FailureReason="InternalError: see the server log.")
            return
        if self._failures:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self._failures.items())
            self._set("Failed", FailureReason=f"Step failure: One or multiple steps failed. {reasons}"[:1300])
        else:
            self._set("Stopped" if self.stop_requested.is_set() else "Succeeded")

    def _set(self, status: str, **changes: Any) -> None:
        changes.update(PipelineExecutionStatus=status, LastModifiedTime=now())
        change_execution(self.context, self.arn, **changes)

    def _recall(self) -> None:
        """Read the results of the steps that have succeeded already: before a retry, or in a source execution."""
        for step in all_steps(self.record["_definition"]["Steps"]):
            noted = self.context.store.get("PipelineExecutionStep", f"{self.arn}/{step['Name']}")
            if noted is not None and noted["StepStatus"] == "Succeeded":
                self.results[step["Name"]] = self._recalled(step, noted["Metadata"])

    def _recalled(self, step: Record, metadata: Record) -> Record:
        runner = STEP_TYPES[step["Type"]]
        if runner is None:
            return {"Outcome": metadata["Condition"]["Outcome"] == "True"}
        return runner.recall(self.actor, metadata)

    # The schedule

    def _run_steps(self) -> None:
        pending = {step["Name"]: step for step in self._open(self.record["_definition"]["Steps"])}
        running: dict[Future[str | None], Record] = {}
        limit = self.record["ParallelismConfiguration"].get("MaxParallelExecutionSteps", DEFAULT_PARALLELISM)
        with ThreadPoolExecutor(limit) as pool:
            while True:
                if not self._failures and not self.stop_requested.is_set():
                    for step in self._ready(pending, limit - len(running)):
                        running[pool.submit(StepRun(self, step).live)] = step
                        del pending[step["Name"]]
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    step = running.pop(future)
                    if reason := future.result():
                        self._failures[step["Name"]] = reason
                    # The branch that a condition took joins the steps that wait; the other one never does.
                    pending.update({opened["Name"]: opened for opened in self._opened_by(step)})

    def _open(self, steps: list[Record]) -> Iterator[Record]:
        """Yield the steps of a list that are to run, and those in the branches of its conditions that need not wait."""
        for step in steps:
            if step["Name"] in self.results:
                yield from self._opened_by(step)
            elif self._selected is None or step["Name"] in self._selected:
                yield step
            elif step["Type"] == "Condition":
                # Whoever selects a step without its condition has decided already.
                yield from self._open([*step["Arguments"].get("IfSteps", []), *step["Arguments"].get("ElseSteps", [])])

    def _opened_by(self, step: Record) -> Iterator[Record]:
        """Yield the steps that the end of a step sets free: of a condition, those of the branch that it took."""
        if step["Type"] == "Condition" and step["Name"] in self.results:
            branch = "IfSteps" if self.results[step["Name"]]["Outcome"] else "ElseSteps"
            yield from self._open(step["Arguments"].get(branch, []))

    def _ready(self, pending: dict[str, Record], free: int) -> list[Record]:
        ready = [step for step in pending.values() if dependencies(step) <= set(self.results)]
        return ready[:free]


class StepRun:
    """One step of an execution, from Executing to Succeeded, Failed or Stopped, through as many attempts as it may."""

    def __init__(self, execution: Execution, step: Record) -> None:
        self._execution, self._step = execution, step
        self._context = execution.context
        self._key = f"{execution.arn}/{step['Name']}"
        self._attempt = 0

    @property
    def service(self) -> Actor:
        """Where calls go, in the name of the pipeline's role."""
        return self._execution.actor

    @property
    def stopping(self) -> bool:
        """Whether somebody asked the execution to stop."""
        return self._execution.stop_requested.is_set()

    def note(self, **changes: Any) -> None:
        """Write down something about the step."""
        change_step(self._context, self._execution.record, self._step, **changes)

    def live(self) -> str | None:
        """Run the step and write down how it ended; answers the reason if it failed."""
        self._begin()
        try:
            result = self._carry_out()
        except StepStopped:
            self.note(StepStatus="Stopped", EndTime=now())
            self._execution.stop_requested.set()
            return None
        except (StepFailed, ExpressionError, ServiceError) as error:
            return self._fail(str(error) if isinstance(error, StepFailed) else f"ClientError: {error}")
        except Exception:
            # Whatever else breaks is ours; the step must not stay Executing for ever.
            logger.exception("step %s broke", self._key)
            return self._fail("InternalServerError: see the server log.")
        self.note(StepStatus="Succeeded", EndTime=now())
        # Last: whoever waits for the result may start as soon as it is there.
        self._execution.results[self._step["Name"]] = result
        return None

    def _begin(self) -> None:
        """Write down that the step starts; when the execution is retried, over how it ended before."""
        name, earlier = self._step["Name"], self._context.store.get("PipelineExecutionStep", self._key)
        self._attempt = earlier["AttemptCount"] + 1 if earlier else 1
        record = {
            "StepName": name,
            "StepDisplayName": self._step.get("DisplayName", name),
            "StepDescription": self._step.get("Description", ""),
            "StartTime": now(),
            "StepStatus": "Executing",
            "AttemptCount": self._attempt,
        }
        if earlier:
            self.note(**{**dict.fromkeys(earlier), **record})
        else:
            self._context.store.insert("PipelineExecutionStep", self._key, record)
            self._context.events.step(self._execution.record, record, self._step["Type"])

    def _fail(self, reason: str) -> str:
        self.note(StepStatus="Failed", FailureReason=reason[:1024], EndTime=now())
        return reason

    def _carry_out(self) -> Record:
        arguments = self._step["Arguments"]
        if self._step["Type"] == "Condition":
            outcome = all(holds(condition, self._execution.scope) for condition in arguments["Conditions"])
            self.note(Metadata={"Condition": {"Outcome": str(outcome)}})
            return {"Outcome": outcome}
        if self._step["Type"] == "Fail":
            message = resolve(arguments["ErrorMessage"], self._execution.scope)
            self.note(Metadata={"Fail": {"ErrorMessage": message}})
            raise StepFailed(message)
        runner = STEP_TYPES[self._step["Type"]]
        assert runner is not None
        return self._retrying(runner)

    def _retrying(self, runner: StepType) -> Record:
        """Answer the step, again and again where a retry policy says so. Raises what the last attempt raised."""
        attempts = Attempts(self._step.get("RetryPolicies", []), now())
        while True:
            try:
                return self._answer(runner)
            except (ServiceError, StepFailed) as error:
                delay = attempts.delay(exception_type(getattr(error, "code", ""), str(error)), now())
                if delay is None:
                    raise
                logger.info("step %s is tried again in %s s: %s", self._key, delay, error)
            if self._execution.stop_requested.wait(delay):
                raise StepStopped
            self._attempt += 1
            self.note(AttemptCount=self._attempt)

    def _answer(self, runner: StepType) -> Record:
        """Return what describing the step's outcome says: of an earlier one that the cache knows, or of a new one."""
        arguments = self._named(runner, self._step["Arguments"])
        names = {f"{runner.kind}Name": arguments.get(f"{runner.kind}Name", "")}
        arguments = resolve(arguments, replace(self._execution.scope, job_names=names))
        hit = self._execution.cache.find(self._step, runner.kind, arguments)
        if hit is not None:
            source = {"SourcePipelineExecutionArn": hit["PipelineExecutionArn"]}
            self.note(Metadata=runner.noted(hit["Arn"]), CacheHitResult=source)
            return runner.describe(self.service, hit["Arn"])
        described = runner.create(self, arguments)
        arn = described[f"{runner.kind}Arn"]
        self._execution.cache.keep(self._step, runner.kind, arguments, arn, self._execution.arn)
        return described

    def _named(self, runner: StepType, arguments: Record) -> Record:
        """Give a job a name of its own, which begins with the one in the definition; others only if they lack one."""
        key = f"{runner.kind}Name"
        if not runner.is_job and (key in arguments or not runner.named):
            return arguments
        step = self._step["Name"].replace("_", "-")[:20]
        ending = f"-{self._execution.identifier}-{step}-{secrets.token_hex(5)}"
        return {**arguments, key: arguments.get(key, "pipelines")[: NAME_LENGTH - len(ending)] + ending}


def change_execution(context: ExecutionContext, arn: str, **changes: Any) -> Record:
    """Change an execution's record, send the event of its new status, and return the whole."""
    with context.store.exclusive():
        before = context.store.get("PipelineExecution", arn) or {}
        record = context.store.update("PipelineExecution", arn, **changes)
        context.events.execution(record, before.get("PipelineExecutionStatus"))
    return record


def change_step(context: ExecutionContext, execution: Record, step: Record, **changes: Any) -> None:
    """Change a step's record, and send the event of its new status if it has one."""
    key = f"{execution['PipelineExecutionArn']}/{step['Name']}"
    with context.store.exclusive():
        before = context.store.get("PipelineExecutionStep", key) or {}
        record = context.store.update("PipelineExecutionStep", key, **changes)
        if "StepStatus" in changes:
            context.events.step(execution, record, step["Type"], before.get("StepStatus"))
