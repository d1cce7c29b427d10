"""Processing jobs: any command between S3 inputs and S3 outputs."""

from __future__ import annotations

from infra.local import objects
from infra.local.container import Container
from infra.local.jobs import Job, JobFailed, read_text, write_json
from infra.local.service import now, public
from infra.local.store import Record


class ProcessingJob(Job):
    """A processing job: any command between S3 inputs and S3 outputs."""

    kind = "ProcessingJob"
    arn_kind = "processing-job"
    name_variable = "PROCESSING_JOB_NAME"
    log_group = "/aws/sagemaker/ProcessingJobs"

    @property
    def resources(self) -> Record:
        """The cluster part of the request."""
        return dict(self.request["ProcessingResources"]["ClusterConfig"])

    def prepare(self, container: Container, index: int) -> None:
        """Download inputs, make output folders, write the job's own configuration."""
        for given in self.request.get("ProcessingInputs", []):
            source = given["S3Input"]
            sharded = source.get("S3DataDistributionType") == "ShardedByS3Key"
            objects.download(
                self.context.client("s3"),
                source["S3Uri"],
                container.path(source["LocalPath"]),
                source["S3DataType"],
                index if sharded else 0,
                self.instance_count if sharded else 1,
            )
        for output in self._outputs():
            container.path(output["LocalPath"]).mkdir(parents=True, exist_ok=True)
        write_json(container, "/opt/ml/config/processingjobconfig.json", public(self.request))
        write_json(
            container,
            "/opt/ml/config/resourceconfig.json",
            {"current_host": self.hosts[index], "hosts": self.hosts},
        )
        container.path("/opt/ml/output").mkdir(parents=True, exist_ok=True)

    def _outputs(self) -> list[Record]:
        config = self.request.get("ProcessingOutputConfig", {"Outputs": []})
        return [output["S3Output"] for output in config["Outputs"]]

    def command(self) -> list[str]:
        """Entry point and arguments."""
        specification = self.request["AppSpecification"]
        entry = specification.get("ContainerEntrypoint")
        if not entry:
            raise JobFailed("ClientError: an image's own entry point cannot run here: set ContainerEntrypoint")
        return [*entry, *specification.get("ContainerArguments", [])]

    def start_fields(self) -> Record:
        """When processing began."""
        return {"ProcessingStartTime": now()}

    def end_fields(self, status: str) -> Record:
        """When processing ended."""
        return {"ProcessingEndTime": now()}

    def finish(self, succeeded: bool) -> Record:
        """Upload the outputs, also those of a job that failed: its reports are how people learn why."""
        for output in self._outputs():
            for container in self.containers:
                objects.upload(self.context.client("s3"), container.path(output["LocalPath"]), output["S3Uri"])
        message = next((text for c in self.containers if (text := self.failure_message(c))), "")
        return {"ExitMessage": message[:1024]} if message else {}

    def failure_message(self, container: Container) -> str:
        """Return what the script left in ``/opt/ml/output/message``."""
        return read_text(container, "/opt/ml/output/message")
