"""The model registry: list, show, approve and reject versions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlparse

from botocore.exceptions import ClientError

from pipeline.clouds import Cloud


class RegistryError(Exception):
    """A version that does not exist or cannot be changed; the text is one line."""


@dataclass(frozen=True)
class Version:
    """One registered version."""

    number: int
    arn: str
    status: str
    created: datetime
    description: str
    properties: dict[str, str]
    model: str
    """S3 address of its archive."""
    statistics: str
    """S3 address of its evaluation."""


def versions(cloud: Cloud, group: str) -> list[Version]:
    """Return all versions of a group, newest first; none where the group does not exist yet."""
    sagemaker = cloud.client("sagemaker")
    try:
        pages = list(
            sagemaker.get_paginator("list_model_packages").paginate(
                ModelPackageGroupName=group, ModelPackageType="Versioned"
            )
        )
    except ClientError as error:
        if "does not exist" in str(error):
            return []
        raise
    found = [
        _describe(sagemaker, item["ModelPackageArn"]) for page in pages for item in page["ModelPackageSummaryList"]
    ]
    return sorted(found, key=lambda version: version.number, reverse=True)


def version(cloud: Cloud, group: str, number: int) -> Version:
    """Return one version. Raises ``RegistryError`` when there is none with that number."""
    found = versions(cloud, group)
    for candidate in found:
        if candidate.number == number:
            return candidate
    there = ", ".join(str(candidate.number) for candidate in reversed(found)) or "none"
    raise RegistryError(f"{group} has no version {number} (there: {there})")


def newest_approved(cloud: Cloud, group: str, but: int | None = None) -> Version | None:
    """Return the newest approved version, which is what should serve; beside the one with number ``but``, if given."""
    approved = [each for each in versions(cloud, group) if each.status == "Approved" and each.number != but]
    return approved[0] if approved else None


def by_arn(cloud: Cloud, arn: str) -> Version:
    """Return the version with that ARN."""
    return _describe(cloud.client("sagemaker"), arn)


def _describe(sagemaker: Any, arn: str) -> Version:
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    metrics = package.get("ModelMetrics", {}).get("ModelQuality", {}).get("Statistics", {})
    return Version(
        package["ModelPackageVersion"],
        arn,
        package["ModelApprovalStatus"],
        package["CreationTime"],
        package.get("ApprovalDescription", ""),
        package.get("CustomerMetadataProperties", {}),
        package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"],
        metrics.get("S3Uri", ""),
    )


def evaluation(cloud: Cloud, found: Version) -> dict[str, Any]:
    """Read a version's evaluation. Raises ``RegistryError`` when it is gone or no JSON."""
    parsed = urlparse(found.statistics)
    try:
        body = cloud.client("s3").get_object(Bucket=parsed.netloc, Key=parsed.path.lstrip("/"))["Body"].read()
        content: dict[str, Any] = json.loads(body)
    except (ClientError, ValueError) as error:
        raise RegistryError(
            f"the evaluation of version {found.number} cannot be read: {found.statistics}: {error}"
        ) from error
    return content


def decide(cloud: Cloud, found: Version, status: str, reason: str) -> None:
    """Set a version's approval status, ``Approved`` or ``Rejected``, and keep the reason."""
    cloud.client("sagemaker").update_model_package(
        ModelPackageArn=found.arn, ModelApprovalStatus=status, ApprovalDescription=reason[:1024]
    )
