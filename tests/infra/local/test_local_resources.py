"""The registry, models and configurations as boto3 sees them."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_cloud import Cloud


def test_the_registry_counts_versions_and_keeps_properties(cloud: Cloud) -> None:
    group = f"group-{secrets.token_hex(4)}"
    register = cloud.sagemaker.create_model_package
    with pytest.raises(ClientError, match=group):
        register(ModelPackageGroupName=group)
    cloud.sagemaker.create_model_package_group(ModelPackageGroupName=group)
    with pytest.raises(ClientError, match="already exists"):
        cloud.sagemaker.create_model_package_group(ModelPackageGroupName=group)
    first = register(ModelPackageGroupName=group, CustomerMetadataProperties={"seed": "1", "data": "x"})[
        "ModelPackageArn"
    ]
    described = cloud.sagemaker.describe_model_package(ModelPackageName=first)
    assert (described["ModelPackageVersion"], described["ModelApprovalStatus"]) == (1, "PendingManualApproval")
    cloud.sagemaker.update_model_package(
        ModelPackageArn=first,
        ModelApprovalStatus="Approved",
        ApprovalDescription="good",
        CustomerMetadataProperties={"by": "me"},
        CustomerMetadataPropertiesToRemove=["data"],
    )
    described = cloud.sagemaker.describe_model_package(ModelPackageName=first)
    assert (described["ModelApprovalStatus"], described["ApprovalDescription"]) == ("Approved", "good")
    assert described["CustomerMetadataProperties"] == {"seed": "1", "by": "me"}
    second = register(ModelPackageGroupName=group)["ModelPackageArn"]
    cloud.sagemaker.delete_model_package(ModelPackageName=second)
    third = register(ModelPackageGroupName=group, ModelApprovalStatus="Rejected")["ModelPackageArn"]
    assert third == f"{first[:-1]}3"

    def listed(**request: Any) -> list[int]:
        answer = cloud.sagemaker.list_model_packages(ModelPackageGroupName=group, **request)
        return [summary["ModelPackageVersion"] for summary in answer["ModelPackageSummaryList"]]

    assert listed() == [3, 1]
    assert listed(ModelApprovalStatus="Approved") == [1]
    with pytest.raises(ClientError) as refusal:
        cloud.sagemaker.delete_model_package_group(ModelPackageGroupName=group)
    assert refusal.value.response["Error"]["Code"] == "ConflictException"
    for arn in (first, third):
        cloud.sagemaker.delete_model_package(ModelPackageName=arn)
    cloud.sagemaker.delete_model_package_group(ModelPackageGroupName=group)


def test_a_refused_duplicate_changes_nothing(cloud: Cloud) -> None:
    name = f"model-{secrets.token_hex(4)}"
    request = {"ModelName": name, "PrimaryContainer": {"Image": "any"}}
    arn = cloud.sagemaker.create_model(**request, Tags=[{"Key": "owner", "Value": "me"}])["ModelArn"]
    with pytest.raises(ClientError, match="already existing model"):
        cloud.sagemaker.create_model(**request, Tags=[{"Key": "owner", "Value": "you"}])
    assert cloud.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "owner", "Value": "me"}]
    with pytest.raises(ClientError, match="Could not find model"):
        cloud.sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[{"VariantName": "v", "ModelName": "no-such-model"}]
        )


def test_a_version_is_deployed_once_somebody_approved_it(cloud: Cloud) -> None:
    group, name = f"group-{secrets.token_hex(4)}", f"model-{secrets.token_hex(4)}"
    cloud.sagemaker.create_model_package_group(ModelPackageGroupName=group)
    arn = cloud.sagemaker.create_model_package(
        ModelPackageGroupName=group,
        InferenceSpecification={
            "Containers": [{"Image": "any", "ModelDataUrl": "s3://b/model.tar.gz"}],
            "SupportedContentTypes": ["text/plain"],
            "SupportedResponseMIMETypes": ["text/plain"],
        },
    )["ModelPackageArn"]
    request = {"ModelName": name, "PrimaryContainer": {"ModelPackageName": arn}}
    for status in ("PendingManualApproval", "Rejected"):
        cloud.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus=status)
        with pytest.raises(ClientError, match=f"cannot be deployed: its status is {status}"):
            cloud.sagemaker.create_model(**request)
    with pytest.raises(ClientError, match="does not exist"):
        cloud.sagemaker.create_model(ModelName=name, PrimaryContainer={"ModelPackageName": f"{arn}9"})
    cloud.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    assert cloud.sagemaker.create_model(**request)["ModelArn"].endswith(f"/{name}")


S3_DATA = {"S3DataSource": {"S3Uri": "s3://b/model/", "S3DataType": "S3Prefix", "CompressionType": "None"}}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"Containers": [{"Image": "one"}, {"Image": "two"}]}, "several containers"),
        ({"PrimaryContainer": {"Image": "any", "Mode": "MultiModel"}}, "MultiModel"),
        ({"PrimaryContainer": {"Image": "any", "ModelDataSource": S3_DATA}}, "ModelDataSource"),
    ],
)
def test_a_model_that_would_answer_otherwise_on_aws_is_refused(cloud: Cloud, model: dict[str, Any], words: str) -> None:
    with pytest.raises(ClientError, match=f"{words}.* not supported by the embedded SageMaker"):
        cloud.sagemaker.create_model(ModelName=f"model-{secrets.token_hex(4)}", **model)


def test_versions_that_are_registered_at_once_are_all_different(cloud: Cloud) -> None:
    group = f"group-{secrets.token_hex(4)}"
    cloud.sagemaker.create_model_package_group(ModelPackageGroupName=group)

    def register(_: int) -> str:
        return str(cloud.sagemaker.create_model_package(ModelPackageGroupName=group)["ModelPackageArn"])

    with ThreadPoolExecutor(8) as pool:
        versions = [int(arn.rpartition("/")[2]) for arn in pool.map(register, range(24))]
    assert sorted(versions) == list(range(1, 25))


@pytest.mark.parametrize(
    ("properties", "taken"),
    [
        ({"Größe": "s3://bucket/a b=1"}, True),
        ({"data": "50%"}, False),
        ({"da#ta": "x"}, False),
        ({"data": "x" * 257}, False),
    ],
)
def test_properties_are_of_the_characters_that_sagemaker_takes(
    cloud: Cloud, properties: dict[str, str], taken: bool
) -> None:
    """Patterns with classes of Unicode, which Python's own regular expressions do not know."""
    group = f"group-{secrets.token_hex(4)}"
    cloud.sagemaker.create_model_package_group(ModelPackageGroupName=group)
    request = {"ModelPackageGroupName": group, "CustomerMetadataProperties": properties}
    if taken:
        arn = cloud.sagemaker.create_model_package(**request)["ModelPackageArn"]
        described = cloud.sagemaker.describe_model_package(ModelPackageName=arn)
        assert described["CustomerMetadataProperties"] == properties
    else:
        with pytest.raises(ClientError, match="CustomerMetadataProperties") as refusal:
            cloud.sagemaker.create_model_package(**request)
        assert refusal.value.response["Error"]["Code"] == "ValidationException"
