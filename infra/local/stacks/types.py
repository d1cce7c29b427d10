"""The resource types that moto's CloudFormation skips, does by half or cannot change."""

from __future__ import annotations

import json
from collections.abc import Mapping

from moto.cloudformation.exceptions import ValidationError
from moto.core.common_models import CloudFormationModel
from moto.events.models import events_backends
from moto.iam.models import iam_backends
from moto.kms.models import kms_backends
from moto.s3.cloud_formation import cfn_to_api_encryption
from moto.s3.models import s3_backends
from moto.sqs.models import sqs_backends

from infra.local.stacks.resources import Kept, Place
from infra.local.store import Record


def _tags(properties: Record) -> dict[str, str]:
    return {tag["Key"]: str(tag["Value"]) for tag in properties.get("Tags", [])}


class Bucket(Kept, CloudFormationModel):  # type: ignore[misc]  # moto ships no types
    """An S3 bucket with all that protects its objects."""

    cfn_type, name_property = "AWS::S3::Bucket", "BucketName"
    properties = (
        "BucketEncryption",
        "LifecycleConfiguration",
        "LoggingConfiguration",
        "OwnershipControls",
        "PublicAccessBlockConfiguration",
        "Tags",
        "VersioningConfiguration",
    )
    attributes = ("Arn", "DomainName", "RegionalDomainName")

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Create or change the bucket."""
        lifecycle = [_lifecycle_rule(rule) for rule in properties.get("LifecycleConfiguration", {}).get("Rules", [])]
        s3 = s3_backends[place.account]["aws"]
        bucket = s3.create_bucket(name, place.region) if new else s3.get_bucket(name)
        encryption = properties.get("BucketEncryption")
        bucket.encryption = cfn_to_api_encryption(encryption) if encryption else None
        versioning = properties.get("VersioningConfiguration", {}).get("Status")
        # A bucket that has had versions cannot forget them.
        bucket.versioning_status = versioning or ("Suspended" if bucket.versioning_status else None)
        bucket.set_lifecycle(lifecycle)
        ownership = properties.get("OwnershipControls", {}).get("Rules", [{}])[0]
        bucket.ownership_rule = ownership.get("ObjectOwnership")
        s3.delete_public_access_block(name)
        if public := properties.get("PublicAccessBlockConfiguration"):
            s3.put_public_access_block(name, public)
        s3.put_bucket_tagging(name, _tags(properties))
        bucket.set_logging(_logging(properties.get("LoggingConfiguration")), s3)
        return {
            "Arn": bucket.arn,
            "DomainName": f"{name}.s3.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{place.region}.amazonaws.com",
        }

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Delete the bucket, which must be empty."""
        if s3_backends[place.account]["aws"].delete_bucket(name) is None:
            raise ValidationError(message=f"The bucket you tried to delete is not empty: {name}")


def _logging(configuration: Record | None) -> Record | None:
    """Translate where the log of a bucket's requests goes from CloudFormation's words to S3's. None is written here."""
    if not configuration:
        return None
    prefix = configuration.get("LogFilePrefix", "")
    return {"TargetBucket": configuration["DestinationBucketName"], "TargetPrefix": prefix}


def _lifecycle_rule(rule: Record) -> Record:
    """Translate a lifecycle rule from CloudFormation's words to S3's."""
    known = (
        "AbortIncompleteMultipartUpload",
        "ExpirationInDays",
        "Id",
        "NoncurrentVersionExpiration",
        "Prefix",
        "Status",
    )
    if unknown := [key for key in rule if key not in known]:
        raise ValidationError(message=f"Lifecycle rule: the embedded SageMaker has no {', '.join(unknown)}.")
    same = ("AbortIncompleteMultipartUpload", "NoncurrentVersionExpiration", "Status")
    translated = {key: rule[key] for key in same if key in rule}
    if "ExpirationInDays" in rule:
        translated["Expiration"] = {"Days": rule["ExpirationInDays"]}
    return {**translated, "ID": rule.get("Id"), "Filter": {"Prefix": rule.get("Prefix", "")}}


class BucketPolicy(Kept, CloudFormationModel):  # type: ignore[misc]
    """A bucket's policy, named after the bucket."""

    cfn_type, name_property = "AWS::S3::BucketPolicy", "Bucket"
    properties, attributes = ("PolicyDocument",), ()

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Set the policy."""
        policy = json.dumps(properties["PolicyDocument"]).encode()
        s3_backends[place.account]["aws"].put_bucket_policy(name, policy)
        return {}

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Leave the bucket without a policy."""
        s3_backends[place.account]["aws"].delete_bucket_policy(name)


class Key(Kept, CloudFormationModel):  # type: ignore[misc]
    """A symmetric KMS key, named by its identifier."""

    cfn_type, name_property = "AWS::KMS::Key", ""
    properties = ("Description", "EnableKeyRotation", "KeyPolicy", "PendingWindowInDays")
    attributes = ("Arn", "KeyId")

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Create or change the key."""
        kms, described = kms_backends[place.account][place.region], properties.get("Description", "")
        policy = json.dumps(properties["KeyPolicy"]) if "KeyPolicy" in properties else None
        if new:
            name = kms.create_key(policy, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", described, []).id
        kms.update_key_description(name, described)
        if policy:
            kms.put_key_policy(name, policy)
        rotates = str(properties.get("EnableKeyRotation", False)).lower() == "true"
        (kms.enable_key_rotation if rotates else kms.disable_key_rotation)(name)
        days = str(properties.get("PendingWindowInDays", 30))
        return {"Name": name, "Arn": kms.describe_key(name).arn, "KeyId": name, "days": days}

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Schedule the key's deletion, as AWS does."""
        kms_backends[place.account][place.region].schedule_key_deletion(name, int(values["days"]))


class Queue(Kept, CloudFormationModel):  # type: ignore[misc]
    """An SQS queue."""

    cfn_type, name_property = "AWS::SQS::Queue", "QueueName"
    properties = (
        "DelaySeconds",
        "KmsMasterKeyId",
        "MaximumMessageSize",
        "MessageRetentionPeriod",
        "ReceiveMessageWaitTimeSeconds",
        "SqsManagedSseEnabled",
        "Tags",
        "VisibilityTimeout",
    )
    attributes = ("Arn", "QueueName", "QueueUrl")

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Create or change the queue."""
        sqs = sqs_backends[place.account][place.region]
        wanted = {key: value for key, value in properties.items() if key not in ("QueueName", "Tags")}
        queue = sqs.create_queue(name, **wanted) if new else sqs.get_queue(name)
        # moto forgets a queue's policy with every change that does not name it.
        sqs.set_queue_attributes(name, {**wanted, "Policy": queue.policy})
        queue.tags = _tags(properties)
        url = queue.physical_resource_id
        return {"Arn": queue.queue_arn, "QueueName": name, "QueueUrl": url, "Ref": url}

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Delete the queue."""
        sqs_backends[place.account][place.region].delete_queue(name)


class QueuePolicy(Kept, CloudFormationModel):  # type: ignore[misc]
    """A policy of one or several queues."""

    cfn_type, name_property = "AWS::SQS::QueuePolicy", ""
    properties, attributes = ("PolicyDocument", "Queues"), ()

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Set the policy."""
        queues = [url.rpartition("/")[2] for url in properties["Queues"]]
        cls._set(queues, json.dumps(properties["PolicyDocument"]), place)
        return {"queues": " ".join(queues)}

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Leave the queues without a policy."""
        cls._set(values["queues"].split(), None, place)

    @staticmethod
    def _set(queues: list[str], policy: str | None, place: Place) -> None:
        for queue in queues:
            sqs_backends[place.account][place.region].get_queue(queue).policy = policy


class Role(Kept, CloudFormationModel):  # type: ignore[misc]
    """An IAM role with its policies."""

    cfn_type, name_property = "AWS::IAM::Role", "RoleName"
    properties = (
        "AssumeRolePolicyDocument",
        "Description",
        "ManagedPolicyArns",
        "MaxSessionDuration",
        "Path",
        "Policies",
        "Tags",
    )
    attributes = ("Arn", "RoleId")

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Create or change the role."""
        iam = iam_backends[place.account]["aws"]
        trust, seconds = json.dumps(properties["AssumeRolePolicyDocument"]), properties.get("MaxSessionDuration", 3600)
        described = properties.get("Description", "")
        if new:
            iam.create_role(name, trust, properties.get("Path", "/"), None, described, [], seconds)
        iam.update_role(name, described, seconds)
        iam.update_assume_role_policy(name, trust)
        role = iam.get_role(name)
        role.tags = properties.get("Tags", [])
        cls._clear(name, place)
        for policy in properties.get("Policies", []):
            iam.put_role_policy(name, policy["PolicyName"], json.dumps(policy["PolicyDocument"]))
        for arn in properties.get("ManagedPolicyArns", []):
            iam.attach_role_policy(arn, name)
        return {"Arn": role.arn, "RoleId": role.id}

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Delete the role."""
        cls._clear(name, place)
        iam_backends[place.account]["aws"].delete_role(name)

    @staticmethod
    def _clear(name: str, place: Place) -> None:
        iam = iam_backends[place.account]["aws"]
        for policy in iam.list_role_policies(name):
            iam.delete_role_policy(name, policy)
        for arn in list(iam.get_role(name).managed_policies):
            iam.detach_role_policy(arn, name)


class Rule(Kept, CloudFormationModel):  # type: ignore[misc]
    """An EventBridge rule with its targets."""

    cfn_type, name_property = "AWS::Events::Rule", "Name"
    properties = (
        "Description",
        "EventBusName",
        "EventPattern",
        "RoleArn",
        "ScheduleExpression",
        "State",
        "Tags",
        "Targets",
    )

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Create or change the rule and its targets."""
        events, bus = events_backends[place.account][place.region], properties.get("EventBusName", "default")
        pattern = properties.get("EventPattern")
        rule = events.put_rule(
            name,
            event_pattern=json.dumps(pattern) if pattern else None,
            scheduled_expression=properties.get("ScheduleExpression"),
            state=properties.get("State"),
            description=properties.get("Description"),
            role_arn=properties.get("RoleArn"),
            event_bus_arn=bus,
            tags=properties.get("Tags"),
        )
        targets = properties.get("Targets", [])
        kept = [target["Id"] for target in targets]
        events.put_targets(name=name, event_bus_arn=bus, targets=targets)
        rule.remove_targets([target["Id"] for target in list(rule.targets) if target["Id"] not in kept])
        return {"Arn": rule.arn, "bus": bus}

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Delete the rule and its targets."""
        events = events_backends[place.account][place.region]
        rule = events.describe_rule(name, values["bus"])
        rule.remove_targets([target["Id"] for target in list(rule.targets)])
        events.delete_rule(name, values["bus"])
