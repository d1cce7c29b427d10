"""The project's CloudFormation stacks: which there are, and what their parameters are on a cloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from infra import stacks
from pipeline import clouds
from pipeline.clouds import Cloud
from pipeline.settings import ROOT, Settings

TEMPLATES = clouds.STACKS
"""In the order in which they are deployed; they are destroyed in the other."""

ONLY_ONCE = {
    "Bucket": "Bucket",
    "ModelPackageGroup": "ModelPackageGroup",
    "GitHubProvider": "GitHubProvider",
    "ImageRepository": "Images",
}
"""What of the foundation outlives its stack and can be there only once: the end of a parameter's name ``Create...``,
and the resource's logical name."""


def wanted(settings: Settings) -> list[str]:
    """Return the templates that are to be deployed."""
    return [template for template in TEMPLATES if template != "network" or settings.network.own]


def name(settings: Settings, template: str) -> str:
    """Return the name of a template's stack."""
    return f"{settings.name}-{template}"


def plan(settings: Settings, cloud: Cloud, template: str) -> stacks.Plan:
    """Return what deploying a template would change; it changes nothing until it is applied or discarded."""
    parameters = _parameters(settings, cloud, template)
    return stacks.plan(
        cloud.client("cloudformation"), name(settings, template), _text_of(template), parameters, settings.tags
    )


def missing(settings: Settings, cloud: Cloud, template: str) -> list[str]:
    """Return the kinds of resources that a template may make, if its stack was never made; else nothing."""
    return stacks.missing(cloud.client("cloudformation"), name(settings, template), _text_of(template))


def _text_of(template: str) -> str:
    return (ROOT / "infra" / "aws" / f"{template}.yaml").read_text()


def _parameters(settings: Settings, cloud: Cloud, template: str) -> dict[str, str]:
    if template == "automation":
        return {
            "Name": settings.name,
            "AlertEmail": settings.automation.alert_email,
            "MonthlyBudget": str(settings.automation.monthly_budget),
            "IdleHours": str(settings.automation.idle_hours),
            "TrainingSchedule": settings.automation.training_schedule,
            "TrainingData": settings.automation.training_data,
        }
    parameters = {"Name": settings.name, "BucketName": cloud.bucket}
    if template == "network":
        return parameters
    return {
        **parameters,
        "Encryption": settings.aws.encryption,
        "Network": _text(settings.network.used),
        "ImageRepository": _text(settings.images.repository),
        **_github(settings),
        **_kept(settings, cloud),
    }


def _kept(settings: Settings, cloud: Cloud) -> dict[str, str]:
    """Say what of the foundation is there already and not the stack's own, so that it is used and not made anew.

    What a stack made stays when it is destroyed, or no longer wants it. Of what is its own nothing is said, nor of what
    cannot be known: a parameter that is not given keeps its value.
    """
    own = stacks.resources(cloud.client("cloudformation"), name(settings, "foundation"))
    probes: dict[str, Callable[[], bool | None]] = {
        "Bucket": lambda: _answers(lambda: cloud.client("s3").head_bucket(Bucket=cloud.bucket)),
        "ModelPackageGroup": lambda: _has_group(cloud, settings),
    }
    if settings.github.owner:
        probes["GitHubProvider"] = lambda: _has_provider(cloud)
    if settings.images.repository:
        probes["ImageRepository"] = lambda: _has_repository(cloud, settings)
    found = {what: there() for what, there in probes.items() if ONLY_ONCE[what] not in own}
    kept = {f"Create{what}": _text(not there) for what, there in found.items() if there is not None}
    return {**kept, **_key(settings, cloud, own)}


def _key(settings: Settings, cloud: Cloud, own: set[str]) -> dict[str, str]:
    """Say with which key content is encrypted, where the stack does not have that key, or is to let it go.

    Of a key that is no stack's the bucket tells, if by default it encrypts with it.
    """
    if "Key" in own:
        made = stacks.outputs(cloud.client("cloudformation"), name(settings, "foundation"))
        return {"KeptKeyArn": made["KeyArn"]} if settings.aws.encryption != "KMS" else {}
    try:
        answer = cloud.client("s3").get_bucket_encryption(Bucket=cloud.bucket)
    except ClientError:
        return {}
    rules = answer["ServerSideEncryptionConfiguration"]["Rules"]
    key = rules[0].get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID", "")
    # The template tells S3 a key's ARN; an alias, such as that of S3's own key, is nobody's to give rights on.
    return {"KeptKeyArn": key} if key.startswith("arn:") and ":key/" in key else {}


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


def _has_group(cloud: Cloud, settings: Settings) -> bool | None:
    sagemaker = cloud.client("sagemaker")
    return _answers(lambda: sagemaker.describe_model_package_group(ModelPackageGroupName=settings.model_package_group))


def _has_repository(cloud: Cloud, settings: Settings) -> bool | None:
    return _answers(lambda: cloud.client("ecr").describe_repositories(repositoryNames=[settings.name]))


def _has_provider(cloud: Cloud) -> bool | None:
    """Tell whether the account trusts GitHub already."""
    try:
        providers = cloud.client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"]
    except ClientError:
        return None
    return any(provider["Arn"].endswith("/token.actions.githubusercontent.com") for provider in providers)


def _answers(call: Callable[[], Any]) -> bool | None:
    """Tell whether something is there; ``None`` where that is not answered, for want of rights or of an answer."""
    try:
        call()
    except ClientError as error:
        absent = error.response["Error"]["Code"] in ("404", "NoSuchBucket", "RepositoryNotFoundException")
        return False if absent or "does not exist" in str(error) else None
    return True
