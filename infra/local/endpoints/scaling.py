"""Application Auto Scaling for variants: as many instances as keep the invocations of each near a target.

Targets and policies are moto's; here they are followed. Source: developer guide, "Automatic scaling of Amazon SageMaker
AI models"; Application Auto Scaling user guide, "Target tracking scaling policies": out after three minutes above the
target, in after fifteen below nine tenths of it, and neither within its cool-down.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from infra.local.clock import Clock

logger = logging.getLogger(__name__)

METRIC = "SageMakerVariantInvocationsPerInstance"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
OUT_MINUTES, IN_MINUTES = 3, 15
IN_SHARE = 0.9
COOLDOWN_SECONDS = 300
"""What a policy that names no cool-down has."""


@dataclass(frozen=True)
class Target:
    """A variant that is scaled, between which bounds and by which policy."""

    endpoint: str
    variant: str
    minimum: int
    maximum: int
    invocations: float
    """Invocations that one instance should have in a minute."""
    cooldown_out: float
    cooldown_in: float


def desired(target: Target, count: int, minutes: Sequence[float], since: float) -> int:
    """Return how many instances a variant of ``count`` should have. Pure.

    ``minutes`` are its invocations per instance in each of AWS's latest minutes, the newest last; ``since`` is AWS's
    time since it was scaled last, in seconds.
    """
    bounded = min(max(count, target.minimum), target.maximum)
    if bounded != count:
        return bounded
    recent, quiet = minutes[-OUT_MINUTES:], minutes[-IN_MINUTES:]
    if len(recent) == OUT_MINUTES and min(recent) > target.invocations and since >= target.cooldown_out:
        return min(math.ceil(count * recent[-1] / target.invocations), target.maximum)
    calm = len(quiet) == IN_MINUTES and max(quiet) < IN_SHARE * target.invocations
    if calm and since >= target.cooldown_in:
        return max(math.ceil(count * max(quiet) / target.invocations), target.minimum)
    return count


Minutes = Callable[[str, str], list[float]]
"""Answers the invocations per instance of an endpoint's variant in each of AWS's latest ``IN_MINUTES`` minutes."""


class Variants(Protocol):
    """What is scaled."""

    def count(self, endpoint: str, variant: str) -> int | None:
        """Return how many instances a variant has; ``None`` while it cannot be scaled."""

    def resize(self, endpoint: str, variant: str, count: int) -> None:
        """Begin to give a variant so many instances."""


class Scaling:
    """Follows the scaling policies of all variants."""

    def __init__(self, client: Callable[[str], Any], clock: Clock, minutes: Minutes, variants: Variants) -> None:
        self._client, self._clock, self._minutes, self._variants = client, clock, minutes, variants
        self._scaled: dict[tuple[str, str], float] = {}

    def follow(self) -> None:
        """Scale what its policy asks to."""
        for target in self._targets():
            count = self._variants.count(target.endpoint, target.variant)
            if count is None:
                continue
            last = self._scaled.get((target.endpoint, target.variant), -math.inf)
            since = (time.monotonic() - last) * self._clock.speed
            wanted = desired(target, count, self._minutes(target.endpoint, target.variant), since)
            if wanted != count:
                logger.info("%s/%s is scaled from %d to %d instances", target.endpoint, target.variant, count, wanted)
                self._scaled[target.endpoint, target.variant] = time.monotonic()
                self._variants.resize(target.endpoint, target.variant, wanted)

    def _targets(self) -> list[Target]:
        client = self._client("application-autoscaling")
        bounds = {
            target["ResourceId"]: target
            for target in client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
            if target["ScalableDimension"] == DIMENSION
        }
        if not bounds:
            return []
        policies = client.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
        return [
            _target(bounds[policy["ResourceId"]], policy["TargetTrackingScalingPolicyConfiguration"])
            for policy in policies
            if policy["ResourceId"] in bounds and _tracked(policy) == METRIC
        ]


def registered(client: Callable[[str], Any], endpoint: str) -> set[str]:
    """Return the variants of an endpoint that are scaled."""
    return {target["ResourceId"].split("/")[3] for target in _of(client("application-autoscaling"), endpoint)}


def deregister(client: Callable[[str], Any], endpoint: str) -> None:
    """Scale the variants of an endpoint no longer, as SageMaker sees to when it is deleted."""
    autoscaling = client("application-autoscaling")
    for target in _of(autoscaling, endpoint):
        where = {key: target[key] for key in ("ServiceNamespace", "ResourceId", "ScalableDimension")}
        autoscaling.deregister_scalable_target(**where)


def _of(autoscaling: Any, endpoint: str) -> list[dict[str, Any]]:
    found = autoscaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    return [target for target in found if target["ResourceId"].startswith(f"endpoint/{endpoint}/variant/")]


def _tracked(policy: dict[str, Any]) -> str | None:
    configuration = policy.get("TargetTrackingScalingPolicyConfiguration", {})
    metric: str | None = configuration.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType")
    return metric


def _target(bounds: dict[str, Any], policy: dict[str, Any]) -> Target:
    _, endpoint, _, variant = bounds["ResourceId"].split("/")
    return Target(
        endpoint,
        variant,
        bounds["MinCapacity"],
        bounds["MaxCapacity"],
        policy["TargetValue"],
        policy.get("ScaleOutCooldown", COOLDOWN_SECONDS),
        policy.get("ScaleInCooldown", COOLDOWN_SECONDS),
    )
