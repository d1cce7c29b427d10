"""The step types that run here: what each of them creates, and when that is done."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from infra.local.rights.actors import Actor
from infra.local.service import ServiceError
from infra.local.store import Record

POLL_SECONDS = 0.1


class StepFailed(Exception):
    """A step that ended badly; the text is its failure reason."""


class StepStopped(Exception):
    """A step whose job was stopped, or that was to stop before it could start again."""


class Run(Protocol):
    """The step's side of an execution."""

    @property
    def service(self) -> Actor:
        """Where calls go."""

    @property
    def stopping(self) -> bool:
        """Whether the execution is to stop."""

    def note(self, **changes: Any) -> None:
        """Write down something about the step."""


@dataclass(frozen=True)
class StepType:
    """A step that creates something by an API call, and waits until that has ended or serves."""

    kind: str
    """What it creates: ``Create<kind>`` and ``Describe<kind>`` are its calls."""
    metadata: str = ""
    """How the step's Metadata calls it, where that is not ``kind``."""
    is_job: bool = False
    """Whether each run makes one of its own name, which can be stopped."""
    named: bool = True
    """Whether it has a name, which is made up where the definition gives none."""

    def create(self, run: Run, arguments: Record) -> Record:
        """Make the call, wait, and answer what describing the outcome says.

        Raises ``ServiceError`` for a refused call, ``StepFailed`` and ``StepStopped`` for how the outcome ended.
        """
        created = run.service.call(f"Create{self.kind}", arguments)
        return self._settled(run, created[f"{self.kind}Arn"])

    def noted(self, arn: str) -> Record:
        """Return the Metadata by which a step says what it created."""
        return {self.metadata or self.kind: {"Arn": arn}}

    def recall(self, service: Actor, metadata: Record) -> Record:
        """Answer what describing the outcome of an earlier run says, found by the Metadata that it noted."""
        return self.describe(service, metadata[self.metadata or self.kind]["Arn"])

    def describe(self, service: Actor, arn: str) -> Record:
        """Answer what describing an outcome says."""
        name = arn.rpartition("/")[2] if self.named else arn
        return service.call(f"Describe{self.kind}", {f"{self.kind}Name": name})

    def _settled(self, run: Run, arn: str) -> Record:
        run.note(Metadata=self.noted(arn))
        told = False
        while True:
            described = self.describe(run.service, arn)
            status = described.get(f"{self.kind}Status", "Completed")
            if status in ("Completed", "InService"):
                return described
            # A job that stopped with a reason was stopped by nobody: it ran out of time.
            if status == "Failed" or (status == "Stopped" and "FailureReason" in described):
                raise StepFailed(described.get("FailureReason", f"{arn} failed"))
            if status == "Stopped":
                raise StepStopped
            if run.stopping and self.is_job and not told:
                told = True
                with suppress(ServiceError):  # It may have ended just now.
                    run.service.call(f"Stop{self.kind}", {f"{self.kind}Name": arn.rpartition("/")[2]})
            time.sleep(POLL_SECONDS)


class EndpointType(StepType):
    """An Endpoint step: creates the endpoint or updates the one that there is, and fails if that is rolled back."""

    def create(self, run: Run, arguments: Record) -> Record:
        """Make the call, wait until the endpoint serves, and answer what describing it says."""
        named = {"EndpointName": arguments["EndpointName"]}
        try:
            run.service.call("DescribeEndpoint", named)
        except ServiceError:
            created = run.service.call("CreateEndpoint", arguments)
        else:
            update = {key: value for key, value in arguments.items() if key != "Tags"}
            created = run.service.call("UpdateEndpoint", update)
        described = self._settled(run, created["EndpointArn"])
        if described["EndpointConfigName"] != arguments["EndpointConfigName"]:
            raise StepFailed(described.get("FailureReason", "the update was rolled back"))
        return described


class PackageType(StepType):
    """A RegisterModel step: makes the group that it registers in if there is none, as its users on AWS rely on."""

    def create(self, run: Run, arguments: Record) -> Record:
        """Make the calls, and answer what describing the package says."""
        if group := arguments.get("ModelPackageGroupName"):
            named = {"ModelPackageGroupName": group}
            try:
                run.service.call("DescribeModelPackageGroup", named)
            except ServiceError:
                with suppress(ServiceError):  # Another execution may be quicker.
                    run.service.call("CreateModelPackageGroup", named)
        return super().create(run, arguments)


STEP_TYPES: dict[str, StepType | None] = {
    "Processing": StepType("ProcessingJob", is_job=True),
    "Training": StepType("TrainingJob", is_job=True),
    "Transform": StepType("TransformJob", is_job=True),
    "Model": StepType("Model"),
    "RegisterModel": PackageType("ModelPackage", "RegisterModel", named=False),
    "EndpointConfig": StepType("EndpointConfig"),
    "Endpoint": EndpointType("Endpoint"),
    # These two are decided by the execution, without a call.
    "Condition": None,
    "Fail": None,
}
"""The step types that run here."""
