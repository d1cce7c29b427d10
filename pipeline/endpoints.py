"""The endpoint: describe, watch, ask, delete."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from pipeline import registry
from pipeline.clouds import Cloud

PROVEN = "Proven"
"""The tag by which deployment says that an endpoint configuration answered its golden pictures right."""


class EndpointError(Exception):
    """An endpoint that does not exist or refuses; the text is one line."""


@dataclass(frozen=True)
class Answer:
    """What the endpoint says of one picture."""

    class_id: int
    class_name: str
    probability: float
    top: tuple[tuple[str, float], ...]
    """The five most probable classes, name and probability."""


def describe(cloud: Cloud, name: str) -> dict[str, Any]:
    """Return the endpoint's description with the version that it serves.

    Raises ``EndpointError`` when there is none.
    """
    sagemaker = cloud.client("sagemaker")
    try:
        described: dict[str, Any] = sagemaker.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if "Could not find" in str(error):
            raise EndpointError(f"there is no endpoint {name}: approve a model, or start a run as approved") from error
        raise
    described.pop("ResponseMetadata")
    described["ModelPackageArn"] = _served(sagemaker, described["EndpointConfigName"])
    return described


def live(cloud: Cloud, name: str) -> str:
    """Return the ARN of the version that serves. Raises ``EndpointError`` when none does."""
    arn = str(describe(cloud, name)["ModelPackageArn"])
    if not arn:
        raise EndpointError(f"endpoint {name} serves a model that is in no registry: nothing can be rejected")
    return arn


def watch(cloud: Cloud, name: str, seconds: float) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the endpoint's description and its state in words whenever they change, until it has settled.

    Looks every few ``seconds``. Raises ``EndpointError`` when there is none.
    """
    said = ""
    while True:
        described = describe(cloud, name)
        state = _in_words(described)
        if state != said:
            yield described, state
            said = state
        if described["EndpointStatus"] in ("InService", "Failed", "UpdateRollbackFailed"):
            return
        time.sleep(seconds)


def until_served(cloud: Cloud, name: str, arn: str, seconds: float, limit: float) -> Iterator[str]:
    """Yield what happens in words whenever it changes, until the endpoint serves a version that has proved itself.

    Looks every few ``seconds``. Raises ``EndpointError`` when the version is no longer approved, with the reason, when
    a newer one is, which is what deployment goes for, or when it does not serve within ``limit`` seconds.
    """
    sagemaker, deadline, said = cloud.client("sagemaker"), time.monotonic() + limit, ""
    while True:
        described = _described(cloud, name)
        state = _in_words(described) if described else f"there is no endpoint {name} yet"
        if state != said:
            yield state
            said = state
        # In service is also what is about to be turned down: golden pictures can be sent to nothing else.
        if described and _serves(described, arn) and _proven(sagemaker, described["EndpointConfigName"]):
            return
        package = sagemaker.describe_model_package(ModelPackageName=arn)
        if package["ModelApprovalStatus"] != "Approved":
            reason = package.get("ApprovalDescription") or "no reason is given"
            raise EndpointError(f"{arn} is {package['ModelApprovalStatus']}: {reason}")
        newest = registry.newest_approved(cloud, package["ModelPackageGroupName"])
        if newest is not None and newest.number > package["ModelPackageVersion"]:
            raise EndpointError(f"version {newest.number} is approved too, and newer: it is to serve instead")
        if time.monotonic() > deadline:
            raise EndpointError(f"{arn} does not serve after {limit:.0f} s; last: {state}")
        time.sleep(seconds)


def _serves(described: dict[str, Any], arn: str) -> bool:
    return (described["EndpointStatus"], described["ModelPackageArn"]) == ("InService", arn)


def _proven(sagemaker: Any, config: str) -> bool:
    arn = sagemaker.describe_endpoint_config(EndpointConfigName=config)["EndpointConfigArn"]
    return any(tag["Key"] == PROVEN for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"])


def _described(cloud: Cloud, name: str) -> dict[str, Any] | None:
    try:
        return describe(cloud, name)
    except EndpointError:
        return None


def _in_words(described: dict[str, Any]) -> str:
    """Say what an endpoint does: its status, and what an update of it is about."""
    pending = described.get("PendingDeploymentSummary")
    if not pending:
        return f"{described['EndpointStatus']}: {described['EndpointConfigName']}"
    variants = pending.get("ProductionVariants", [])
    steps = {step["Status"] for variant in variants for step in variant.get("VariantStatus", [])}
    return f"{described['EndpointStatus']}: {pending['EndpointConfigName']} {', '.join(sorted(steps))}".rstrip()


def _served(sagemaker: Any, config: str) -> str:
    variant = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"][0]
    model = sagemaker.describe_model(ModelName=variant["ModelName"])
    container = model.get("PrimaryContainer") or model["Containers"][0]
    return str(container.get("ModelPackageName", ""))


def delete(cloud: Cloud, name: str) -> None:
    """Delete the endpoint; models and configurations stay. Raises ``EndpointError`` when there is none."""
    try:
        cloud.client("sagemaker").delete_endpoint(EndpointName=name)
    except ClientError as error:
        if "Could not find" in str(error):
            raise EndpointError(f"there is no endpoint {name}") from error
        raise


def ask(cloud: Cloud, name: str, picture: Path) -> Answer:
    """Send a PNG or JPEG file to the endpoint.

    Raises ``EndpointError`` for a file that cannot be read, an endpoint that does not exist, or a picture that the
    model refuses, with the model's own reason.
    """
    try:
        body = picture.read_bytes()
    except OSError as error:
        raise EndpointError(f"{picture}: {error.strerror}") from error
    runtime = cloud.client("sagemaker-runtime")
    try:
        answer = runtime.invoke_endpoint(EndpointName=name, ContentType="application/octet-stream", Body=body)
    except runtime.exceptions.ModelError as error:
        said = error.response.get("OriginalMessage", str(error))
        raise EndpointError(f"{picture}: the model refuses it: {said}") from error
    except ClientError as error:
        raise EndpointError(f"endpoint {name} does not answer: {error.response['Error']['Message']}") from error
    first = json.loads(answer["Body"].read())["predictions"][0]
    top = tuple((entry["class_name"], entry["probability"]) for entry in first["top"])
    return Answer(first["class_id"], first["class_name"], first["probability"], top)
