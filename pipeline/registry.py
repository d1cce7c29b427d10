"""The model registry: its versions, what evaluation wrote about them, and their archives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from pipeline import objects
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
    """Who approved or rejected it, when and why; the latest first."""
    properties: dict[str, str]
    model: str
    """S3 address of its archive."""
    statistics: str
    """S3 address of its evaluation."""

    @property
    def execution(self) -> str:
        """ARN of the pipeline execution that made it, or nothing where that was not written down."""
        return self.properties.get("Execution", "")

    @property
    def report(self) -> str:
        """S3 address of its report, or nothing."""
        return self.properties.get("Report", "")


def versions(cloud: Cloud, group: str) -> list[Version]:
    """Return all versions of a group, newest first; none where the group does not exist yet."""
    sagemaker = cloud.client("sagemaker")
    return [_describe(sagemaker, arn) for arn in _arns(sagemaker, group).values()]


def version(cloud: Cloud, group: str, number: int) -> Version:
    """Return one version. Raises ``RegistryError`` when there is none with that number."""
    sagemaker = cloud.client("sagemaker")
    found = _arns(sagemaker, group)
    if number in found:
        return _describe(sagemaker, found[number])
    there = ", ".join(map(str, sorted(found))) or "none"
    raise RegistryError(f"{group} has no version {number} (there: {there})")


def newest_approved(cloud: Cloud, group: str, but: int | None = None) -> Version | None:
    """Return the newest approved version; with ``but``, the one that would serve without the version of that number."""
    sagemaker = cloud.client("sagemaker")
    approved = _arns(sagemaker, group, ModelApprovalStatus="Approved")
    arn = next((arn for number, arn in approved.items() if number != but), None)
    return None if arn is None else _describe(sagemaker, arn)


def approved(cloud: Cloud, group: str) -> Version:
    """Return the newest approved version. Raises ``RegistryError`` when there is none."""
    if (found := newest_approved(cloud, group)) is None:
        raise RegistryError(
            f"{group} has no approved version: run `signs run`, or approve one with `signs models approve`"
        )
    return found


def by_arn(cloud: Cloud, arn: str) -> Version:
    """Return the version with that ARN."""
    return _describe(cloud.client("sagemaker"), arn)


def _arns(sagemaker: Any, group: str, **filters: str) -> dict[int, str]:
    """Return a group's versions by number, newest first; none where the group does not exist yet."""
    request = {"ModelPackageGroupName": group, "ModelPackageType": "Versioned", **filters}
    try:
        pages = list(sagemaker.get_paginator("list_model_packages").paginate(**request))
    except ClientError as error:
        if "does not exist" in str(error):
            return {}
        raise
    found = {int(s["ModelPackageVersion"]): s["ModelPackageArn"] for p in pages for s in p["ModelPackageSummaryList"]}
    return dict(sorted(found.items(), reverse=True))


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


# What lies in S3


def download(cloud: Cloud, found: Version, folder: Path) -> None:
    """Fetch a version's archive as ``model.tar.gz``. Raises ``RegistryError`` when it is gone."""
    _fetch(cloud, found, "model", found.model, folder / "model.tar.gz")


def report(cloud: Cloud, found: Version, folder: Path) -> Path:
    """Fetch a version's report into a folder and return the file. Raises ``RegistryError`` when it is gone."""
    if not found.report:
        raise RegistryError(f"version {found.number} was registered without a report")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / Path(objects.split(found.report)[1]).name
    _fetch(cloud, found, "report", found.report, target)
    return target


def _fetch(cloud: Cloud, found: Version, what: str, address: str, target: Path) -> None:
    bucket, key = objects.split(address)
    try:
        cloud.client("s3").download_file(bucket, key, str(target))
    except ClientError as error:
        raise RegistryError(f"the {what} of version {found.number} cannot be read: {address}: {error}") from error


def evaluation(cloud: Cloud, found: Version) -> dict[str, Any]:
    """Read a version's evaluation.

    Raises ``RegistryError`` when it has none, when that is gone, or when it is not what evaluation writes.
    """
    if not found.statistics:
        raise RegistryError(f"version {found.number} was registered without an evaluation")
    return evaluation_at(cloud, found.statistics, f"version {found.number}")


def evaluation_at(cloud: Cloud, address: str, whose: str) -> dict[str, Any]:
    """Read the ``evaluation.json`` at an S3 address. Raises ``RegistryError`` as ``evaluation`` does."""
    bucket, key = objects.split(address)
    try:
        body = cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        content = json.loads(body)
        _check(content)
    except (ClientError, ValueError) as error:
        raise RegistryError(f"the evaluation of {whose} cannot be read: {address}: {error}") from error
    return dict(content)


def _check(content: Any) -> None:
    """Raise ``ValueError`` unless this is an evaluation, as far as it is read here."""
    if not isinstance(content, Mapping) or not isinstance(content.get("metrics"), Mapping):
        raise ValueError("expected what steps/evaluate.py writes, with metrics")
    for name, value in content["metrics"].items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"the metric {name} is {value!r}: expected a number")
