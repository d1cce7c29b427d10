"""Training jobs: channels in, a model archive out."""

from __future__ import annotations

import logging
import math
import re
from contextlib import suppress
from pathlib import Path

from infra.local import objects
from infra.local.container import Container
from infra.local.jobs import Job, JobContext, read_text, require, require_members, write_json
from infra.local.service import now, refuse
from infra.local.store import Record

logger = logging.getLogger(__name__)

DRIVERS_CHANNEL = "sm_drivers"
"""The channel in which the SageMaker SDK sends its own driver scripts; their paths are written for a container."""


class TrainingJob(Job):
    """A training job: channels in, ``model.tar.gz`` out."""

    kind = "TrainingJob"
    arn_kind = "training-job"
    name_variable = "TRAINING_JOB_NAME"
    log_group = "/aws/sagemaker/TrainingJobs"

    def __init__(self, context: JobContext, request: Record) -> None:
        super().__init__(context, request)
        self._metrics: dict[str, float] = {}
        self._patterns = {
            definition["Name"]: _compiled(definition["Regex"])
            for definition in self.specification.get("MetricDefinitions", [])
        }

    def refuse_unsupported(self) -> None:
        """Refuse what is not a command with S3 channels."""
        require_members("The request", self.request, "AlgorithmSpecification", "ResourceConfig")
        require_members("AlgorithmSpecification", self.specification, "ContainerEntrypoint")
        # Files that are streamed on AWS are copied here, which a script cannot tell; a pipe it could.
        require("AlgorithmSpecification", self.specification, TrainingInputMode=("File", "FastFile"))
        require("OutputDataConfig", self.request["OutputDataConfig"], CompressionType=("GZIP",))
        for channel in self.request.get("InputDataConfig", []):
            place, plain = f"Channel {channel['ChannelName']}", ("None",)
            require_members(place, channel["DataSource"], "S3DataSource")
            require(place, channel["DataSource"]["S3DataSource"], S3DataType=("S3Prefix", "ManifestFile"))
            require(place, channel, InputMode=("File", "FastFile"), CompressionType=plain, RecordWrapperType=plain)

    @property
    def specification(self) -> Record:
        """What runs: entry point, arguments and which metrics its log shows."""
        return dict(self.request["AlgorithmSpecification"])

    @property
    def resources(self) -> Record:
        """The resource part of the request."""
        return dict(self.request["ResourceConfig"])

    def prepare(self, container: Container, index: int) -> None:
        """Download the channels and earlier checkpoints, write the configuration files."""
        s3 = self.context.client("s3")
        for channel in self.request.get("InputDataConfig", []):
            source, folder = channel["DataSource"]["S3DataSource"], f"/opt/ml/input/data/{channel['ChannelName']}"
            sharded = source.get("S3DataDistributionType") == "ShardedByS3Key"
            shares = (index, self.instance_count) if sharded else (0, 1)
            objects.download(s3, source["S3Uri"], container.path(folder), source["S3DataType"], *shares)
            if channel["ChannelName"] == DRIVERS_CHANNEL:
                container.rewrite_files(container.path(folder))
        for folder in ("/opt/ml/model", "/opt/ml/output/data"):
            container.path(folder).mkdir(parents=True, exist_ok=True)
        if checkpoints := self.request.get("CheckpointConfig"):
            self._restore_checkpoints(container.path(checkpoints.get("LocalPath", "/opt/ml/checkpoints")))
        self._configure(container, index)

    def _restore_checkpoints(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            objects.download(self.context.client("s3"), self.request["CheckpointConfig"]["S3Uri"], folder)
        except objects.MissingObjects:
            logger.info("%s starts without checkpoints", self.job_name)

    def _configure(self, container: Container, index: int) -> None:
        channels = {
            channel["ChannelName"]: {
                "TrainingInputMode": channel.get("InputMode", "File"),
                "S3DistributionType": channel["DataSource"]["S3DataSource"].get("S3DataDistributionType"),
                "RecordWrapperType": channel.get("RecordWrapperType", "None"),
            }
            for channel in self.request.get("InputDataConfig", [])
        }
        write_json(container, "/opt/ml/input/config/hyperparameters.json", self.request.get("HyperParameters", {}))
        write_json(container, "/opt/ml/input/config/inputdataconfig.json", channels)
        write_json(
            container,
            "/opt/ml/input/config/resourceconfig.json",
            {
                "current_host": self.hosts[index],
                "hosts": self.hosts,
                "current_instance_type": self.resources.get("InstanceType", "local"),
                "current_group_name": "homogeneousCluster",
                "network_interface_name": "lo",
            },
        )

    def start_fields(self) -> Record:
        """When training began."""
        return {"TrainingStartTime": now(), "SecondaryStatus": "Training"}

    def end_fields(self, status: str) -> Record:
        """When training ended, and how."""
        return {"TrainingEndTime": now(), "SecondaryStatus": status}

    def finish(self, succeeded: bool) -> Record:
        """Upload model, output data and checkpoints; only a job that succeeded or was stopped leaves a model."""
        s3, container = self.context.client("s3"), self.containers[0]
        target = f"{self.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.job_name}/output"
        if checkpoints := self.request.get("CheckpointConfig"):
            for each in self.containers:
                folder = each.path(checkpoints.get("LocalPath", "/opt/ml/checkpoints"))
                objects.upload(s3, folder, checkpoints["S3Uri"])
        if any(container.path("/opt/ml/output/data").glob("*")):
            objects.upload_archive(s3, container.path("/opt/ml/output/data"), f"{target}/output.tar.gz")
        if not succeeded:
            return {}
        objects.upload_archive(s3, container.path("/opt/ml/model"), f"{target}/model.tar.gz")
        return {"ModelArtifacts": {"S3ModelArtifacts": f"{target}/model.tar.gz"}, **self._final_metrics()}

    def _final_metrics(self) -> Record:
        values = [{"MetricName": name, "Value": value, "Timestamp": now()} for name, value in self._metrics.items()]
        return {"FinalMetricDataList": values} if values else {}

    def read_line(self, line: str) -> None:
        """Keep the last value of each metric that the log shows (``MetricDefinitions``)."""
        for name, pattern in self._patterns.items():
            match = pattern.search(line)
            if match is None or not pattern.groups:
                continue
            # A log may say "loss: nan" or "loss: -", which are no values of a metric.
            with suppress(TypeError, ValueError):
                if math.isfinite(value := float(match[1])):
                    self._metrics[name] = value

    def failure_message(self, container: Container) -> str:
        """Return what the script left in ``/opt/ml/output/failure``."""
        return read_text(container, "/opt/ml/output/failure")


def _compiled(regex: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except re.error as error:
        refuse(f"MetricDefinitions: '{regex}' is not a regular expression: {error}.")
