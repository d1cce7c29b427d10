"""What a policy allows, and what a request uses: pure, and held against AWS's own lists of actions and resources."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from infra import policies as checks
from infra.local.rights import accesses
from infra.local.rights.accesses import Place
from infra.local.rights.policies import Access, UnsupportedPolicy, allowed
from infra.local.service import service_model

PLACE = Place("123456789012", "eu-central-1")


def statement(**more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/signs/*", **more}


def judged(access: Access, *statements: dict[str, Any]) -> bool:
    return allowed([{"Version": "2012-10-17", "Statement": list(statements)}], access)


READ = Access("s3:GetObject", "arn:aws:s3:::bucket/signs/a/b.png", {"aws:SecureTransport": "true", "k": "value"})


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({}, True),
        ({"Action": ["s3:PutObject", "S3:getobject"]}, True),
        ({"Action": "s3:Get*"}, True),
        ({"Action": "s3:GetObjectVersion"}, False),
        ({"Resource": "arn:aws:s3:::bucket/other/*"}, False),
        ({"Resource": "arn:aws:s3:::bucket/signs/?/b.png"}, True),
        ({"Resource": "*"}, True),
        ({"Resource": ["arn:aws:s3:::none/*", "arn:aws:s3:::bucket/*"]}, True),
        # A star stands for nothing beyond its colons.
        ({"Resource": "arn:aws:*"}, False),
        ({"Effect": "Deny"}, False),
        ({"Condition": {"StringEquals": {"k": ["no", "value"]}}}, True),
        ({"Condition": {"StringEquals": {"k": "no"}}}, False),
        ({"Condition": {"StringEquals": {"unknown": "value"}}}, False),
        ({"Condition": {"StringEqualsIfExists": {"unknown": "value"}}}, True),
        ({"Condition": {"StringEqualsIfExists": {"k": "no"}}}, False),
        ({"Condition": {"StringNotEquals": {"k": ["no", "value"]}}}, False),
        ({"Condition": {"StringNotEquals": {"unknown": "value"}}}, True),
        ({"Condition": {"StringLike": {"K": "val*"}}}, True),
        ({"Condition": {"StringLike": {"k": "val*"}, "Bool": {"aws:SecureTransport": "false"}}}, False),
        ({"Condition": {"Null": {"unknown": "true"}}}, True),
        ({"Condition": {"Null": {"k": "true"}}}, False),
    ],
)
def test_a_statement_allows_what_it_says(more: dict[str, Any], verdict: bool) -> None:
    assert judged(READ, statement(**more)) is verdict


def test_a_denial_wins_and_what_nobody_allows_is_refused() -> None:
    assert judged(READ, statement(), statement(Effect="Deny", Resource="*")) is False
    assert judged(READ, statement(Effect="Deny", Action="s3:PutObject"), statement()) is True
    assert allowed([], READ) is False


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"NotAction": "s3:PutObject"}, "NotAction"),
        ({"Condition": {"ForAnyValue:StringEquals": {"k": "v"}}}, "ForAnyValue:StringEquals"),
        ({"Condition": {"DateGreaterThan": {"aws:CurrentTime": "2026-01-01"}}}, "DateGreaterThan"),
    ],
)
def test_what_cannot_be_judged_is_named(more: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedPolicy, match=named):
        judged(READ, statement(**more))


def test_a_trust_is_for_those_whom_it_names() -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    asked = Access("sts:AssumeRole", principal=("Service", "sagemaker.amazonaws.com"))
    assert judged(asked, trust)
    assert not judged(Access("sts:AssumeRole", principal=("Service", "events.amazonaws.com")), trust)
    assert not judged(Access("sts:AssumeRole", principal=("AWS", "sagemaker.amazonaws.com")), trust)
    assert judged(asked, {**trust, "Principal": "*"})


# From requests to what they use

SCOPE = "AWS4-HMAC-SHA256 Credential=ASIAX/20260101/eu-central-1/{}/aws4_request, SignedHeaders=host, Signature=0"


def used(service: str, method: str = "POST", path: str = "/", **more: Any) -> list[tuple[str, str]]:
    headers = {"Authorization": SCOPE.format(service), **more.pop("headers", {})}
    request = Request(EnvironBuilder(path, method=method, headers=headers, **more).get_environ())
    assert accesses.credentials(request) == ("ASIAX", service)
    operation, members = accesses.operation_of(request, service)
    found = accesses.of_request(request, service, operation, members, PLACE)
    return [(access.action, access.resource) for access in found]


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("GET", "/b?list-type=2&prefix=x", {}, [("s3:ListBucket", "arn:aws:s3:::b")]),
        ("HEAD", "/b", {}, [("s3:ListBucket", "arn:aws:s3:::b")]),
        ("PUT", "/b", {}, [("s3:CreateBucket", "arn:aws:s3:::b")]),
        ("GET", "/b?location", {}, [("s3:GetBucketLocation", "arn:aws:s3:::b")]),
        ("GET", "/b?encryption", {}, [("s3:GetEncryptionConfiguration", "arn:aws:s3:::b")]),
        ("DELETE", "/b?lifecycle", {}, [("s3:PutLifecycleConfiguration", "arn:aws:s3:::b")]),
        ("DELETE", "/b?policy", {}, [("s3:DeleteBucketPolicy", "arn:aws:s3:::b")]),
        ("POST", "/b?delete", {}, [("s3:DeleteObject", "arn:aws:s3:::b")]),
        ("GET", "/b/a/k", {}, [("s3:GetObject", "arn:aws:s3:::b/a/k")]),
        ("HEAD", "/b/a/k", {}, [("s3:GetObject", "arn:aws:s3:::b/a/k")]),
        ("GET", "/b/k?versionId=1", {}, [("s3:GetObjectVersion", "arn:aws:s3:::b/k")]),
        ("PUT", "/b/k?partNumber=1&uploadId=2", {}, [("s3:PutObject", "arn:aws:s3:::b/k")]),
        ("POST", "/b/k?uploads", {}, [("s3:PutObject", "arn:aws:s3:::b/k")]),
        ("DELETE", "/b/k?uploadId=2", {}, [("s3:AbortMultipartUpload", "arn:aws:s3:::b/k")]),
        ("DELETE", "/b/k", {}, [("s3:DeleteObject", "arn:aws:s3:::b/k")]),
        ("PUT", "/b/k?tagging", {}, [("s3:PutObjectTagging", "arn:aws:s3:::b/k")]),
        (
            "PUT", "/b/k", {"x-amz-copy-source": "/c/d"},
            [("s3:PutObject", "arn:aws:s3:::b/k"), ("s3:GetObject", "arn:aws:s3:::c/d")],
        ),
        ("GET", "/", {}, [("s3:ListAllMyBuckets", "*")]),
    ],
)  # fmt: skip
def test_s3_by_method_path_and_query(
    method: str, path: str, headers: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    assert used("s3", method, path, headers=headers) == expected
    known = {action for action, _ in AUTHORIZATIONS["s3"].items()}
    assert {action.partition(":")[2] for action, _ in expected} <= known


def call(target: str, **members: Any) -> dict[str, Any]:
    return {"headers": {"X-Amz-Target": target}, "data": json.dumps(members)}


def test_the_other_services_by_their_protocols() -> None:
    arn = "arn:aws:{}:eu-central-1:123456789012:{}".format
    put = call("Logs_20140328.PutLogEvents", logGroupName="/aws/sagemaker/x", logStreamName="s")
    assert used("logs", **put) == [("logs:PutLogEvents", arn("logs", "log-group:/aws/sagemaker/x:log-stream:s"))]
    alarm = call("GraniteServiceVersion20100801.PutMetricAlarm", AlarmName="a")
    assert used("monitoring", **alarm) == [("cloudwatch:PutMetricAlarm", arn("cloudwatch", "alarm:a"))]
    scaling = call("AnyScaleFrontendService.RegisterScalableTarget", ServiceNamespace="sagemaker")
    assert used("application-autoscaling", **scaling)[0][1] == arn("application-autoscaling", "scalable-target/*")
    stack = {"data": {"Action": "DescribeStacks", "StackName": "signs"}}
    assert used("cloudformation", **stack) == [
        ("cloudformation:DescribeStacks", arn("cloudformation", "stack/signs/*"))
    ]
    role = {"data": {"Action": "GetRole", "RoleName": "r"}}
    assert used("iam", **role) == [("iam:GetRole", "arn:aws:iam::123456789012:role/r")]
    asked = [("sagemaker:InvokeEndpoint", arn("sagemaker", "endpoint/e"))]
    assert used("sagemaker", path="/endpoints/e/invocations", data=b"\x89PNG") == asked
    broken = {"headers": {"X-Amz-Target": "SageMaker.ListModels"}, "data": b"{"}
    assert used("sagemaker", **broken) == [("sagemaker:ListModels", "*")]


def test_a_call_passes_roles_on_and_sets_tags() -> None:
    found = used(
        "sagemaker",
        **call("SageMaker.CreateModel", ModelName="m", ExecutionRoleArn="arn:r", Tags=[{"Key": "a", "Value": "b"}]),
    )
    model = "arn:aws:sagemaker:eu-central-1:123456789012:model/m"
    assert found == [("sagemaker:CreateModel", model), ("sagemaker:AddTags", model), ("iam:PassRole", "arn:r")]


AUTHORIZATIONS = {
    service["prefix"]: {each["privilege"]: each["resource_types"] for each in service["privileges"]}
    for service in json.loads(Path(checks.parliament.__file__).with_name("iam_definition.json").read_text())
}
"""The service authorization reference, as parliament has it."""

EXAMPLES = {
    "CreateProcessingJob": {"ProcessingJobName": "n"},
    "DescribeTrainingJob": {"TrainingJobName": "n"},
    "StopProcessingJob": {"ProcessingJobName": "n"},
    "CreateModel": {"ModelName": "n"},
    "DeleteModel": {"ModelName": "n"},
    "CreateEndpoint": {"EndpointName": "n", "EndpointConfigName": "c"},
    "UpdateEndpoint": {"EndpointName": "n", "EndpointConfigName": "c"},
    "CreateEndpointConfig": {"EndpointConfigName": "n"},
    "DescribeEndpoint": {"EndpointName": "n"},
    "UpdateEndpointWeightsAndCapacities": {"EndpointName": "n"},
    "CreateModelPackage": {"ModelPackageGroupName": "n"},
    "DescribeModelPackage": {"ModelPackageName": "arn:aws:sagemaker:r:a:model-package/n/1"},
    "UpdateModelPackage": {"ModelPackageArn": "arn:aws:sagemaker:r:a:model-package/n/1"},
    "DescribeModelPackageGroup": {"ModelPackageGroupName": "n"},
    "ListModelPackageGroups": {},
    "ListEndpointConfigs": {},
    "CreatePipeline": {"PipelineName": "n"},
    "StartPipelineExecution": {"PipelineName": "n"},
    "ListPipelineExecutions": {"PipelineName": "n"},
    "DescribePipelineExecution": {"PipelineExecutionArn": "arn:aws:sagemaker:r:a:pipeline/n/execution/1"},
    "ListPipelineExecutionSteps": {"PipelineExecutionArn": "arn:aws:sagemaker:r:a:pipeline/n/execution/1"},
}


@pytest.mark.parametrize("operation", EXAMPLES)
def test_sagemakers_resources_are_those_of_the_service_authorization_reference(operation: str) -> None:
    assert operation in service_model().operation_names
    found = accesses.of_call(operation, EXAMPLES[operation], PLACE)
    kinds = {re.sub(r".*:(pipeline)/[^/]+/execution/.*|.*:([\w-]+)/.*", kind, access.resource) for access in found}
    known = {each["resource_type"].removesuffix("*") for each in AUTHORIZATIONS["sagemaker"][operation]} - {""}
    assert kinds == (known or {"*"})


def kind(found: re.Match[str]) -> str:
    return "pipeline-execution" if found[1] else found[2]
