"""A job's life: from InProgress to Completed, Failed or Stopped, every change of state written down and told."""

from __future__ import annotations

import functools
import logging
import shutil
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.jobs import objects
from infra.local.jobs.container import STOP_GRACE_SECONDS, Container, JobLog, isolation_refused, unresolved
from infra.local.rights.actors import Actor, Free, Rights
from infra.local.service import Service, now, refuse
from infra.local.store import Record, Store

logger = logging.getLogger(__name__)

OTHERS_GRACE_SECONDS = 10
"""Between SIGTERM and SIGKILL for the instances that did not fail, when one did."""

DEFAULT_RUNTIME_SECONDS = 86_400
"""How long a job may run where its request sets no StoppingCondition, SageMaker's own default."""

SYNC_SECONDS = 1.0
"""How long a new file of a running job waits for its upload, where the request says Continuous or names checkpoints."""

LOST = "InternalServerError: the embedded SageMaker ended while this job ran."


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
    container: type[Container] = Container
    """How a job's process gets its ``/opt/ml``."""
    on_change: Callable[[str, Record], None] = lambda kind, record: None
    """Told a job's kind and whole record with each change of its status, in the transaction of the change."""
    instance_limit: int = 50
    """Instances at once, of all jobs together: what a quota of the account is on AWS."""
    rights: Rights | None = None
    """What roles mean; ``None``: nothing."""

    def actor(self, role_arn: str | None) -> Actor:
        """Return who acts in the name of a job's role. Raises ``ServiceError`` where it cannot be taken on."""
        return (self.rights or Free(self.client, self.service.call)).actor(role_arn)


class Job(ABC, threading.Thread):
    """One job of any kind."""

    kind: str
    arn_kind: str
    log_group: str
    times: tuple[str, str]
    """The fields that say when its work began and ended."""

    def __init__(self, context: JobContext, request: Record) -> None:
        self.job_name: str = request[f"{self.kind}Name"]
        super().__init__(name=self.job_name, daemon=True)
        self.context, self.request = context, request
        self.arn = f"{context.arn_prefix}:{self.arn_kind}/{self.job_name}"
        self.stopping = threading.Event()

    @functools.cached_property
    def actor(self) -> Actor:
        """Who acts for the job: its role. Raises ``ServiceError`` where that cannot be taken on."""
        return self.context.actor(self.role_arn)

    @property
    def role_arn(self) -> str | None:
        """The role that the job runs with."""
        return self.request.get("RoleArn")

    @property
    def folder(self) -> Path:
        """The folder for everything that the job needs while it lives."""
        return self.context.folder / self.kind / self.job_name

    @property
    def instance_count(self) -> int:
        """How many instances the job has."""
        return 1

    @abstractmethod
    def refuse_unsupported(self) -> None:
        """Raise ``ServiceError`` for a request that AWS might carry out and this program cannot."""

    @abstractmethod
    def work(self) -> tuple[str, Record]:
        """Do what the job is for and answer its last status, with the fields that describing it gains."""

    @abstractmethod
    def halt(self) -> None:
        """Make ``work`` come to its end; returns at once."""

    def stage_fields(self, record: Record, stage: str) -> Record:
        """Return what changes in the record as the job enters a stage of its life, by AWS's ``SecondaryStatus``."""
        return {}

    def first_record(self) -> Record:
        """Return what describing the job answers as soon as it is created."""
        record = {**self.request, f"{self.kind}Arn": self.arn, f"{self.kind}Status": "InProgress"}
        return {**record, "CreationTime": now(), "LastModifiedTime": now(), **self.stage_fields(record, "Starting")}

    def run(self) -> None:
        """Live the job's life."""
        try:
            status, fields = self.work()
        except (objects.MissingObjects, objects.TransferFailed) as error:
            status, fields = "Failed", {"FailureReason": str(error)}
        except (*objects.TRANSFER_ERRORS, ValueError) as error:
            status, fields = "Failed", {"FailureReason": f"ClientError: {type(error).__name__}: {error}"}
        except Exception:
            # The edge of a thread: without this the job would stay InProgress for ever.
            logger.exception("job %s broke", self.job_name)
            status, fields = "Failed", {"FailureReason": "InternalServerError: see the server log."}
        shutil.rmtree(self.folder, ignore_errors=True)
        self.end(status, fields)

    def enter(self, stage: str, **fields: Any) -> None:
        """Write down that the job enters a stage of its life, perhaps with a new status."""
        with self.context.store.exclusive():
            record = self.context.store.get(self.kind, self.job_name)
            assert record is not None
            changes = {**self.stage_fields(record, stage), **fields}
            record = self.context.store.update(self.kind, self.job_name, **changes, LastModifiedTime=now())
            if "SecondaryStatus" in changes or f"{self.kind}Status" in changes:
                self.context.on_change(self.kind, record)

    def end(self, status: str, fields: Record) -> None:
        """Write down a job's end; ``SecondaryStatus`` among the fields says more than the status."""
        last = {**fields, self.times[1]: now(), f"{self.kind}Status": status}
        if "FailureReason" in fields:
            last["FailureReason"] = fields["FailureReason"][:1024]
        self.enter(fields.get("SecondaryStatus", status), **last)

    def stop(self) -> str:
        """Stop the job and answer the status that it had; one that has ended stays as it is. Returns at once."""
        with self.context.store.exclusive():
            record = self.context.store.get(self.kind, self.job_name)
            status: str = (record or {}).get(f"{self.kind}Status", "Completed")
            if status != "InProgress":
                return status
            self.stopping.set()
            self.enter("Stopping", **{f"{self.kind}Status": "Stopping"})
        self.halt()
        return status


class ContainerJob(Job):
    """A job that is a command in one or more containers: inputs down, processes run, outputs up."""

    name_variable: str
    """The environment variable that tells a container its job's name; the one with its ARN is named alike."""
    message_file: str
    """Where a script leaves its last words."""

    def __init__(self, context: JobContext, request: Record) -> None:
        super().__init__(context, request)
        self.containers: list[Container] = []
        self.continuous: list[objects.Mirror] = []
        """What goes up while the job runs."""
        self.at_end: list[objects.Mirror] = []
        """What goes up at its end."""
        self._logs: list[JobLog] = []
        self._failures: list[str] = []
        self._out_of_time = False

    @property
    @abstractmethod
    def groups(self) -> list[tuple[str, str, int]]:
        """The instances as groups: name, instance type, count."""

    @property
    @abstractmethod
    def specification(self) -> Record:
        """The part of the request that says what runs."""

    @property
    @abstractmethod
    def isolated(self) -> bool:
        """Whether the containers are to reach no network."""

    @property
    def instance_count(self) -> int:
        """How many instances the job has."""
        return sum(count for *_, count in self.groups)

    @property
    def hosts(self) -> list[str]:
        """The instances' names, ``algo-1`` to ``algo-N``."""
        return [f"algo-{number}" for number in range(1, self.instance_count + 1)]

    def resource_config(self, index: int) -> Record:
        """Return what one instance is told about all of them, as SageMaker writes ``resourceconfig.json``."""
        groups, hosts = [], iter(self.hosts)
        for name, instance_type, count in self.groups:
            members = [next(hosts) for _ in range(count)]
            groups.append({"instance_group_name": name, "instance_type": instance_type, "hosts": members})
        own = next(group for group in groups if self.hosts[index] in group["hosts"])
        return {
            "current_host": self.hosts[index],
            "current_instance_type": own["instance_type"],
            "current_group_name": own["instance_group_name"],
            "hosts": self.hosts,
            "instance_groups": groups,
            "network_interface_name": "lo0" if sys.platform == "darwin" else "lo",
        }

    @abstractmethod
    def prepare(self, container: Container, index: int) -> None:
        """Fill one instance's ``/opt/ml`` (inputs, configuration) and say what of it goes up."""

    def fetch(self, source: Record, container: Container, folder: str, index: int) -> None:
        """Download an S3 data source, or this instance's share of it, into a folder of the container."""
        sharded = source.get("S3DataDistributionType") == "ShardedByS3Key"
        share = (index, len(self.hosts)) if sharded else (0, 1)
        s3 = self.actor.client("s3")
        objects.download(s3, source["S3Uri"], container.path(folder), source["S3DataType"], *share)

    @abstractmethod
    def finish(self, succeeded: bool) -> Record:
        """Upload what else the job leaves and return the fields that describing it gains."""

    def read_line(self, line: str) -> None:
        """Look at a line of the log as it is written."""

    def work(self) -> tuple[str, Record]:
        """Do what the job is for and answer its last status, with the fields that describing it gains."""
        self.enter("Downloading")
        self.containers = [self.context.container(self.folder / host, self.hosts, self.isolated) for host in self.hosts]
        for index, container in enumerate(self.containers):
            if not self.stopping.is_set():
                self.prepare(container, index)
        if self.stopping.is_set():
            return "Stopped", {}
        self._run()
        self.enter("Uploading")
        if self._failures and not self.stopping.is_set() and not self._out_of_time:
            return "Failed", {**self._leavings(), "FailureReason": self._failures[0]}
        fields = self._leave(succeeded=True)
        if self.stopping.is_set():
            return "Stopped", fields
        if self._out_of_time:
            return "Stopped", {**fields, "SecondaryStatus": "MaxRuntimeExceeded", "FailureReason": self._failures[0]}
        return "Completed", fields

    def _run(self) -> None:
        logs = self.actor.client("logs")
        self._logs = [
            JobLog(logs, self.log_group, f"{self.job_name}/{host}-{int(now())}", self.read_line) for host in self.hosts
        ]
        if warning := unresolved(self.hosts):
            logger.warning("job %s: %s", self.job_name, warning)
        if self.isolated and (len(self.hosts) > 1 or isolation_refused()):
            reason = isolation_refused() or "its instances must reach each other"
            logger.warning("job %s asks for network isolation and has a network: %s", self.job_name, reason)
        self.enter("Training", **{self.times[0]: now()})
        with self._uploading(), ThreadPoolExecutor(len(self.hosts)) as pool:
            list(pool.map(self._run_instance, range(len(self.hosts))))

    @contextmanager
    def _uploading(self) -> Iterator[None]:
        """Upload what is to go up continuously for as long as the block lasts."""
        done = threading.Event()

        def repeat() -> None:
            while not done.wait(SYNC_SECONDS):
                for mirror in self.continuous:
                    try:
                        mirror.sync()
                    except objects.TRANSFER_ERRORS as error:
                        logger.warning("job %s: an upload has to wait: %s", self.job_name, error)

        thread = threading.Thread(target=repeat, daemon=True)
        if self.continuous:
            thread.start()
        try:
            yield
        finally:
            done.set()
            if self.continuous:
                thread.join()

    def _leave(self, succeeded: bool) -> Record:
        for mirror in (*self.continuous, *self.at_end):
            mirror.sync()
        return self.finish(succeeded)

    def _leavings(self) -> Record:
        """Upload what a failed job leaves: whatever happens on the way, its own reason is the one to be told."""
        try:
            return self._leave(succeeded=False)
        except objects.TRANSFER_ERRORS as error:
            logger.warning("job %s failed, and not all that it left could be uploaded: %s", self.job_name, error)
            return {}

    def _environment(self) -> dict[str, str]:
        direct = ",".join([self.context.environment.get("no_proxy", ""), *self.hosts])
        return {
            **self.context.environment,
            **self.actor.environment,
            "NO_PROXY": direct,
            "no_proxy": direct,
            # The interpreter that runs this server comes first, so that `python3` finds the locked packages.
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONUNBUFFERED": "1",
            self.name_variable: self.job_name,
            self.name_variable.replace("NAME", "ARN"): self.arn,
            **self.request.get("Environment", {}),
        }

    def _run_instance(self, index: int) -> None:
        command = [*self.specification["ContainerEntrypoint"], *self.specification.get("ContainerArguments", [])]
        limit = self.request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", DEFAULT_RUNTIME_SECONDS)
        try:
            code = self.containers[index].run(command, self._environment(), self._logs[index], limit)
        except TimeoutError:
            # Not so where another instance has failed and this one took its time to stop.
            self._out_of_time = self._out_of_time or not self._failures
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
        said = self.containers[index].read_text(self.message_file) or self._logs[index].tail(5)
        host = f"{self.hosts[index]}: " if len(self.hosts) > 1 else ""
        return f"AlgorithmError: {host}{said}, exit code: {code}"

    def halt(self) -> None:
        """Stop the containers."""
        for container in self.containers:
            threading.Thread(target=container.stop, args=(STOP_GRACE_SECONDS,), daemon=True).start()


def require(place: str, given: Record, **supported: tuple[Any, ...]) -> None:
    """Refuse a part of a request whose members have values other than the supported ones, the first the default."""
    for key, values in supported.items():
        if given.get(key, values[0]) not in values:
            allowed = ", ".join(map(str, values))
            refuse(f"{place}: {key} {given[key]} is not supported by the embedded SageMaker, only {allowed}.")


def require_members(place: str, given: Record, *members: str) -> None:
    """Refuse a part of a request that lacks what AWS could do without and this program cannot."""
    for member in members:
        if not given.get(member):
            refuse(f"{place}: the embedded SageMaker needs {member}.")


def refuse_members(place: str, given: Record, *members: str) -> None:
    """Refuse a part of a request that asks for what AWS does and this program does not."""
    for member in members:
        if given.get(member):
            refuse(f"{place}: {member} is not supported by the embedded SageMaker.")
