"""Parts of definitions, worded as the SageMaker SDK writes them, and how such a one is run once more."""

from __future__ import annotations

from typing import Any

from embedded_cloud import CLUSTER, ROLE, Cloud, Run

CODE = "/opt/ml/processing/input/code"
RETRIES = [
    {
        "BackoffRate": 1.5,
        "IntervalSeconds": 2,
        "ExpireAfterMin": 5,
        "ExceptionType": ["SageMaker.RESOURCE_LIMIT", "SageMaker.JOB_INTERNAL_ERROR", "SageMaker.CAPACITY_ERROR"],
    },
    {"BackoffRate": 2.0, "IntervalSeconds": 1, "MaxAttempts": 3, "ExceptionType": ["Step.THROTTLING"]},
]
CACHE = {"Enabled": True, "ExpireAfter": "P30d"}


def get(reference: str) -> dict[str, Any]:
    return {"Get": reference}


def join(on: str, *values: Any) -> dict[str, Any]:
    return {"Std:Join": {"On": on, "Values": list(values)}}


def json_get(step: str, file: str, path: str) -> dict[str, Any]:
    return {"Std:JsonGet": {"PropertyFile": get(f"Steps.{step}.PropertyFiles.{file}"), "Path": path}}


def output_of(step: str, name: str) -> dict[str, Any]:
    return get(f"Steps.{step}.ProcessingOutputConfig.Outputs['{name}'].S3Output.S3Uri")


def parameter(name: str, kind: str, default: Any, **more: Any) -> dict[str, Any]:
    return {"Name": name, "Type": kind, "DefaultValue": default, **more}


def fetched(name: str, uri: Any, path: str, distribution: str = "FullyReplicated") -> dict[str, Any]:
    """A processing input as the SDK writes it, with all that it fills in."""
    source = {
        "S3Uri": uri,
        "LocalPath": path,
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
        "S3DataDistributionType": distribution,
        "S3CompressionType": "None",
    }
    return {"InputName": name, "AppManaged": False, "S3Input": source}


def processing(
    name: str,
    script: str,
    arguments: list[Any],
    inputs: list[dict[str, Any]],
    outputs: dict[str, Any],
    instances: Any = 1,
    **more: Any,
) -> dict[str, Any]:
    """A step as a ScriptProcessor makes it; its code is one more input, and its folders are arguments."""
    stored = [
        {
            "OutputName": output,
            "AppManaged": False,
            "S3Output": {"S3Uri": uri, "LocalPath": f"/opt/ml/processing/{output}", "S3UploadMode": "EndOfJob"},
        }
        for output, uri in outputs.items()
    ]
    request = {
        "ProcessingResources": {"ClusterConfig": {**CLUSTER, "InstanceCount": instances}},
        "AppSpecification": {
            "ImageUri": "any",
            "ContainerEntrypoint": ["python3", f"{CODE}/{script}"],
            "ContainerArguments": arguments,
        },
        "ProcessingInputs": inputs,
        "ProcessingOutputConfig": {"Outputs": stored},
        "StoppingCondition": {"MaxRuntimeInSeconds": 120},
        "RoleArn": ROLE,
    }
    return {"Name": name, "Type": "Processing", "Arguments": request, **more}


# Abalone: the example that AWS's own documentation begins with.


def again(cloud: Cloud, name: str, **parameters: Any) -> Run:
    values = [{"Name": key, "Value": str(value)} for key, value in parameters.items()]
    started = cloud.sagemaker.start_pipeline_execution(PipelineName=name, PipelineParameters=values)
    return cloud.ended(started["PipelineExecutionArn"])
