"""What protects a job and the model: network, key and tags, from the settings and from what the stacks made."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.clouds import Cloud, CloudError
from pipeline.settings import Settings

ISOLATED = ("validate", "train", "evaluate")
"""The jobs that call nobody, by their scripts: preprocessing and deployment do."""


@dataclass(frozen=True)
class Protection:
    """Of one job, or of the model."""

    isolated: bool
    """Whether its container reaches no network at all; SageMaker itself brings inputs and takes outputs away."""
    subnets: list[str]
    """That it runs in; empty: a network of SageMaker's."""
    security_groups: list[str]
    key: str | None
    """ARN of the KMS key for volumes and outputs; ``None``: keys of AWS's own."""
    tags: dict[str, str]
    wheels: bool
    """Whether what the image lacks comes from the bucket, because no package index is within reach."""


def of(step: str, settings: Settings, cloud: Cloud) -> Protection:
    """Return what protects a job, by its script's name.

    Raises ``CloudError`` for what the settings ask for and no stack has made yet.
    """
    network = settings.network
    subnets = list(network.subnets) or (_made(cloud, "Subnets", "[network] own") if network.own else [])
    groups = list(network.security_groups) or (_made(cloud, "SecurityGroups", "[network] own") if network.own else [])
    key = _made(cloud, "KeyArn", '[aws] encryption = "KMS"')[0] if settings.aws.encryption == "KMS" else None
    isolated = network.isolated and step in ISOLATED
    # An image of one's own holds what AWS's lacks.
    wheels = (isolated or network.own or network.offline) and not settings.images.training_uri
    return Protection(isolated, subnets, groups, key, settings.tags, wheels)


def _made(cloud: Cloud, output: str, wanted: str) -> list[str]:
    if not (found := cloud.listed(output)):
        raise CloudError(f"{wanted} in settings.toml needs what no stack has made yet: run `signs infra deploy`")
    return found
