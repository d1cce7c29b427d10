"""A job's life: inputs down, processes run, outputs up, every change of state written down."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.local import objects
from infra.local.container import STOP_GRACE_SECONDS, Container, JobLog
from infra.local.service import Service, now, refuse
from infra.local.store import Record, Store

logger = logging.getLogger(__name__)

OTHERS_GRACE_SECONDS = 10
"""Between SIGTERM and SIGKILL for the instances that did not fail, when one did."""

DEFAULT_RUNTIME_SECONDS = 86_400
"""How long a job may run where its request sets no StoppingCondition, SageMaker's own default."""


@dataclass(frozen=True)
class JobContext:
    """What jobs work with."""

    service: Service
    store: Store
    arn_prefix: str
    folder: Path
    """Where each job gets a folder of its own."""
    environment: dict[str, str]
    """Variables that lead a job's AWS clients to this cloud."""
    client: Callable[[str], Any]


class Job(ABC, threading.Thread):
    """One job, from InProgress to Completed, Failed or Stopped."""

    kind: str
    arn_kind: str
    log_group: str
    name_variable: str
    """The environment variable that tells a container its job's name."""

    def __init__(self, context: JobContext, request: Record) -> None:
        self.job_name: str = request[f"{self.kind}Name"]
        super().__init__(name=self.job_name, daemon=True)
        self.context, self.request = context, request
        self.refuse_unsupported()
        self.containers = [
            Container(context.folder / self.job_name / f"algo-{index + 1}") for index in range(self.instance_count)
        ]
        self._logs: list[JobLog] = []
        self._failures: list[str] = []
        self._stop_requested = False
        self._out_of_time = False

    @abstractmethod
    def refuse_unsupported(self) -> None:
        """Raise ``ServiceError`` for a request that AWS might carry out and this program cannot."""

    @property
    @abstractmethod
    def resources(self) -> Record:
        """The part of the request that says how many instances of which type."""

    @property
    @abstractmethod
    def specification(self) -> Record:
        """The part of the request that says what runs."""

    @property
    def instance_count(self) -> int:
        """How many instances the job has."""
        return int(self.resources.get("InstanceCount", 1))

    @property
    def hosts(self) -> list[str]:
        """The instances' names, ``algo-1`` to ``algo-N``."""
        return [f"algo-{index + 1}" for index in range(self.instance_count)]

    @abstractmethod
    def prepare(self, container: Container, index: int) -> None:
        """Fill one instance's ``/opt/ml``: inputs and configuration."""

    def command(self) -> list[str]:
        """Return the command line inside the container."""
        return [*self.specification["ContainerEntrypoint"], *self.specification.get("ContainerArguments", [])]

    @abstractmethod
    def finish(self, succeeded: bool) -> Record:
        """Upload what the job leaves and return the fields that describing it gains."""

    @abstractmethod
    def failure_message(self, container: Container) -> str:
        """Return what a failed script said, or an empty text."""

    def run(self) -> None:
        """Live the job's life."""
        try:
            self._live()
        except objects.MissingObjects as error:
            self._end("Failed", FailureReason=str(error)[:1024])
        except (ClientError, BotoCoreError, OSError, ValueError) as error:
            self._end("Failed", FailureReason=f"ClientError: {type(error).__name__}: {error}"[:1024])
        except Exception:
            # The edge of a thread: without this the job would stay InProgress for ever.
            logger.exception("job %s broke", self.job_name)
            self._end("Failed", FailureReason="InternalServerError: see the server log.")
        finally:
            shutil.rmtree(self.context.folder / self.job_name, ignore_errors=True)

    def _live(self) -> None:
        for index, container in enumerate(self.containers):
            container.opt_ml.mkdir(parents=True, exist_ok=True)
            self.prepare(container, index)
        logs = self.context.client("logs")
        self._logs = [
            JobLog(logs, self.log_group, f"{self.job_name}/{host}-{int(now())}", self.read_line) for host in self.hosts
        ]
        self.note(**self.start_fields())
        with ThreadPoolExecutor(self.instance_count) as pool:
            list(pool.map(self._run_instance, range(self.instance_count)))
        self._conclude()

    def _conclude(self) -> None:
        """Upload what there is and write down the end, which is the earliest of what the instances met with."""
        if self._stop_requested:
            self._end("Stopped", **self.finish(succeeded=True))
        elif self._out_of_time:
            why = {"SecondaryStatus": "MaxRuntimeExceeded", "FailureReason": self._failures[0]}
            self._end("Stopped", **self.finish(succeeded=True), **why)
        elif self._failures:
            self._end("Failed", **self._leavings(), FailureReason=self._failures[0][:1024])
        else:
            self._end("Completed", **self.finish(succeeded=True))

    def _leavings(self) -> Record:
        """Finish a job that failed: whatever happens on the way, its own reason is the one to be told."""
        try:
            return self.finish(succeeded=False)
        except (ClientError, BotoCoreError, OSError) as error:
            logger.warning("job %s failed, and not all that it left could be uploaded: %s", self.job_name, error)
            return {}

    def start_fields(self) -> Record:
        """Return the fields that describing the job gains once its processes start."""
        return {}

    def end_fields(self, status: str) -> Record:
        """Return the fields that describing the job gains with its last status."""
        return {}

    def read_line(self, line: str) -> None:
        """Look at a line of the log as it is written."""

    def _run_instance(self, index: int) -> None:
        environment = {
            **self.context.environment,
            # The interpreter that runs this server comes first, so that `python3` finds the locked packages.
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONUNBUFFERED": "1",
            self.name_variable: self.job_name,
            **self.request.get("Environment", {}),
        }
        limit = self.request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", DEFAULT_RUNTIME_SECONDS)
        try:
            code = self.containers[index].run(self.command(), environment, self._logs[index], limit)
        except TimeoutError:
            self._out_of_time = True
            self._failures.append(f"ClientError: the job ran longer than MaxRuntimeInSeconds ({limit}) and was ended")
        except OSError as error:
            self._failures.append(f"ClientError: cannot start the container's entry point: {error}")
        else:
            if code == 0:
                return
            self._failures.append(self._reason(index, code))
        # The others may wait for this one for ever.
        for container in self.containers:
            container.stop(grace_seconds=OTHERS_GRACE_SECONDS)

    def _reason(self, index: int, code: int) -> str:
        said = self.failure_message(self.containers[index]) or self._logs[index].tail(5)
        host = f"{self.hosts[index]}: " if self.instance_count > 1 else ""
        return f"AlgorithmError: {host}{said}, exit code: {code}"

    def note(self, **changes: Any) -> None:
        """Write down something about the job."""
        self.context.store.update(self.kind, self.job_name, LastModifiedTime=now(), **changes)

    def _end(self, status: str, **fields: Any) -> None:
        self.note(**{f"{self.kind}Status": status, **self.end_fields(status), **fields})

    def stop(self) -> None:
        """Stop the job; returns at once. One that has ended stays as it is."""
        with self.context.store.exclusive():
            record = self.context.store.get(self.kind, self.job_name)
            if record is None or record[f"{self.kind}Status"] != "InProgress":
                return
            self._stop_requested = True
            self.note(**{f"{self.kind}Status": "Stopping"}, SecondaryStatus="Stopping")
        for container in self.containers:
            threading.Thread(target=container.stop, args=(STOP_GRACE_SECONDS,), daemon=True).start()


def require(place: str, given: Record, **supported: tuple[str, ...]) -> None:
    """Refuse a part of a request whose members have values other than the supported ones, the first the default."""
    for key, values in supported.items():
        if given.get(key, values[0]) not in values:
            refuse(f"{place}: {key} {given[key]} is not supported by the embedded SageMaker, only {', '.join(values)}.")


def require_members(place: str, given: Record, *members: str) -> None:
    """Refuse a part of a request that lacks what AWS could do without and this program cannot."""
    for member in members:
        if not given.get(member):
            refuse(f"{place}: the embedded SageMaker needs {member}.")


def write_json(container: Container, inside: str, content: Any) -> None:
    """Write a configuration file into a container."""
    path = container.path(inside)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def read_text(container: Container, inside: str) -> str:
    """Read a message that the script may have left, or an empty text."""
    path = container.path(inside)
    return path.read_text(errors="replace").strip() if path.is_file() else ""
