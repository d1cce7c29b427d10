"""Builds pipeline definitions and sends them: the only module through which commands meet the SageMaker SDK.

The SDK takes seconds to import, so it is imported where a definition is really needed.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from botocore.exceptions import ClientError

from pipeline import datasets, wheels
from pipeline.changes import Change, compare
from pipeline.clouds import Cloud
from pipeline.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.code import Staging

TELEMETRY_OFF = {
    "SchemaVersion": "1.0",
    "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}},
}
"""The SDK's defaults; without any it would read files of the machine, which no definition should depend on."""


@dataclass(frozen=True)
class Built:
    """Definitions that have been sent nowhere yet."""

    texts: Mapping[str, str]
    """JSON, by the pipeline's name."""
    staging: Staging
    """The code that they refer to."""


def changes(built: Built, cloud: Cloud) -> dict[str, list[Change]]:
    """Return what sending the definitions would change, by the pipeline's name; it changes nothing."""
    return {name: compare(current(cloud, name), text) for name, text in built.texts.items()}


def send(built: Built, settings: Settings, cloud: Cloud) -> dict[str, int]:
    """Create or update the pipelines, their code and the registry group, and return the pipelines' versions by ARN.

    Raises ``WheelsError`` where a job without a network would not find what it needs.
    """
    wheels.require(cloud, built.staging.expected)
    built.staging.upload(cloud.client("s3"))
    datasets.mark_absence(settings, cloud)
    _ensure_group(settings, cloud)
    return dict(put(settings, cloud, name, text) for name, text in built.texts.items())


def upsert(settings: Settings, cloud: Cloud) -> dict[str, int]:
    """Build the definitions and send them, in one."""
    return send(build(settings, cloud), settings, cloud)


def render(settings: Settings, cloud: Cloud) -> dict[str, str]:
    """Return the pipelines' definitions by name, as indented JSON; nothing is sent anywhere."""
    return {name: json.dumps(json.loads(text), indent=2) for name, text in build(settings, cloud).texts.items()}


def build(settings: Settings, cloud: Cloud) -> Built:
    """Build the pipelines' definitions; nothing is sent anywhere."""
    # The SDK makes clients at import, and fails without a region.
    os.environ.setdefault("AWS_DEFAULT_REGION", cloud.region)
    # Its check of the role asks IAM for a simulation, which few may call and no definition depends on.
    os.environ.setdefault("SAGEMAKER_VALIDATE_ROLE", "false")
    with _quiet():
        from pipeline import deployment, training
        from pipeline.components import Workshop

        with _unchecked_defaults():
            workshop = Workshop.open(settings, cloud, TELEMETRY_OFF)
            pipelines = [training.build(workshop), deployment.build(workshop)]
            return Built({pipeline.name: pipeline.definition() for pipeline in pipelines}, workshop.staging)


@contextmanager
def _unchecked_defaults() -> Iterator[None]:
    """Keep the SDK from validating its defaults, a constant of ours, against their schema at each of 90 look-ups.

    Each one checks the schema itself first: ten of the twelve seconds that building would take.
    """
    from sagemaker.core.config.config_manager import SageMakerConfig

    validate = SageMakerConfig.__dict__["validate_sagemaker_config"]
    SageMakerConfig.validate_sagemaker_config(TELEMETRY_OFF)
    SageMakerConfig.validate_sagemaker_config = staticmethod(lambda sagemaker_config=None: None)
    try:
        yield
    finally:
        SageMakerConfig.validate_sagemaker_config = validate


def current(cloud: Cloud, name: str, version: int | None = None) -> str | None:
    """Return a pipeline's definition, as it was upserted last or a ``version`` of it; ``None`` where there is none."""
    wanted = {} if version is None else {"PipelineVersionId": version}
    try:
        described = cloud.client("sagemaker").describe_pipeline(PipelineName=name, **wanted)
        return str(described["PipelineDefinition"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFound":
            raise
        return None


def put(settings: Settings, cloud: Cloud, name: str, text: str) -> tuple[str, int]:
    """Create or update one pipeline, whose code lies in S3 already, and return its ARN and its version's number."""
    sagemaker = cloud.client("sagemaker")
    request = {"PipelineName": name, "PipelineDefinition": text, "RoleArn": cloud.role_arn}
    try:
        updated = sagemaker.update_pipeline(**request)
        arn, version = updated["PipelineArn"], updated["PipelineVersionId"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFound":
            raise
        arn, version = sagemaker.create_pipeline(**request, ClientRequestToken=uuid4().hex)["PipelineArn"], 1
    if tags := [{"Key": key, "Value": value} for key, value in settings.tags.items()]:
        sagemaker.add_tags(ResourceArn=arn, Tags=tags)
    return str(arn), int(version)


def _ensure_group(settings: Settings, cloud: Cloud) -> None:
    sagemaker = cloud.client("sagemaker")
    pages = sagemaker.get_paginator("list_model_package_groups").paginate(NameContains=settings.model_package_group)
    names = {group["ModelPackageGroupName"] for page in pages for group in page["ModelPackageGroupSummaryList"]}
    if settings.model_package_group not in names:
        sagemaker.create_model_package_group(
            ModelPackageGroupName=settings.model_package_group,
            ModelPackageGroupDescription="Traffic sign classifiers that passed the quality gate",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the SDK from explaining, for every step, that building a pipeline starts no job."""
    # Its loggers set levels and handlers of their own at import, so only the switch for all of them helps.
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
