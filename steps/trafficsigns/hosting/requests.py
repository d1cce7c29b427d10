"""The requests to AWS that bring an endpoint about. Pure.

Sources: SageMaker API reference, CreateEndpointConfig and DeploymentConfig; developer guide, "Deployment guardrails for
updating models in production" and "Automatic scaling of Amazon SageMaker AI models".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Any

from trafficsigns.hosting.target import VARIANT, Target

Request = dict[str, Any]


def name(target: Target, package: Request) -> str:
    """Return the name of a version's model and endpoint configuration.

    Both can never be changed, so their name carries all that they are made of.
    """
    made_of = [package["ModelPackageArn"], target.role_arn, configuration(target, "")]
    if network := _network(target):
        made_of.append(network)
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:8]
    return f"{target.endpoint}-v{package['ModelPackageVersion']}-{digest}"


def model(target: Target, package: Request, called: str) -> Request:
    """Return the CreateModel request for a version."""
    container = {"ModelPackageName": package["ModelPackageArn"]}
    named = {"ModelName": called, "ExecutionRoleArn": target.role_arn, "PrimaryContainer": container}
    return {**named, **_network(target), **tags(target)}


def _network(target: Target) -> Request:
    """Return what a model may reach, as far as it is bounded. A serverless one runs in no network of ours."""
    if target.mode == "serverless" or not target.subnet:
        return {}
    return {"VpcConfig": {"Subnets": list(target.subnet), "SecurityGroupIds": list(target.security_group)}}


def tags(target: Target) -> Request:
    """Return the tags of whatever is created, if there are any."""
    listed = [dict(zip(("Key", "Value"), tag.split("=", 1), strict=True)) for tag in target.tag]
    return {"Tags": listed} if listed else {}


def configuration(target: Target, called: str) -> Request:
    """Return the CreateEndpointConfig request for a model of that name."""
    variant: Request = {"VariantName": VARIANT, "ModelName": called, "InitialVariantWeight": 1.0}
    if target.mode == "serverless":
        serverless = {"MemorySizeInMB": target.memory_mb, "MaxConcurrency": target.maximum_concurrency}
        variants = [{**variant, "ServerlessConfig": serverless}]
        return {"EndpointConfigName": called, "ProductionVariants": variants}
    variant |= {"InstanceType": target.instance_type, "InitialInstanceCount": target.instance_count}
    capture = {"DataCaptureConfig": _capture(target)} if target.capture_percentage else {}
    return {"EndpointConfigName": called, "ProductionVariants": [variant], **_key(target), **capture}


def _key(target: Target) -> Request:
    return {"KmsKeyId": target.kms_key} if target.kms_key else {}


def _capture(target: Target) -> Request:
    return {
        "EnableCapture": True,
        "InitialSamplingPercentage": target.capture_percentage,
        "DestinationS3Uri": target.capture_uri,
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
        **_key(target),
    }


def update(target: Target, alarms: Collection[str]) -> Request:
    """Return what an UpdateEndpoint request says beside the names: how traffic moves, and what sends it back.

    It is sent whole every time, since an update keeps nothing of an earlier one's. Serverless endpoints take none.
    """
    if target.mode == "serverless":
        return {}
    routing: Request = {
        "Type": target.traffic.upper().replace("-", "_"),
        "WaitIntervalInSeconds": target.bake_seconds,
    }
    size = {"Type": "CAPACITY_PERCENT", "Value": target.step_percentage}
    if target.traffic == "canary":
        routing["CanarySize"] = size
    if target.traffic == "linear":
        routing["LinearStepSize"] = size
    policy = {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": target.bake_seconds}
    deployment: Request = {"BlueGreenUpdatePolicy": policy}
    if alarms:
        deployment["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": alarm} for alarm in alarms]}
    return {"DeploymentConfig": deployment, **way_back(target)}


def way_back(target: Target) -> Request:
    """Return what an UpdateEndpoint request to an earlier configuration says: no bake times, so at once.

    What it does say is true of every update: an endpoint that has grown keeps its size, and does not shrink to its
    first one in the middle of the day.
    """
    return {"RetainAllVariantProperties": True} if target.scales else {}


def alarms(target: Target) -> list[Request]:
    """Return the PutMetricAlarm requests for the alarms that guard an update, and stand guard after it."""
    common: Request = {
        "Namespace": "AWS/SageMaker",
        "Dimensions": [
            {"Name": "EndpointName", "Value": target.endpoint},
            {"Name": "VariantName", "Value": VARIANT},
        ],
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        # An endpoint that nobody asks sends nothing.
        "TreatMissingData": "notBreaching",
        "ActionsEnabled": True,
        "AlarmActions": [target.alarm_topic_arn] if target.alarm_topic_arn else [],
    }
    return [
        {
            **common,
            "AlarmName": target.errors_alarm,
            "AlarmDescription": f"Share of requests to {target.endpoint} that end in an error of the server",
            "MetricName": "Invocation5XXErrors",
            "Threshold": target.maximum_error_rate,
        },
        {
            **common,
            "AlarmName": target.latency_alarm,
            "AlarmDescription": f"Mean microseconds that the model of {target.endpoint} takes for an answer",
            "MetricName": "ModelLatency",
            "Threshold": target.maximum_latency_ms * 1000.0,
        },
    ]


def scalable(target: Target) -> Request:
    """Return what Application Auto Scaling calls the endpoint's variant."""
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{target.endpoint}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def scaling_policy(target: Target) -> Request:
    """Return the PutScalingPolicy request: as many instances as keep their invocations near a number."""
    return {
        **scalable(target),
        "PolicyName": f"{target.endpoint}-invocations",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": float(target.invocations_per_instance),
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
            "ScaleOutCooldown": 60,
            "ScaleInCooldown": 300,
        },
    }
