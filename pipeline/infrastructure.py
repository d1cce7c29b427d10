"""The project's CloudFormation stacks: which there are, and what their parameters are on a cloud."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from infra import stacks
from pipeline import clouds
from pipeline.clouds import Cloud
from pipeline.settings import ROOT, Settings

TEMPLATES = clouds.STACKS
"""In the order in which they are deployed; they are destroyed in the other."""


def wanted(settings: Settings) -> list[str]:
    """Return the templates that are to be deployed."""
    return [template for template in TEMPLATES if template != "network" or settings.network.own]


def name(settings: Settings, template: str) -> str:
    """Return the name of a template's stack."""
    return f"{settings.name}-{template}"


def plan(settings: Settings, cloud: Cloud, template: str) -> stacks.Plan:
    """Return what deploying a template would change; it changes nothing until it is applied or discarded."""
    client = cloud.client("cloudformation")
    text = (ROOT / "infra" / "aws" / f"{template}.yaml").read_text()
    return stacks.plan(client, name(settings, template), text, _parameters(settings, cloud, template), settings.tags)


def _parameters(settings: Settings, cloud: Cloud, template: str) -> dict[str, str]:
    if template == "automation":
        return {
            "Name": settings.name,
            "EndpointInstanceType": settings.instances.endpoint,
            "AlertEmail": settings.automation.alert_email,
            "MonthlyBudget": str(settings.automation.monthly_budget),
            "IdleHours": str(settings.automation.idle_hours),
            "TrainingSchedule": settings.automation.training_schedule,
            "TrainingData": settings.automation.training_data,
        }
    parameters = {"Name": settings.name, "BucketName": cloud.bucket}
    if template == "network":
        return parameters
    parameters |= {
        "Encryption": settings.aws.encryption,
        "Network": _text(settings.network.used),
        "ImageRepository": _text(settings.images.repository),
        **_github(settings),
    }
    if _exists(cloud, settings):
        return parameters
    # What is there already and is not this stack's own stays so: whether it is, only the first deployment can see.
    return {
        **parameters,
        "CreateBucket": _text(not _has_bucket(cloud)),
        "CreateModelPackageGroup": _text(not _has_group(cloud, settings)),
        "CreateGitHubProvider": _text(not _has_provider(cloud)),
    }


def _github(settings: Settings) -> dict[str, str]:
    github = settings.github
    return {
        "GitHubOwner": github.owner,
        "GitHubRepository": github.repository,
        "GitHubOwnerId": github.owner_id,
        "GitHubRepositoryId": github.repository_id,
        "GitHubEnvironment": github.environment,
    }


def _text(value: bool) -> str:
    return "true" if value else "false"


def _exists(cloud: Cloud, settings: Settings) -> bool:
    try:
        return bool(stacks.outputs(cloud.client("cloudformation"), name(settings, "foundation")))
    except stacks.StackError:
        return False


def _has_bucket(cloud: Cloud) -> bool:
    return _answers(lambda: cloud.client("s3").head_bucket(Bucket=cloud.bucket))


def _has_group(cloud: Cloud, settings: Settings) -> bool:
    sagemaker = cloud.client("sagemaker")
    return _answers(lambda: sagemaker.describe_model_package_group(ModelPackageGroupName=settings.model_package_group))


def _has_provider(cloud: Cloud) -> bool:
    """Tell whether the account trusts GitHub already; whoever may not know tries to make it do so."""
    try:
        providers = cloud.client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"]
    except ClientError:
        return False
    return any(provider["Arn"].endswith("/token.actions.githubusercontent.com") for provider in providers)


def _answers(call: Any) -> bool:
    try:
        call()
    except ClientError:
        return False
    return True
