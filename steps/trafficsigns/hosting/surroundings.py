"""What stands around an endpoint: its alarms, its scaling, and the configurations and models of earlier versions."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from trafficsigns.hosting import requests
from trafficsigns.hosting.target import Target

logger = logging.getLogger(__name__)

PROVEN = "Proven"
"""The tag of an endpoint configuration that says when its golden pictures were last answered right."""


def guard(cloudwatch: Any, target: Target) -> list[str]:
    """Put the endpoint's alarms in place and return those that can guard an update.

    One that is on already would turn every update back, the one that mends its cause too: it is left out.
    """
    wanted = requests.alarms(target)
    for alarm in wanted:
        cloudwatch.put_metric_alarm(**alarm)
    names = [alarm["AlarmName"] for alarm in wanted]
    described = cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"]
    on = {alarm["AlarmName"] for alarm in described if alarm["StateValue"] == "ALARM"}
    for name in sorted(on):
        logger.warning("alarm %s is on already, so it cannot guard this update", name)
    return [name for name in names if name not in on]


def scale(autoscaling: Any, target: Target) -> None:
    """Let the endpoint's variant follow its load between its two sizes, or no longer."""
    if target.scales:
        follow(autoscaling, target, (target.instance_count, target.maximum_instance_count))
    else:
        _unfollow(autoscaling, target)


def follow(autoscaling: Any, target: Target, sizes: tuple[int, int]) -> None:
    """Let the endpoint's variant follow its load between two sizes."""
    bounds = {"MinCapacity": sizes[0], "MaxCapacity": sizes[1]}
    autoscaling.register_scalable_target(**requests.scalable(target), **bounds)
    autoscaling.put_scaling_policy(**requests.scaling_policy(target))


def _unfollow(autoscaling: Any, target: Target) -> tuple[int, int] | None:
    """Let it follow its load no longer, and return between which sizes it did."""
    resource = requests.scalable(target)
    registered = autoscaling.describe_scalable_targets(
        ServiceNamespace=resource["ServiceNamespace"], ResourceIds=[resource["ResourceId"]]
    )
    for found in registered["ScalableTargets"]:
        autoscaling.deregister_scalable_target(**resource)
        return found["MinCapacity"], found["MaxCapacity"]
    return None


def release(sagemaker: Any, autoscaling: Any, target: Target, old: str, new: str) -> tuple[int, int] | None:
    """Let the variant follow its load no longer if a ``new`` configuration has other machines than the ``old`` one.

    SageMaker refuses the update else. Returns between which sizes it did, for ``follow`` when the update comes to
    nothing. Source: developer guide, "Update endpoints that use auto scaling".
    """
    if target.mode == "serverless" or _machines(sagemaker, old) == _machines(sagemaker, new):
        return None
    return _unfollow(autoscaling, target)


def _machines(sagemaker: Any, config: str) -> str | None:
    try:
        variants = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    except ClientError as error:
        # An endpoint serves on from a configuration that somebody has deleted.
        if "Could not find" in str(error):
            return None
        raise
    return next((variant.get("InstanceType") for variant in variants), None)


@dataclass(frozen=True)
class Configuration:
    """One of the endpoint's configurations."""

    name: str
    arn: str
    proven: bool
    moment: datetime
    """When it last proved itself; when it was made, if it never did."""


def configurations(sagemaker: Any, target: Target) -> list[Configuration]:
    """Return the endpoint's configurations, those first that proved themselves or were made last."""
    ours = re.compile(rf"{re.escape(target.endpoint)}-v\d+-[0-9a-f]{{8}}")
    pages = sagemaker.get_paginator("list_endpoint_configs").paginate(NameContains=f"{target.endpoint}-v")
    listed = [each for page in pages for each in page["EndpointConfigs"] if ours.fullmatch(each["EndpointConfigName"])]
    found = [_configuration(sagemaker, each) for each in listed]
    return sorted(found, key=lambda config: config.moment, reverse=True)


def _configuration(sagemaker: Any, listed: dict[str, Any]) -> Configuration:
    name, arn = listed["EndpointConfigName"], listed["EndpointConfigArn"]
    tags = {tag["Key"]: tag["Value"] for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]}
    moment = datetime.fromisoformat(tags[PROVEN]) if PROVEN in tags else listed["CreationTime"]
    return Configuration(name, arn, PROVEN in tags, moment)


def mark_proven(sagemaker: Any, config: str) -> None:
    """Write down that a configuration has proved itself now."""
    arn = sagemaker.describe_endpoint_config(EndpointConfigName=config)["EndpointConfigArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": PROVEN, "Value": datetime.now(UTC).isoformat()}])


def prune(sagemaker: Any, target: Target, serving: str) -> list[str]:
    """Delete the endpoint's oldest configurations and their models; return their names.

    The one that serves stays, and as many of the others as ``target.keep`` says, by when they proved themselves. What
    somebody else deletes at the same time is deleted.
    """
    others = [config.name for config in configurations(sagemaker, target) if config.name != serving]
    for name in others[target.keep :]:
        _unless_gone(sagemaker.delete_endpoint_config, EndpointConfigName=name)
        _unless_gone(sagemaker.delete_model, ModelName=name)
    return others[target.keep :]


def _unless_gone(delete: Any, **arguments: str) -> None:
    try:
        delete(**arguments)
    except ClientError as error:
        if "Could not find" not in str(error):
            raise
