"""The project's own stacks on the embedded SageMaker: what they promise is there, changes with them, and survives."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from embedded_cloud import ROLE, Cloud, definition, step, wait_until
from stack_parts import Deployer, queues, template, unique

from infra import stacks
from infra.local import control

AWS = Path(stacks.__file__).with_name("aws")
FOUNDATION, AUTOMATION = ((AWS / f"{name}.yaml").read_text() for name in ("foundation", "automation"))
REGION, ACCOUNT = "eu-central-1", "123456789012"


def test_the_foundation_is_really_there(cloud: Cloud, stack: Deployer) -> None:
    name, bucket = unique("signs"), unique("bucket")
    outputs = stack.deploy(FOUNDATION, Name=name, BucketName=bucket, Encryption="KMS")
    key = outputs.pop("KeyArn")
    jobs = ("preprocess", "validate", "train", "evaluate", "deploy", "serve")
    actors = {"": "pipeline", **{each.title(): each for each in jobs}}
    roles = {f"{output}RoleArn": f"arn:aws:iam::{ACCOUNT}:role/{name}-{actor}" for output, actor in actors.items()}
    assert outputs == {"BucketName": bucket, "ModelPackageGroupName": name, **roles}
    s3 = cloud.client("s3")
    encryption = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert encryption["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    lifecycle = {rule["ID"]: rule for rule in s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]}
    assert lifecycle["incomplete-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert lifecycle["replaced-versions"]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 90
    public = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert len(public) == 4
    assert all(public.values())
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    log = s3.get_bucket_logging(Bucket=bucket)["LoggingEnabled"]
    assert (log["TargetBucket"], log["TargetPrefix"]) == (f"{bucket}-logs", "access/")
    assert s3.get_public_access_block(Bucket=f"{bucket}-logs")["PublicAccessBlockConfiguration"] == public
    assert cloud.client("kms").get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    assert cloud.sagemaker.describe_model_package_group(ModelPackageGroupName=name)
    iam = cloud.client("iam")
    assert set(iam.list_role_policies(RoleName=f"{name}-pipeline")["PolicyNames"]) == {"objects", "steps"}
    (attached,) = iam.list_attached_role_policies(RoleName=f"{name}-train")["AttachedPolicies"]
    assert attached["PolicyName"] == f"{name}-surroundings"
    # A registry that is the stack's own takes versions as any other does.
    cloud.sagemaker.create_model_package(ModelPackageGroupName=name)
    stack.destroy()
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_role(RoleName=f"{name}-pipeline")
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert len(cloud.sagemaker.list_model_packages(ModelPackageGroupName=name)["ModelPackageSummaryList"]) == 1
    with pytest.raises(stacks.StackError, match=r"Bucket .AWS::S3::Bucket.: .*not available"):
        stack.deploy(FOUNDATION, Name=name, BucketName=bucket)
    stack.deploy(FOUNDATION, Name=name, BucketName=bucket, CreateBucket="false", CreateModelPackageGroup="false")


def test_changes_are_those_of_what_the_parameters_lead_to(cloud: Cloud, stack: Deployer) -> None:
    name, bucket = unique("signs"), unique("bucket")
    given = {"Name": name, "BucketName": bucket}
    jobs = ("Pipeline", "Preprocess", "Validate", "Train", "Evaluate", "Deploy", "Serve")
    roles = [f"{job}Role" for job in jobs]
    assert stack.changes(FOUNDATION, **given) == {
        "Bucket": "Add",
        "BucketPolicy": "Add",
        "LogBucket": "Add",
        "LogBucketPolicy": "Add",
        "ModelPackageGroup": "Add",
        "Surroundings": "Add",
        **dict.fromkeys(roles, "Add"),
    }
    stack.deploy(FOUNDATION, **given)
    assert stack.changes(FOUNDATION) == {}
    assert stack.changes(FOUNDATION, **given, Encryption="S3") == {}
    kms = {"Key": "Add", **dict.fromkeys(("Bucket", "Surroundings", "PipelineRole"), "Modify")}
    assert stack.changes(FOUNDATION, Encryption="KMS") == kms
    key = stack.deploy(FOUNDATION, Encryption="KMS")["KeyArn"]
    iam, arn = cloud.client("iam"), f"arn:aws:iam::{ACCOUNT}:policy/{name}-surroundings"
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    policy = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    assert policy["Statement"][-1]["Resource"] == key
    assert stack.changes(FOUNDATION, Encryption="S3") == {**kms, "Key": "Remove"}
    assert "KeyArn" not in stack.deploy(FOUNDATION, Encryption="S3")
    encryption = cloud.client("s3").get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    assert encryption["Rules"][0]["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    # What was written with the key can still be read.
    assert cloud.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"


def test_what_a_text_holds_and_what_a_role_loses_is_changed(cloud: Cloud, stack: Deployer) -> None:
    name = unique("role")
    trust = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sts:AssumeRole"}
    allowed = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}

    def written(*policies: str) -> str:
        properties = {
            "RoleName": name,
            "Description": {"Fn::Sub": "for ${Word}"},
            "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust]},
            "Policies": [
                {"PolicyName": policy, "PolicyDocument": {"Version": "2012-10-17", "Statement": [allowed]}}
                for policy in policies
            ],
        }
        role = {"Type": "AWS::IAM::Role", "Properties": properties}
        return template({"Role": role}, Parameters={"Word": {"Type": "String", "Default": "first"}})

    stack.deploy(written("kept", "lost"))
    assert stack.changes(written("kept", "lost"), Word="second") == {"Role": "Modify"}
    stack.deploy(written("kept"), Word="second")
    iam = cloud.client("iam")
    assert iam.list_role_policies(RoleName=name)["PolicyNames"] == ["kept"]
    assert iam.get_role(RoleName=name)["Role"]["Description"] == "for second"


def test_a_shared_policy_and_a_provider_change_in_place(cloud: Cloud, stack: Deployer) -> None:
    name, iam = unique("policy"), cloud.client("iam")
    url = f"https://{unique('issuer')}.example.com"

    def written(action: str, client: str, **more: Any) -> str:
        document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}
        policy = {"ManagedPolicyName": name, "PolicyDocument": document}
        return template(
            {
                "Policy": {"Type": "AWS::IAM::ManagedPolicy", "Properties": policy},
                "Issuer": {
                    "Type": "AWS::IAM::OIDCProvider",
                    "Properties": {"Url": url, "ClientIdList": [client], **more},
                },
            },
            Outputs={key: {"Value": {"Ref": key}} for key in ("Policy", "Issuer")},
        )

    def allowed(arn: str) -> str:
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        return str(document["Statement"][0]["Action"])

    first = stack.deploy(written("sqs:SendMessage", "one"))
    assert first["Policy"] == f"arn:aws:iam::{ACCOUNT}:policy/{name}"
    assert first["Issuer"] == f"arn:aws:iam::{ACCOUNT}:oidc-provider/{url.removeprefix('https://')}"
    assert allowed(first["Policy"]) == "sqs:SendMessage"
    assert stack.deploy(written("sqs:ReceiveMessage", "two")) == first
    assert allowed(first["Policy"]) == "sqs:ReceiveMessage"
    assert len(iam.list_policy_versions(PolicyArn=first["Policy"])["Versions"]) == 1
    assert iam.get_open_id_connect_provider(OpenIDConnectProviderArn=first["Issuer"])["ClientIDList"] == ["two"]
    with pytest.raises(stacks.StackError, match="the embedded SageMaker has no Tags"):
        stack.deploy(written("sqs:ReceiveMessage", "two", Tags=[{"Key": "a", "Value": "b"}]))
    stack.destroy()
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_open_id_connect_provider(OpenIDConnectProviderArn=first["Issuer"])
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_policy(PolicyArn=first["Policy"])


def deployment(machine: str) -> str:
    return definition(
        step("Deploy", "echo $ON", arguments={"Environment": {"ON": {"Get": "Parameters.EndpointInstanceType"}}}),
        parameters=[{"Name": "EndpointInstanceType", "Type": "String", "DefaultValue": machine}],
    )


def test_an_approval_goes_through_the_stacks_rule(cloud: Cloud, stack: Deployer) -> None:
    name = unique("signs")
    outputs = stack.deploy(AUTOMATION, Name=name)
    sagemaker = cloud.sagemaker
    sagemaker.create_model_package_group(ModelPackageGroupName=name)
    package = sagemaker.create_model_package(ModelPackageGroupName=name)["ModelPackageArn"]
    # There is no pipeline yet.
    sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus="Approved")
    url = outputs["UndeliveredUrl"]
    read = {"QueueUrl": url, "MessageAttributeNames": ["All"], "WaitTimeSeconds": 1}
    (letter,) = wait_until(lambda: cloud.client("sqs").receive_message(**read).get("Messages", []), bool)
    assert json.loads(letter["Body"])["detail"]["ModelPackageArn"] == package
    assert letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_RESOURCE"
    pipeline = f"{name}-deployment"
    sagemaker.create_pipeline(PipelineName=pipeline, PipelineDefinition=deployment("ml.m6i.large"), RoleArn=ROLE)
    # The machine that was chosen since counts: the rule says nothing of it.
    sagemaker.update_pipeline(PipelineName=pipeline, PipelineDefinition=deployment("ml.c6i.large"))

    def executions() -> list[dict[str, Any]]:
        return list(sagemaker.list_pipeline_executions(PipelineName=pipeline)["PipelineExecutionSummaries"])

    sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus="PendingManualApproval")
    sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus="Rejected")
    (started,) = wait_until(executions, bool)
    run = cloud.ended(started["PipelineExecutionArn"])
    job = run.steps["Deploy"]["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
    assert cloud.log("/aws/sagemaker/ProcessingJobs", job) == ["ml.c6i.large"]
    assert stack.changes(AUTOMATION, State="DISABLED") == {"ApprovalRule": "Modify"}
    stack.deploy(AUTOMATION, State="DISABLED")
    assert cloud.client("events").describe_rule(Name=outputs["ApprovalRule"])["State"] == "DISABLED"
    stack.destroy()
    stack.destroy()
    assert queues(cloud, name) == []


def test_a_stack_survives_the_death_of_the_server(tmp_path: Path) -> None:
    session = boto3.Session("local", "local", region_name=REGION)
    config = Config(retries={"total_max_attempts": 1}, proxies={})

    def started() -> tuple[int, Callable[[str], Any]]:
        server = control.start(tmp_path, 0, REGION)
        return server.pid, lambda service: session.client(service, endpoint_url=server.url, config=config)

    try:
        pid, client = started()
        name, bucket = unique("signs"), unique("bucket")
        cloudformation = client("cloudformation")
        parameters = {"Name": name, "BucketName": bucket}
        stacks.apply(cloudformation, stacks.plan(cloudformation, "base", FOUNDATION, parameters))
        stacks.apply(cloudformation, stacks.plan(cloudformation, "auto", AUTOMATION, {"Name": name}))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        _, client = started()
        cloudformation = client("cloudformation")
        assert stacks.outputs(cloudformation, "base")["BucketName"] == bucket
        assert stacks.plan(cloudformation, "base", FOUNDATION, {}).changes == ()
        planned = stacks.plan(cloudformation, "auto", AUTOMATION, {"State": "DISABLED"})
        assert [change.logical_id for change in planned.changes] == ["ApprovalRule"]
        rule = stacks.apply(cloudformation, planned)["ApprovalRule"]
        assert client("events").describe_rule(Name=rule)["State"] == "DISABLED"
        for stack in ("auto", "base"):
            stacks.destroy(cloudformation, stack)
        assert client("events").list_rules()["Rules"] == []
        assert client("iam").list_roles()["Roles"] == []
        assert sorted(each["Name"] for each in client("s3").list_buckets()["Buckets"]) == [bucket, f"{bucket}-logs"]
    finally:
        control.stop(tmp_path)
