"""The calls that create, describe, list and stop jobs."""

from __future__ import annotations

import shutil
from functools import partial

from botocore import xform_name

from infra.local.jobs.job import LOST, Job, JobContext
from infra.local.jobs.processing import ProcessingJob
from infra.local.jobs.training import TrainingJob
from infra.local.jobs.transform import TransformJob
from infra.local.service import page, refuse
from infra.local.store import Record

INSTANCE_LIMIT = "SAGEMAKER_EMBEDDED_INSTANCES"
"""The server's environment variable for how many instances all jobs may have at once."""

JOB_CLASSES: tuple[type[Job], ...] = (ProcessingJob, TrainingJob, TransformJob)

UNFINISHED = ("InProgress", "Stopping")


class Jobs:
    """The calls that create, describe, list and stop jobs, four for each kind: ``create_training_job`` and so on."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._running: dict[tuple[str, str], Job] = {}
        for job_class in JOB_CLASSES:
            kind = job_class.kind
            for action, method in (
                (f"Create{kind}", partial(self._create, job_class)),
                (f"Describe{kind}", partial(self._describe, kind)),
                (f"Stop{kind}", partial(self._stop, kind)),
                (f"List{kind}s", partial(self._list, kind)),
            ):
                setattr(self, xform_name(action), method)

    def _create(self, job_class: type[Job], request: Record) -> Record:
        job = job_class(self._context, request)
        job.refuse_unsupported()
        # Refuses a role that cannot be taken on. Not below, where nobody may wait for moto.
        _ = job.actor
        with self._context.store.exclusive():
            self._running = {key: other for key, other in self._running.items() if other.is_alive()}
            self._refuse_above_limit(job)
            record = job.first_record()
            if not self._context.store.insert(job.kind, job.job_name, record):
                message = "Job name must be unique within an AWS account and region, and a job with this name already"
                refuse(f"{message} exists ({job.arn}).", "ResourceInUse")
            if request.get("Tags"):
                self._context.service.call("AddTags", {"ResourceArn": job.arn, "Tags": request["Tags"]})
            self._context.on_change(job.kind, record)
            self._running[job.kind, job.job_name] = job
            job.start()
        return {f"{job.kind}Arn": job.arn}

    def _refuse_above_limit(self, job: Job) -> None:
        limit, wanted = self._context.instance_limit, job.instance_count
        # By what is written, not by threads: one whose job has ended already may take a moment more.
        used = sum(
            other.instance_count
            for (kind, name), other in self._running.items()
            if (self._context.store.get(kind, name) or {}).get(f"{kind}Status") in UNFINISHED
        )
        if used + wanted > limit:
            message = (
                f"The limit of the embedded SageMaker is {limit} Instances, with current utilization of {used} "
                f"Instances and a request delta of {wanted} Instances. {INSTANCE_LIMIT} raises it."
            )
            refuse(message, "ResourceLimitExceeded")

    def _describe(self, kind: str, request: Record) -> Record:
        name = request[f"{kind}Name"]
        record = self._context.store.get(kind, name)
        if record is None:
            refuse(f"Could not find requested job with name: {name}.")
        return record

    def _stop(self, kind: str, request: Record) -> None:
        self._describe(kind, request)
        job = self._running.get((kind, request[f"{kind}Name"]))
        status = job.stop() if job is not None else self._describe(kind, request)[f"{kind}Status"]
        if status != "InProgress":
            refuse(f"{kind} {request[f'{kind}Name']} cannot be stopped: its status is {status}.")

    def _list(self, kind: str, request: Record) -> Record:
        records = self._context.store.list(kind)
        return page(self._context.service.model, f"List{kind}s", request, records)

    def stop_all(self) -> None:
        """Stop every job that runs and wait for it: called when the server stops."""
        running = list(self._running.values())
        for job in running:
            job.stop()
        for job in running:
            job.join()

    def recover(self) -> None:
        """Write down the end of the jobs that an earlier server died with, and remove what they left."""
        for job_class in JOB_CLASSES:
            kind = job_class.kind
            with self._context.store.exclusive():
                records = [r for r in self._context.store.list(kind) if r[f"{kind}Status"] in UNFINISHED]
                # What this server has begun itself is not lost.
                lost = [job_class(self._context, r) for r in records if (kind, r[f"{kind}Name"]) not in self._running]
                for job in lost:
                    job.end("Failed", {"FailureReason": LOST})
            for job in lost:
                shutil.rmtree(job.folder, ignore_errors=True)
