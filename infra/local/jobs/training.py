"""Training jobs: channels in, a model archive out."""

from __future__ import annotations

import math
import re
from contextlib import suppress

from infra.local.jobs import objects
from infra.local.jobs.container import Container
from infra.local.jobs.job import ContainerJob, JobContext, refuse_members, require, require_members
from infra.local.service import now, refuse
from infra.local.store import Record

DRIVERS_CHANNEL = "sm_drivers"
"""The channel in which the SageMaker SDK sends its own driver scripts; their paths are written for a container."""

STAGES = {
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Stopping": "Stopping the training job",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
}
"""AWS's secondary statuses and what it says of them; the last four are final."""

FINAL = list(STAGES)[-4:]


class TrainingJob(ContainerJob):
    """A training job: channels in, ``model.tar.gz`` out."""

    kind = "TrainingJob"
    arn_kind = "training-job"
    name_variable = "TRAINING_JOB_NAME"
    log_group = "/aws/sagemaker/TrainingJobs"
    times = ("TrainingStartTime", "TrainingEndTime")
    message_file = "/opt/ml/output/failure"

    def __init__(self, context: JobContext, request: Record) -> None:
        super().__init__(context, request)
        self._metrics: dict[str, Record] = {}
        self._patterns = {
            definition["Name"]: _compiled(definition["Regex"])
            for definition in self.specification.get("MetricDefinitions", [])
        }

    def refuse_unsupported(self) -> None:
        """Refuse what is not a command with S3 channels."""
        require_members("The request", self.request, "AlgorithmSpecification", "ResourceConfig")
        debugger = ("DebugRuleConfigurations", "ProfilerRuleConfigurations", "TensorBoardOutputConfig")
        refuse_members("The request", self.request, *debugger)
        require_members("AlgorithmSpecification", self.specification, "ContainerEntrypoint")
        # Files that are streamed on AWS are copied here, which a script cannot tell; a pipe it could.
        require("AlgorithmSpecification", self.specification, TrainingInputMode=("File", "FastFile"))
        require("OutputDataConfig", self.request["OutputDataConfig"], CompressionType=("GZIP",))
        for channel in self.request.get("InputDataConfig", []):
            place, plain = f"Channel {channel['ChannelName']}", ("None",)
            require_members(place, channel["DataSource"], "S3DataSource")
            source = channel["DataSource"]["S3DataSource"]
            require(place, source, S3DataType=("S3Prefix", "ManifestFile"))
            refuse_members(place, source, "InstanceGroupNames")
            require(place, channel, InputMode=("File", "FastFile"), CompressionType=plain, RecordWrapperType=plain)
        if not self.hosts:
            refuse("ResourceConfig: a training job needs at least one instance.")
        self._check_spot()

    def _check_spot(self) -> None:
        times = self.request.get("StoppingCondition", {})
        wait = times.get("MaxWaitTimeInSeconds")
        if not self.request.get("EnableManagedSpotTraining"):
            if wait is not None:
                refuse("MaxWaitTimeInSeconds is given, but EnableManagedSpotTraining is not set.")
        elif wait is None or wait < times.get("MaxRuntimeInSeconds", 0):
            refuse(
                "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds."
            )

    @property
    def specification(self) -> Record:
        """What runs: entry point, arguments and which metrics its log shows."""
        return dict(self.request["AlgorithmSpecification"])

    @property
    def groups(self) -> list[tuple[str, str, int]]:
        """The instance groups, or the one group that a cluster without them is."""
        config = self.request["ResourceConfig"]
        alike = {**config, "InstanceGroupName": "homogeneousCluster"}
        return [
            (group["InstanceGroupName"], group.get("InstanceType", "local"), group.get("InstanceCount", 1))
            for group in config.get("InstanceGroups") or [alike]
        ]

    @property
    def isolated(self) -> bool:
        """Whether the containers are to reach no network."""
        return bool(self.request.get("EnableNetworkIsolation"))

    def stage_fields(self, record: Record, stage: str) -> Record:
        """Return what changes in the record as the job enters a stage of its life."""
        moment = now()
        transitions: list[Record] = record.get("SecondaryStatusTransitions", [])
        if transitions:
            transitions[-1]["EndTime"] = moment
        transitions.append({"Status": stage, "StartTime": moment, "StatusMessage": STAGES[stage]})
        fields: Record = {"SecondaryStatus": stage, "SecondaryStatusTransitions": transitions}
        if stage in FINAL:
            transitions[-1]["EndTime"] = moment
            if "TrainingStartTime" in record:
                # Spot capacity saves nothing on one's own machine: all of the time would be billed.
                seconds = math.ceil(moment - record["TrainingStartTime"])
                fields |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
        return fields

    def prepare(self, container: Container, index: int) -> None:
        """Download the channels and earlier checkpoints, write the configuration files."""
        for channel in self.request.get("InputDataConfig", []):
            folder = f"/opt/ml/input/data/{channel['ChannelName']}"
            self.fetch(channel["DataSource"]["S3DataSource"], container, folder, index)
            if channel["ChannelName"] == DRIVERS_CHANNEL:
                container.rewrite_files(container.path(folder))
        for folder in ("/opt/ml/model", "/opt/ml/output/data"):
            container.path(folder).mkdir(parents=True, exist_ok=True)
        if checkpoints := self.request.get("CheckpointConfig"):
            local = container.path(checkpoints.get("LocalPath", "/opt/ml/checkpoints"))
            mirror = objects.Mirror(self.actor.client("s3"), local, checkpoints["S3Uri"])
            mirror.restore()
            self.continuous.append(mirror)
        self._configure(container, index)

    def _configure(self, container: Container, index: int) -> None:
        channels = {
            channel["ChannelName"]: self._channel(channel) for channel in self.request.get("InputDataConfig", [])
        }
        config = "/opt/ml/input/config"
        container.write_json(f"{config}/hyperparameters.json", self.request.get("HyperParameters", {}))
        container.write_json(f"{config}/inputdataconfig.json", channels)
        container.write_json(f"{config}/resourceconfig.json", self.resource_config(index))

    def _channel(self, channel: Record) -> Record:
        source = channel["DataSource"]["S3DataSource"]
        told = {
            "TrainingInputMode": channel.get("InputMode", self.specification["TrainingInputMode"]),
            "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
            "RecordWrapperType": channel.get("RecordWrapperType", "None"),
        }
        return {**told, "ContentType": channel["ContentType"]} if "ContentType" in channel else told

    def finish(self, succeeded: bool) -> Record:
        """Upload output data and, of a job that succeeded or was stopped, the model: one archive of all instances."""
        s3 = self.actor.client("s3")
        target = f"{self.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.job_name}/output"
        data, model = ([each.path(f"/opt/ml/{name}") for each in self.containers] for name in ("output/data", "model"))
        if any(any(folder.glob("*")) for folder in data):
            objects.upload_archive(s3, data, f"{target}/output.tar.gz")
        metrics = {"FinalMetricDataList": list(self._metrics.values())} if self._metrics else {}
        if not succeeded:
            return metrics
        objects.upload_archive(s3, model, f"{target}/model.tar.gz")
        return {"ModelArtifacts": {"S3ModelArtifacts": f"{target}/model.tar.gz"}, **metrics}

    def read_line(self, line: str) -> None:
        """Keep the last value of each metric that the log shows (``MetricDefinitions``)."""
        for name, pattern in self._patterns.items():
            match = pattern.search(line)
            if match is None or not pattern.groups:
                continue
            # A log may say "loss: nan" or "loss: -", which are no values of a metric.
            with suppress(TypeError, ValueError):
                if math.isfinite(value := float(match[1])):
                    self._metrics[name] = {"MetricName": name, "Value": value, "Timestamp": now()}


def _compiled(regex: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except re.error as error:
        refuse(f"MetricDefinitions: '{regex}' is not a regular expression: {error}.")
