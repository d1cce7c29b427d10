"""Processing jobs: any command between S3 inputs and S3 outputs."""

from __future__ import annotations

from infra.local.jobs import objects
from infra.local.jobs.container import Container
from infra.local.jobs.job import ContainerJob, refuse_members, require, require_members
from infra.local.store import Record


class ProcessingJob(ContainerJob):
    """A processing job: any command between S3 inputs and S3 outputs."""

    kind = "ProcessingJob"
    arn_kind = "processing-job"
    name_variable = "PROCESSING_JOB_NAME"
    log_group = "/aws/sagemaker/ProcessingJobs"
    times = ("ProcessingStartTime", "ProcessingEndTime")
    message_file = "/opt/ml/output/message"

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
            refuse_members(place, output, "FeatureStoreOutput")
            require_members(place, output, "S3Output")
            require_members(place, output["S3Output"], "LocalPath")

    @property
    def specification(self) -> Record:
        """What runs: entry point and arguments."""
        return dict(self.request["AppSpecification"])

    @property
    def groups(self) -> list[tuple[str, str, int]]:
        """The cluster, which is one group."""
        cluster = self.request["ProcessingResources"]["ClusterConfig"]
        return [("homogeneousCluster", cluster["InstanceType"], cluster["InstanceCount"])]

    @property
    def isolated(self) -> bool:
        """Whether the containers are to reach no network."""
        return bool(self.request.get("NetworkConfig", {}).get("EnableNetworkIsolation"))

    def prepare(self, container: Container, index: int) -> None:
        """Download inputs, make output folders, write the job's own configuration."""
        for given in self.request.get("ProcessingInputs", []):
            self.fetch(given["S3Input"], container, given["S3Input"]["LocalPath"], index)
        for output in self.request.get("ProcessingOutputConfig", {}).get("Outputs", []):
            target = output["S3Output"]
            folder = container.path(target["LocalPath"])
            folder.mkdir(parents=True, exist_ok=True)
            mirrors = self.continuous if target["S3UploadMode"] == "Continuous" else self.at_end
            mirrors.append(objects.Mirror(self.actor.client("s3"), folder, target["S3Uri"]))
        container.path("/opt/ml/output").mkdir(parents=True, exist_ok=True)
        request = {"ProcessingJobArn": self.arn, **self.request}
        container.write_json("/opt/ml/config/processingjobconfig.json", request)
        container.write_json("/opt/ml/config/resourceconfig.json", self.resource_config(index))

    def finish(self, succeeded: bool) -> Record:
        """Say what the script said; outputs are uploaded even if it failed, for they may tell why."""
        message = next((text for each in self.containers if (text := each.read_text(self.message_file))), "")
        return {"ExitMessage": message[:1024]} if message else {}
