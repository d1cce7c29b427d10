"""What the pipelines are put together from: a session, processors, the trainer, caching, retries.

Imports the SageMaker SDK, which takes seconds and wants an environment: import this through ``pipeline.definitions``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

from sagemaker.core import image_uris
from sagemaker.core.network import NetworkConfig
from sagemaker.core.processing import Processor
from sagemaker.core.shapes import (
    MetricDefinition,
    OutputDataConfig,
    ProcessingInput,
    ProcessingOutput,
    ProcessingS3Input,
    ProcessingS3Output,
    Tag,
)
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.functions import Join
from sagemaker.core.workflow.parameters import ParameterFloat, ParameterInteger
from sagemaker.core.workflow.pipeline_context import PipelineSession
from sagemaker.mlops.workflow.retry import SageMakerJobExceptionTypeEnum, SageMakerJobStepRetryPolicy
from sagemaker.mlops.workflow.steps import CacheConfig, ProcessingStep
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import CheckpointConfig, Compute, InputData, Networking, SourceCode, StoppingCondition

from pipeline import protection, wheels
from pipeline.clouds import Actor, Cloud
from pipeline.code import Staging, files_of, read_folder
from pipeline.protection import Protection
from pipeline.settings import Deployment, Settings

CACHE = CacheConfig(enable_caching=True, expire_after="30d")
"""A step whose inputs and code are unchanged is not run again within a month."""

RETRIES = [
    SageMakerJobStepRetryPolicy(
        exception_types=[
            SageMakerJobExceptionTypeEnum.INTERNAL_ERROR,
            SageMakerJobExceptionTypeEnum.CAPACITY_ERROR,
            SageMakerJobExceptionTypeEnum.RESOURCE_LIMIT,
        ],
        interval_seconds=60,
        backoff_rate=2.0,
        max_attempts=4,
    )
]
"""What is nobody's mistake is tried again, over a quarter of an hour; a script that fails fails once."""

DEPLOYMENT_HOURS = 4
"""How long a deployment may take: longer than it waits for the endpoint, so that it can say what went wrong."""

Use = Literal["processing", "training", "endpoint"]
"""What a machine of the settings does."""

INPUT = "/opt/ml/processing/input"
OUTPUT = "/opt/ml/processing/output"
RESOURCES = "/opt/ml/config/resourceconfig.json"
"""Tells each of a job's machines which one it is."""

CHECKPOINTS = "/opt/ml/checkpoints"
"""Where a training job keeps what it needs to go on after an interruption."""

TRAINING_METRICS = ("loss", "accuracy", "validation_loss", "validation_accuracy")
"""What the training log shows an epoch, as ``name value``."""


@dataclass(frozen=True)
class Shared:
    """An input of which each of a job's machines gets a share; all others go to every machine."""

    address: Any


@dataclass(frozen=True)
class Workshop:
    """Everything that building a definition needs: settings, names, a session, and a place for code."""

    settings: Settings
    cloud: Cloud
    session: PipelineSession
    staging: Staging

    @classmethod
    def open(cls, settings: Settings, cloud: Cloud, defaults: Mapping[str, Any]) -> Workshop:
        """Set up for one cloud, with the SDK's own defaults; nothing is sent anywhere."""
        session = PipelineSession(
            boto_session=cloud.session,
            sagemaker_client=cloud.client("sagemaker"),
            default_bucket=cloud.bucket,
            sagemaker_config=defaults,
        )
        # Asked for its bucket, the session would look whether it exists and create it; ours is known.
        session._default_bucket = cloud.bucket
        return cls(settings, cloud, session, Staging(cloud.bucket, settings.name))

    def image(self, use: Use) -> str:
        """Return the address of an image, for what it is used: the settings' own, or AWS's for that use's machine."""
        images = self.settings.images
        serving = use == "endpoint"
        if own := images.inference_uri if serving else images.training_uri:
            return own
        return str(
            image_uris.retrieve(
                images.framework,
                self.cloud.region,
                version=images.inference_version if serving else images.training_version,
                py_version=None if serving else images.python,
                instance_type=getattr(self.settings.instances, use),
                image_scope="inference" if serving else "training",
            )
        )

    def output(self, *parts: str) -> Join:
        """Return an S3 address below this execution's own prefix."""
        root = f"s3://{self.cloud.bucket}/{self.settings.name}/executions"
        return Join(on="/", values=[root, ExecutionVariables.PIPELINE_EXECUTION_ID, *parts])

    def processing(
        self,
        script: str,
        options: Mapping[str, Any],
        inputs: Mapping[str, Any],
        outputs: Sequence[str],
        instance_type: Any,
        hours: int = 1,
        instance_count: Any = 1,
    ) -> Any:
        """Return step arguments for a processing job that runs one of the step scripts, for so many hours at most.

        ``options`` become ``--name value``, a list repeats its option. ``inputs`` maps a name to an S3 address, mounted
        at ``INPUT/<name>``, for every machine the same unless ``Shared``; each of ``outputs`` is uploaded from
        ``OUTPUT/<name>``.
        """
        step = cast("Actor", Path(script).stem)
        protected = protection.of(step, self.settings, self.cloud)
        mounted, environment = self._mounts(step, script, inputs, protected)
        processor = Processor(
            role=self.cloud.role(step),
            image_uri=self.image("processing"),
            instance_count=instance_count,
            instance_type=instance_type,
            entrypoint=["python3", f"{INPUT}/code/entry.py", script],
            env=environment,
            max_runtime_in_seconds=hours * 3600,
            base_job_name=step,
            volume_kms_key=protected.key,
            output_kms_key=protected.key,
            network_config=_network(protected),
            tags=_tags(protected),
            sagemaker_session=self.session,
        )
        return processor.run(
            inputs=[_input(name, address) for name, address in mounted.items()],
            outputs=[_output(name, self.output(step, name)) for name in outputs],
            arguments=list(_command_line(options)),
        )

    def _mounts(
        self, step: Actor, script: str, inputs: Mapping[str, Any], protected: Protection
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Return a job's inputs with its code, and the variables of its environment."""
        mounted = {"code": self.staging.add(step, files_of(script)), **inputs}
        # Processing containers are not told where a reason for failing goes, training containers are.
        environment = {"SM_OUTPUT_DIR": "/opt/ml/output", "AWS_DEFAULT_REGION": self.cloud.region}
        if protected.wheels and wheels.needed(step):
            mounted["wheels"] = self.staging.expect(wheels.address(step, self.settings, self.cloud))
            environment["WHEELS_DIR"] = f"{INPUT}/wheels"
        return mounted, environment

    def deploy_endpoint(self, instance_type: Any, endpoint_instance_type: Any) -> ProcessingStep:
        """Return the step that makes the endpoint serve the newest approved version.

        It is never cached: it looks at the registry and the endpoint, of which an earlier run says nothing.
        """
        arguments = self.processing(
            "deploy.py",
            {
                "model-package-group": self.settings.model_package_group,
                "endpoint-name": self.settings.endpoint,
                "role-arn": self.cloud.role("serve"),
                "instance-type": endpoint_instance_type,
                **_profile(self.settings.deployment, self.cloud),
                **_surroundings(protection.of("serve", self.settings, self.cloud)),
                "capture-uri": f"s3://{self.cloud.bucket}/{self.settings.name}/captured",
                "region": self.cloud.region,
                "output-dir": f"{OUTPUT}/deployment",
            },
            inputs={},
            outputs=["deployment"],
            instance_type=instance_type,
            hours=DEPLOYMENT_HOURS,
        )
        return ProcessingStep("DeployEndpoint", step_args=arguments, retry_policies=RETRIES)

    def training(
        self, hyperparameters: Mapping[str, Any], channels: Mapping[str, Any], instance_type: Any, instance_count: Any
    ) -> Any:
        """Return step arguments for the training job.

        Its checkpoints lie under one prefix whatever the execution, so that a job that was interrupted, or started
        anew, finds what an earlier one left; the script tells runs apart.
        """
        instances = self.settings.instances
        wait = (instances.training_hours + instances.training_spot_wait_hours) * 3600
        # The SDK takes an S3 prefix for a folder only with its slash.
        code = f"{self.staging.add('train', files_of('train.py'))}/"
        protected = protection.of("train", self.settings, self.cloud)
        trainer = StagedTrainer(
            role=self.cloud.role("train"),
            training_image=self.image("training"),
            source_code=SourceCode(source_dir=code, entry_script="train.py"),
            compute=Compute(
                instance_type=instance_type,
                instance_count=instance_count,
                volume_size_in_gb=30,
                volume_kms_key_id=protected.key,
                enable_managed_spot_training=instances.training_spot,
            ),
            stopping_condition=StoppingCondition(
                max_runtime_in_seconds=instances.training_hours * 3600,
                max_wait_time_in_seconds=wait if instances.training_spot else None,
            ),
            checkpoint_config=CheckpointConfig(
                s3_uri=f"s3://{self.cloud.bucket}/{self.settings.name}/checkpoints", local_path=CHECKPOINTS
            ),
            # Of this folder, other than of the channels, SageMaker's environment says nothing.
            environment={"SM_CHECKPOINT_DIR": CHECKPOINTS},
            output_data_config=OutputDataConfig(s3_output_path=self.output("train"), kms_key_id=protected.key),
            networking=_networking(protected),
            tags=[Tag(key=key, value=value) for key, value in protected.tags.items()] or None,
            base_job_name="train",
            hyperparameters=dict(hyperparameters),
            sagemaker_session=self.session,
        ).with_metric_definitions(
            [MetricDefinition(name=name, regex=rf"(?<!\S){name} ([0-9.eE+-]+)") for name in TRAINING_METRICS]
        )
        trainer.keep(self.staging)
        return trainer.train(
            input_data_config=[InputData(channel_name=name, data_source=uri) for name, uri in channels.items()],
        )


class StagedTrainer(ModelTrainer):  # type: ignore[misc]  # the SDK ships no types
    """A ModelTrainer whose own files go under a content hash.

    The SDK uploads its driver scripts under a prefix with a time stamp, so that no two definitions are alike and the
    step's cache never answers.
    """

    _staging: Staging | None = None

    def keep(self, staging: Staging) -> None:
        """Say where local files are to be staged."""
        self._staging = staging

    def create_input_data_channel(self, channel_name: str, data_source: Any, **kwargs: Any) -> Any:
        """Make a channel; a local folder is staged under the hash of its content instead of being uploaded."""
        if isinstance(data_source, str) and not data_source.startswith("s3://") and self._staging is not None:
            data_source = self._staging.add(f"train-{channel_name}", read_folder(Path(data_source)))
        return super().create_input_data_channel(channel_name, data_source, **kwargs)


def _profile(deployment: Deployment, cloud: Cloud) -> dict[str, str]:
    """Return the chosen profile as options; one that is empty is left to the script."""
    topic = deployment.alarm_topic_arn or cloud.outputs.get("AlertTopicArn", "")
    values = {**asdict(deployment.chosen), "alarm_topic_arn": topic}
    return {name.replace("_", "-"): str(value) for name, value in values.items() if value != ""}


def _surroundings(protected: Protection) -> dict[str, Any]:
    """Return what protects the model as options."""
    given = {
        "subnet": protected.subnets,
        "security-group": protected.security_groups,
        "kms-key": protected.key,
        "tag": [f"{key}={value}" for key, value in protected.tags.items()],
    }
    return {name: value for name, value in given.items() if value}


def _network(protected: Protection) -> NetworkConfig | None:
    if not protected.isolated and not protected.subnets:
        return None
    return NetworkConfig(protected.isolated, protected.security_groups or None, protected.subnets or None)


def _networking(protected: Protection) -> Networking | None:
    if not protected.isolated and not protected.subnets:
        return None
    return Networking(
        enable_network_isolation=protected.isolated,
        security_group_ids=protected.security_groups or None,
        subnets=protected.subnets or None,
    )


def _tags(protected: Protection) -> list[dict[str, str]] | None:
    return [{"Key": key, "Value": value} for key, value in protected.tags.items()] or None


def _command_line(options: Mapping[str, Any]) -> Iterator[Any]:
    for name, value in options.items():
        for single in value if isinstance(value, list) else [value]:
            yield f"--{name}"
            # Arguments are text, and a numeric parameter is none until the definition says so.
            yield single.to_string() if isinstance(single, ParameterInteger | ParameterFloat) else single


def _input(name: str, given: Any) -> ProcessingInput:
    address, distribution = given, "FullyReplicated"
    if isinstance(given, Shared):
        address, distribution = given.address, "ShardedByS3Key"
    return ProcessingInput(
        input_name=name,
        s3_input=ProcessingS3Input(
            s3_uri=address,
            local_path=f"{INPUT}/{name}",
            s3_data_type="S3Prefix",
            s3_input_mode="File",
            s3_data_distribution_type=distribution,
        ),
    )


def _output(name: str, address: Any) -> ProcessingOutput:
    return ProcessingOutput(
        output_name=name,
        s3_output=ProcessingS3Output(s3_uri=address, local_path=f"{OUTPUT}/{name}", s3_upload_mode="EndOfJob"),
    )
