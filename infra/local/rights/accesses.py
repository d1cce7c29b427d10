"""From a request to what it uses: actions and the resources that they are about. Pure but for reading the request.

Source: service authorization reference, which also says which actions know no resources. A test holds what stands here
of SageMaker's actions against parliament's copy of it.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from werkzeug.wrappers import Request

from infra.local.rights.policies import Access
from infra.local.store import Record

_SCOPE = re.compile(r"Credential=([^/]+)/\d+/[^/]+/([^/]+)/aws4_request")

_PREFIXES = {"monitoring": "cloudwatch"}
"""How actions begin, where that is not how their service signs."""


@dataclass(frozen=True)
class Place:
    """Whose cloud a request is made in."""

    account: str
    region: str

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a regional resource."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


def credentials(request: Request) -> tuple[str, str]:
    """Return a request's access key and the service that it is signed for; both empty for one without a signature."""
    signed = request.headers.get("Authorization", "") or f"Credential={request.args.get('X-Amz-Credential', '')}"
    found = _SCOPE.search(signed)
    return (found[1], found[2]) if found else ("", "")


def operation_of(request: Request, service: str) -> tuple[str, Record]:
    """Return the name and the members of a call in the JSON or the query protocol; both empty for one in neither.

    Reads its body, and puts it back.
    """
    form = request.mimetype == "application/x-www-form-urlencoded"
    target = request.headers.get("X-Amz-Target")
    if not form and not target:
        return "", {}
    body = request.get_data()
    request.environ["wsgi.input"] = io.BytesIO(body)
    if target:
        return target.rpartition(".")[2], _object(body)
    members = dict(parse_qsl(body.decode("utf-8", "replace")))
    return str(members.get("Action", "")), members


def _object(body: bytes) -> Record:
    try:
        members = json.loads(body or b"{}")
    except ValueError:
        # Whoever answers the request says so.
        return {}
    return members if isinstance(members, dict) else {}


def of_request(request: Request, service: str, operation: str, members: Record, place: Place) -> list[Access]:
    """Return what an HTTP request uses; nothing for one that is signed for no service."""
    if not service:
        return []
    if service == "s3":
        return list(_of_s3(request))
    if request.path.endswith("/invocations"):
        return [Access("sagemaker:InvokeEndpoint", place.arn("sagemaker", f"endpoint/{request.path.split('/')[2]}"))]
    if service == "sagemaker":
        return of_call(operation, members, place)
    prefix = _PREFIXES.get(service, service)
    find = _RESOURCES.get(prefix)
    resource = find(operation, members, place) if find else "*"
    return [Access(f"{prefix}:{operation}", resource, _context(members))]


def _context(members: Record) -> dict[str, str]:
    keys = {"Namespace": "cloudwatch:namespace", "ServiceNamespace": "application-autoscaling:service-namespace"}
    known = {key: str(members[member]) for member, key in keys.items() if member in members}
    return {"aws:SecureTransport": "true", **known}


# SageMaker

_KINDS = {
    "EndpointConfigName": "endpoint-config",
    "EndpointName": "endpoint",
    "ModelName": "model",
    "ModelPackageGroupName": "model-package-group",
    "PipelineName": "pipeline",
    "ProcessingJobName": "processing-job",
    "TrainingJobName": "training-job",
    "TransformJobName": "transform-job",
}
"""Members that name a resource, and the kind of it that its ARN says."""

_ARNS = ("ResourceArn", "ModelPackageArn", "ModelPackageName", "PipelineExecutionArn", "PipelineArn")

_ROLES = ("RoleArn", "ExecutionRoleArn")

_UNBOUND = re.compile(r"List(Models|ModelPackages|ModelPackageGroups|Endpoints|EndpointConfigs|\w+Jobs|Pipelines)")
"""Actions that know no resources, whatever filters they take."""


def of_call(operation: str, request: Record, place: Place) -> list[Access]:
    """Return what a call of SageMaker uses, with the tags that it sets and the roles that it passes on."""
    action, resources = f"sagemaker:{operation}", list(_resources(operation, request, place)) or ["*"]
    tagged = [Access("sagemaker:AddTags", resources[0])] if request.get("Tags") and operation != "AddTags" else []
    passed = {"iam:PassedToService": "sagemaker.amazonaws.com"}
    roles = [Access("iam:PassRole", str(request[member]), passed) for member in _ROLES if request.get(member)]
    return [*(Access(action, resource) for resource in resources), *tagged, *roles]


def _resources(operation: str, request: Record, place: Place) -> Iterator[str]:
    if _UNBOUND.fullmatch(operation):
        return
    if operation == "CreateModelPackage":
        # Which version it is going to be, nobody knows yet.
        group = str(request.get("ModelPackageGroupName", "")).rpartition("/")[2]
        yield place.arn("sagemaker", f"model-package/{group}/*")
    yield from (str(request[member]) for member in _ARNS if member in request)
    for member, kind in _KINDS.items():
        if member in request:
            yield place.arn("sagemaker", f"{kind}/{str(request[member]).rpartition('/')[2]}")


# S3

_OF_BUCKETS = {
    "location": "BucketLocation",
    "versioning": "BucketVersioning",
    "policy": "BucketPolicy",
    "encryption": "EncryptionConfiguration",
    "lifecycle": "LifecycleConfiguration",
    "publicAccessBlock": "BucketPublicAccessBlock",
    "ownershipControls": "BucketOwnershipControls",
    "tagging": "BucketTagging",
    "logging": "BucketLogging",
}
"""What a request's query says that it is about, and how the actions on that end."""

_OF_METHODS: Mapping[str, str] = {"GET": "Get", "PUT": "Put", "DELETE": "Delete"}


def _of_s3(request: Request) -> Iterator[Access]:
    bucket, _, key = request.path.lstrip("/").partition("/")
    resource = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}" if bucket else "*"
    action = (_of_object if key else _of_bucket)(request.method, set(request.args)) if bucket else "ListAllMyBuckets"
    context = {"aws:SecureTransport": "true"}
    if "prefix" in request.args:
        context["s3:prefix"] = request.args["prefix"]
    yield Access(f"s3:{action}", resource, context)
    if source := request.headers.get("x-amz-copy-source"):
        yield Access("s3:GetObject", f"arn:aws:s3:::{source.lstrip('/').partition('?')[0]}", context)


def _of_object(method: str, query: set[str]) -> str:
    if "tagging" in query:
        return f"{_OF_METHODS[method]}ObjectTagging"
    if "uploadId" in query and method in ("GET", "DELETE"):
        return "ListMultipartUploadParts" if method == "GET" else "AbortMultipartUpload"
    version = "Version" if "versionId" in query else ""
    verb = {"GET": "Get", "HEAD": "Get", "DELETE": "Delete"}.get(method)
    # What is put, and each call of an upload in parts.
    return f"{verb}Object{version}" if verb else "PutObject"


def _of_bucket(method: str, query: set[str]) -> str:
    for word, ending in _OF_BUCKETS.items():
        if word in query:
            # Only the policy has an action of its own for being deleted.
            verb = "Put" if method == "DELETE" and word != "policy" else _OF_METHODS[method]
            return f"{verb}{ending}"
    if method == "POST":
        return "DeleteObject"
    if "versions" in query or "uploads" in query:
        return "ListBucketVersions" if "versions" in query else "ListBucketMultipartUploads"
    return {"PUT": "CreateBucket", "DELETE": "DeleteBucket"}.get(method, "ListBucket")


# The other services, as far as this project's roles have to do with them


def _logs(operation: str, members: Record, place: Place) -> str:
    group, stream = members.get("logGroupName", "*"), members.get("logStreamName")
    return place.arn("logs", f"log-group:{group}" + (f":log-stream:{stream}" if stream else ""))


def _cloudwatch(operation: str, members: Record, place: Place) -> str:
    if operation in ("DescribeAlarms", "DescribeAlarmsForMetric"):
        return place.arn("cloudwatch", "alarm:*")
    return place.arn("cloudwatch", f"alarm:{members['AlarmName']}") if "AlarmName" in members else "*"


def _autoscaling(operation: str, members: Record, place: Place) -> str:
    return "*" if operation.startswith("Describe") else place.arn("application-autoscaling", "scalable-target/*")


def _iam(operation: str, members: Record, place: Place) -> str:
    if "RoleName" in members:
        return f"arn:aws:iam::{place.account}:role/{members['RoleName']}"
    return str(members.get("PolicyArn", members.get("OpenIDConnectProviderArn", "*")))


def _cloudformation(operation: str, members: Record, place: Place) -> str:
    name = str(members.get("StackName", "*"))
    return name if name.startswith("arn:") or name == "*" else place.arn("cloudformation", f"stack/{name}/*")


def _sqs(operation: str, members: Record, place: Place) -> str:
    name = str(members.get("QueueUrl", members.get("QueueName", "*"))).rpartition("/")[2]
    return place.arn("sqs", name)


def _events(operation: str, members: Record, place: Place) -> str:
    name = members.get("Rule", members.get("Name"))
    return place.arn("events", f"rule/{name}") if name else "*"


_RESOURCES: Mapping[str, Callable[[str, Record, Place], str]] = {
    "application-autoscaling": _autoscaling,
    "cloudformation": _cloudformation,
    "cloudwatch": _cloudwatch,
    "events": _events,
    "iam": _iam,
    "logs": _logs,
    "sns": lambda operation, members, place: str(members.get("TopicArn", "*")),
    "sqs": _sqs,
    "sts": lambda operation, members, place: str(members.get("RoleArn", "*")),
}
