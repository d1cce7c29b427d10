"""What roles may do, what they did, and why they may do the rest, where an embedded SageMaker enforces them."""

import json
from pathlib import Path
from typing import Any


def allowed(iam: Any, role: str) -> set[str]:
    """What a role may do, by its own policies and the managed ones."""
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    documents = [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]
    for policy in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        version = iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
        found = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)
        documents.append(found["PolicyVersion"]["Document"])
    actions = [statement["Action"] for document in documents for statement in document["Statement"]]
    return {action for named in actions for action in ([named] if isinstance(named, str) else named)}


def book(state: Path, project: str) -> list[dict[str, Any]]:
    """What a project's roles used or were refused, as the server wrote it down; their names without the project's."""
    lines = [json.loads(line) for line in (state / "rights.jsonl").read_text().splitlines()]
    return [{**line, "role": line["role"].removeprefix(f"{project}-")} for line in lines]


SURROUNDINGS = {
    "logs:CreateLogGroup": "once an account and region",
    "logs:DescribeLogStreams": "by SageMaker, before it writes",
    "cloudwatch:PutMetricData": "by SageMaker, of the machines",
    "ecr:BatchCheckLayerAvailability": "by SageMaker, for the image",
    "ecr:BatchGetImage": "by SageMaker, for the image",
    "ecr:GetAuthorizationToken": "by SageMaker, for the image",
    "ecr:GetDownloadUrlForLayer": "by SageMaker, for the image",
    "s3:GetBucketLocation": "by SageMaker, to reach the bucket where it is",
    "s3:AbortMultipartUpload": "by SageMaker, when an upload of many parts fails",
}
"""What SageMaker does in the name of a job's role and the embedded one does not, or not always, and why.

Source: developer guide, "How to use SageMaker AI execution roles", CreateProcessingJob and CreateTrainingJob.
"""

MODEL = {
    **SURROUNDINGS,
    "logs:CreateLogStream": "by SageMaker, of the endpoint; the embedded one keeps its log in a file",
    "logs:PutLogEvents": "likewise",
    "s3:ListBucket": "by SageMaker, to find the archive",
    "cloudwatch:DescribeAlarms": "by SageMaker, of the alarms that guard an update",
}
"""Source: the same guide, CreateModel; and "Auto-Rollback Configuration and Monitoring"."""

_KINDS = ("Experiment", "Trial", "TrialComponent")

PIPELINE = {
    "sagemaker:AddTags": "by Pipelines, which tags jobs with their execution; and tags of the settings",
    "sagemaker:ListTags": "likewise",
    "sagemaker:StopProcessingJob": "when somebody stops an execution",
    "sagemaker:StopTrainingJob": "likewise",
    "sagemaker:AssociateTrialComponent": "by Pipelines: an execution is a trial, its jobs are the trial's components",
    **{f"sagemaker:{verb}{kind}": "likewise" for verb in ("Create", "Describe") for kind in _KINDS},
    "sagemaker:UpdateTrialComponent": "likewise",
}
"""Source: developer guide, "IAM Access Management" and "Amazon SageMaker Experiments Integration" of Pipelines."""

DEPLOYMENT = {
    **SURROUNDINGS,
    "sagemaker:UpdateEndpointWeightsAndCapacities": "by Application Auto Scaling, which asks whether its caller may",
    "cloudwatch:DeleteAlarms": "by Application Auto Scaling, which asks whether its caller may",
    "iam:CreateServiceLinkedRole": "by Application Auto Scaling, once an account",
}
"""Source: Application Auto Scaling user guide, "Identity-based policy examples" and "Permissions validation"."""
