"""Builds pipeline definitions and sends them: the only module through which commands meet the SageMaker SDK.

The SDK takes seconds to import, so it is imported where a definition is really needed.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.clouds import Cloud
from pipeline.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.code import Staging


def render(settings: Settings, cloud: Cloud) -> str:
    """Return the training pipeline's definition as indented JSON; nothing is sent anywhere."""
    definition, _, _ = _build(settings, cloud)
    return json.dumps(json.loads(definition), indent=2)


def upsert(settings: Settings, cloud: Cloud) -> str:
    """Create or update the training pipeline, its code and the registry group, and return the pipeline's ARN."""
    definition, staging, pipeline = _build(settings, cloud)
    staging.upload(cloud.client("s3"))
    _ensure_group(settings, cloud)
    with _quiet():
        # Not pipeline.definition() once more: what is sent is what was built and staged.
        pipeline.definition = lambda: definition
        answer = pipeline.upsert(role_arn=cloud.role_arn)
    return str(answer["PipelineArn"])


def _build(settings: Settings, cloud: Cloud) -> tuple[str, Staging, Any]:
    # The SDK makes clients at import, and fails without a region.
    os.environ.setdefault("AWS_DEFAULT_REGION", cloud.region)
    # Its check of the role asks IAM for a simulation, which few may call and no definition depends on.
    os.environ.setdefault("SAGEMAKER_VALIDATE_ROLE", "false")
    with _quiet():
        from pipeline.components import Workshop
        from pipeline.training import build

        workshop = Workshop.open(settings, cloud)
        pipeline = build(workshop)
        return pipeline.definition(), workshop.staging, pipeline


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
