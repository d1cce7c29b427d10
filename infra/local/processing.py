"""Processing jobs: any command between S3 inputs and S3 outputs."""

from __future__ import annotations

from infra.local import objects
from infra.local.container import Container
from infra.local.jobs import Job, read_text, require, require_members, write_json
from infra.local.service import now
from infra.local.store import Record


class ProcessingJob(Job):
    """A processing job: any command between S3 inputs and S3 outputs."""

    kind = "ProcessingJob"
    arn_kind = "processing-job"
    name_variable = "PROCESSING_JOB_NAME"
    log_group = "/aws/sagemaker/ProcessingJobs"

    def refuse_unsupported(self) -> None:
        """Refuse what is not a command between S3 folders."""
        require_members("AppSpecification", self.specification, "ContainerEntrypoint")
        for given in self.request.get("ProcessingInputs", []):
            place = f"Input {given['InputName']}"
            require_members(place, given, "S3Input")
            require_members(place, given["S3Input"], "LocalPath")
            require(place, given["S3Input"], S3InputMode=("File",), S3CompressionType=("None",))
        for output in self.request.get("ProcessingOutputConfig", {}).get("Outputs", []):
            place = f"Output {output['OutputName']}"
            require_members(place, output, "S3Output")
            require_members(place, output["S3Output"], "LocalPath")

    @property
    def specification(self) -> Record:
        """What runs: entry point and arguments."""
        return dict(self.request["AppSpecification"])

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
        write_json(container, "/opt/ml/config/processingjobconfig.json", self.request)
        write_json(
            container,
            "/opt/ml/config/resourceconfig.json",
            {"current_host": self.hosts[index], "hosts": self.hosts},
        )
        container.path("/opt/ml/output").mkdir(parents=True, exist_ok=True)

    def _outputs(self) -> list[Record]:
        config = self.request.get("ProcessingOutputConfig", {"Outputs": []})
        return [output["S3Output"] for output in config["Outputs"]]

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
