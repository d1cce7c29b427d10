"""The calls that create, describe, list and stop jobs."""

from __future__ import annotations

from infra.local.jobs import Job, JobContext
from infra.local.processing import ProcessingJob
from infra.local.service import now, page, refuse
from infra.local.store import Record
from infra.local.training import TrainingJob


class Jobs:
    """The calls that create, describe, list and stop jobs."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._running: dict[tuple[str, str], Job] = {}

    def _create(self, job_class: type[Job], request: Record) -> Record:
        kind, name = job_class.kind, request[f"{job_class.kind}Name"]
        arn = f"{self._context.arn_prefix}:{job_class.arn_kind}/{name}"
        status = {f"{kind}Status": "InProgress", "SecondaryStatus": "Starting"}
        record = {**request, f"{kind}Arn": arn, **status, "CreationTime": now(), "LastModifiedTime": now()}
        job = job_class(self._context, request)
        with self._context.store.exclusive():
            if not self._context.store.insert(kind, name, record):
                message = f"Job name must be unique within an AWS account and region, {arn} already exists."
                refuse(message, "ResourceInUse")
            self._running = {key: other for key, other in self._running.items() if other.is_alive()}
            self._running[kind, name] = job
            job.start()
        return {f"{kind}Arn": arn}

    def _describe(self, kind: str, request: Record) -> Record:
        record = self._context.store.get(kind, request[f"{kind}Name"])
        if record is None:
            refuse(f"Requested resource not found: {kind} {request[f'{kind}Name']}.")
        return record

    def _stop(self, kind: str, request: Record) -> None:
        with self._context.store.exclusive():
            status = self._describe(kind, request)[f"{kind}Status"]
            if status != "InProgress":
                refuse(f"{kind} {request[f'{kind}Name']} cannot be stopped: its status is {status}.")
            self._running[kind, request[f"{kind}Name"]].stop()

    def stop_all(self) -> None:
        """Stop every job that runs and wait for it: called when the server stops."""
        running = list(self._running.values())
        for job in running:
            job.stop()
        for job in running:
            job.join()

    def _list(self, kind: str, request: Record) -> Record:
        records = self._context.store.list(kind)
        return page(self._context.service.model, f"List{kind}s", request, records)

    def create_processing_job(self, request: Record) -> Record:
        """CreateProcessingJob."""
        return self._create(ProcessingJob, request)

    def describe_processing_job(self, request: Record) -> Record:
        """DescribeProcessingJob."""
        return self._describe("ProcessingJob", request)

    def stop_processing_job(self, request: Record) -> None:
        """StopProcessingJob."""
        self._stop("ProcessingJob", request)

    def list_processing_jobs(self, request: Record) -> Record:
        """ListProcessingJobs."""
        return self._list("ProcessingJob", request)

    def create_training_job(self, request: Record) -> Record:
        """CreateTrainingJob."""
        return self._create(TrainingJob, request)

    def describe_training_job(self, request: Record) -> Record:
        """DescribeTrainingJob."""
        return self._describe("TrainingJob", request)

    def stop_training_job(self, request: Record) -> None:
        """StopTrainingJob."""
        self._stop("TrainingJob", request)

    def list_training_jobs(self, request: Record) -> Record:
        """ListTrainingJobs."""
        return self._list("TrainingJob", request)
