"""CloudFormation on the embedded SageMaker: what a template says is there; what cannot be is refused by its name."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from embedded_cloud import ROLE, Cloud, definition, step, wait_until

from infra import stacks
from infra.local import control

AWS = Path(stacks.__file__).with_name("aws")
FOUNDATION, AUTOMATION = ((AWS / f"{name}.yaml").read_text() for name in ("foundation", "automation"))
REGION, ACCOUNT = "eu-central-1", "123456789012"


def unique(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"


def template(resources: dict[str, Any], **more: Any) -> str:
    return json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources, **more})


def queue(name: str, **more: Any) -> dict[str, Any]:
    return {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": name}, **more}


class Deployer:
    """A stack of a test's own."""

    def __init__(self, cloud: Cloud) -> None:
        self.client, self.name = cloud.client("cloudformation"), unique("stack")

    def deploy(self, text: str, **parameters: str) -> dict[str, str]:
        return stacks.apply(self.client, stacks.plan(self.client, self.name, text, parameters))

    def changes(self, text: str, **parameters: str) -> dict[str, str]:
        """What a plan says, by logical name."""
        planned = stacks.plan(self.client, self.name, text, parameters)
        stacks.discard(self.client, planned)
        return {change.logical_id: change.action for change in planned.changes}

    def destroy(self) -> None:
        stacks.destroy(self.client, self.name)


@pytest.fixture
def stack(cloud: Cloud) -> Deployer:
    return Deployer(cloud)


def queues(cloud: Cloud, prefix: str) -> list[str]:
    urls = cloud.client("sqs").list_queues(QueueNamePrefix=prefix).get("QueueUrls", [])
    return sorted(url.rpartition("/")[2] for url in urls)


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


DEPLOYMENT = definition(
    step("Deploy", "echo $ON", arguments={"Environment": {"ON": {"Get": "Parameters.EndpointInstanceType"}}}),
    parameters=[{"Name": "EndpointInstanceType", "Type": "String"}],
)


def test_an_approval_goes_through_the_stacks_rule(cloud: Cloud, stack: Deployer) -> None:
    name = unique("signs")
    outputs = stack.deploy(AUTOMATION, Name=name, EndpointInstanceType="ml.c6i.large")
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
    sagemaker.create_pipeline(PipelineName=pipeline, PipelineDefinition=DEPLOYMENT, RoleArn=ROLE)

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
    (target,) = cloud.client("events").list_targets_by_rule(Rule=outputs["ApprovalRule"])["Targets"]
    assert target["SageMakerPipelineParameters"]["PipelineParameterList"][0]["Value"] == "ml.c6i.large"
    assert cloud.client("events").describe_rule(Name=outputs["ApprovalRule"])["State"] == "DISABLED"
    stack.destroy()
    stack.destroy()
    assert queues(cloud, name) == []


def test_types_that_are_not_there_are_refused_by_name(cloud: Cloud, stack: Deployer) -> None:
    name = unique("queue")
    unknown = {
        "Queue": queue(name),
        "Budget": {"Type": "AWS::Budgets::Budget", "Properties": {}},
        # moto has this one, in books of its own.
        "Endpoint": {"Type": "AWS::SageMaker::Endpoint", "Properties": {"EndpointConfigName": "any"}},
    }
    message = r"no resource types \[AWS::Budgets::Budget, AWS::SageMaker::Endpoint\]"
    with pytest.raises(stacks.StackError, match=message):
        stack.deploy(template(unknown))
    with pytest.raises(ClientError, match=message):
        stack.client.create_stack(StackName=stack.name, TemplateBody=template(unknown))
    with pytest.raises(stacks.StackError, match="there is no stack"):
        stacks.outputs(stack.client, stack.name)
    stack.deploy(template({"Queue": queue(name)}))
    with pytest.raises(ClientError, match=message):
        stack.client.update_stack(StackName=stack.name, TemplateBody=template(unknown))
    # Where the condition says that they are not wanted, they do no harm.
    never = {"Conditions": {"Never": {"Fn::Equals": ["a", "b"]}}}
    conditional = {key: {**node, "Condition": "Never"} for key, node in unknown.items() if key != "Queue"}
    assert stack.changes(template({"Queue": queue(name), **conditional}, **never)) == {}


def test_a_condition_made_of_others_is_read_in_its_short_form(cloud: Cloud, stack: Deployer) -> None:
    name = unique("queue")
    text = f"""
    Parameters: {{Word: {{Type: String, Default: ""}}}}
    Conditions:
      Given: !Not [!Equals [!Ref Word, ""]]
      Both: !And [!Condition Given, !Equals [a, a]]
    Resources:
      Always: {{Type: "AWS::SQS::Queue", Properties: {{QueueName: {name}-always}}}}
      Sometimes: {{Type: "AWS::SQS::Queue", Condition: Both, Properties: {{QueueName: {name}-sometimes}}}}
    """
    assert stack.changes(text) == {"Always": "Add"}
    assert stack.changes(text, Word="yes") == {"Always": "Add", "Sometimes": "Add"}
    stack.deploy(text, Word="yes")
    assert queues(cloud, name) == [f"{name}-always", f"{name}-sometimes"]


def test_templates_that_are_none_are_refused(cloud: Cloud, stack: Deployer) -> None:
    def message(text: str) -> str:
        with pytest.raises(stacks.StackError, match="Template format error") as raised:
            stack.deploy(text)
        return str(raised.value)

    assert "At least one Resources member" in message("{}")
    assert "line 1" in message("Resources: [")
    assert "[/Resources/A]" in message(template({"A": {}}))
    url = {"Fn::Sub": ["${Own}${AWS::Region}${Nobody.Arn}", {"Own": "x"}]}
    assert "[Nobody]" in message(template({"A": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": url}}}))
    circle = {"A": queue(unique("queue"), DependsOn="B"), "B": queue(unique("queue"), DependsOn="A")}
    with pytest.raises(stacks.StackError, match="Circular dependency"):
        stack.deploy(template(circle))
    with pytest.raises(stacks.StackError, match="Missing parameter"):
        stack.deploy(template({"A": queue("a")}, Parameters={"Wanted": {"Type": "String"}}))


def test_a_type_that_cannot_be_changed_says_so(cloud: Cloud, stack: Deployer) -> None:
    def group(name: str) -> str:
        return template({"Log": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": name}}})

    name = unique("log")
    stack.deploy(group(name))
    with pytest.raises(stacks.StackError, match=r"Log .AWS::Logs::LogGroup.: .*cannot change"):
        stack.deploy(group(f"{name}-other"))
    assert stack.changes(group(name)) == {}
    stack.destroy()
    assert cloud.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"] == []


def test_a_property_without_effect_is_refused_and_what_was_made_is_undone(cloud: Cloud, stack: Deployer) -> None:
    name, bucket = unique("queue"), unique("bucket")
    kept = {"Type": "AWS::S3::Bucket", "DeletionPolicy": "RetainExceptOnCreate", "Properties": {"BucketName": bucket}}
    broken = {"Type": "AWS::S3::Bucket", "DependsOn": ["Kept", "Queue"], "Properties": {"WebsiteConfiguration": {}}}
    with pytest.raises(stacks.StackError, match=r"Broken .AWS::S3::Bucket.: .*no WebsiteConfiguration"):
        stack.deploy(template({"Broken": broken, "Kept": kept, "Queue": queue(name)}))
    assert queues(cloud, name) == []
    assert bucket not in [each["Name"] for each in cloud.client("s3").list_buckets()["Buckets"]]
    assert stack.client.list_stacks()["StackSummaries"]
    with pytest.raises(stacks.StackError, match="there is no stack"):
        stacks.outputs(stack.client, stack.name)


def test_an_update_that_fails_is_rolled_back(cloud: Cloud, stack: Deployer) -> None:
    first, second = unique("queue"), unique("queue")
    old = {"Name": queue(first), "Gone": queue(f"{first}-gone")}
    stack.deploy(template(old, Outputs={"Url": {"Value": {"Fn::GetAtt": ["Name", "QueueName"]}}}))
    bad = {"Type": "AWS::S3::BucketPolicy", "DependsOn": "Added", "Properties": {"Bucket": unique("b"), "Policy": {}}}
    with pytest.raises(stacks.StackError, match=r"UPDATE_ROLLBACK_COMPLETE.*Bad .AWS::S3::BucketPolicy."):
        stack.deploy(template({"Name": queue(second), "Added": queue(f"{second}-added"), "Bad": bad}))
    assert (queues(cloud, first), queues(cloud, second)) == ([first, f"{first}-gone"], [])
    assert stacks.outputs(stack.client, stack.name) == {"Url": first}
    assert stack.changes(template(old)) == {}


def test_what_refers_to_a_replaced_resource_follows_it(cloud: Cloud, stack: Deployer) -> None:
    first, second, rule = unique("queue"), unique("queue"), unique("rule")
    pattern = {"source": ["nobody"]}
    target = {"Id": "queue", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}}
    resources = {
        "Rule": {
            "Type": "AWS::Events::Rule",
            "Properties": {"Name": rule, "EventPattern": pattern, "Targets": [target]},
        },
        "Queue": queue(first),
    }
    stack.deploy(template(resources))
    stack.deploy(template({**resources, "Queue": queue(second)}))
    (now,) = cloud.client("events").list_targets_by_rule(Rule=rule)["Targets"]
    assert now["Arn"].endswith(second)
    assert queues(cloud, first) == []
    # Left out of the template, a resource is deleted unless it is to be retained.
    retained = {**resources, "Queue": queue(second, DeletionPolicy="Retain")}
    stack.deploy(template(retained))
    stack.deploy(template({"Other": queue(f"{second}-other")}))
    assert queues(cloud, second) == [second, f"{second}-other"]
    with pytest.raises(ClientError):
        cloud.client("events").describe_rule(Name=rule)


def test_a_stack_that_cannot_be_deleted_says_which_resource(cloud: Cloud, stack: Deployer) -> None:
    bucket = unique("bucket")
    stack.deploy(template({"Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": bucket}}}))
    cloud.client("s3").put_object(Bucket=bucket, Key="a", Body=b"")
    with pytest.raises(stacks.StackError, match=f"Bucket .AWS::S3::Bucket.: .*not empty: {bucket}"):
        stack.destroy()
    cloud.client("s3").delete_object(Bucket=bucket, Key="a")
    stack.destroy()


def test_pipelines_and_groups_of_a_stack_are_sagemakers_own(cloud: Cloud, stack: Deployer) -> None:
    name = unique("stacked")

    def described(text: str, **tags: str) -> str:
        pipeline = {
            "PipelineName": name,
            "PipelineDefinition": {"PipelineDefinitionBody": text},
            "RoleArn": ROLE,
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }
        group = {"ModelPackageGroupName": name, "ModelPackageGroupDescription": "described"}
        return template(
            {
                "Pipeline": {"Type": "AWS::SageMaker::Pipeline", "Properties": pipeline},
                "Group": {"Type": "AWS::SageMaker::ModelPackageGroup", "Properties": group},
            },
            Outputs={"Name": {"Value": {"Ref": "Pipeline"}}, "Group": {"Value": {"Ref": "Group"}}},
        )

    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
    outputs = stack.deploy(described(definition(), team="a", gone="b"))
    assert outputs == {"Name": name, "Group": f"{arn}:model-package-group/{name}"}
    second = definition(step("A", "true"))
    stack.deploy(described(second, team="c"))
    assert cloud.sagemaker.describe_pipeline(PipelineName=name)["PipelineDefinition"] == second
    assert cloud.sagemaker.list_tags(ResourceArn=f"{arn}:pipeline/{name}")["Tags"] == [{"Key": "team", "Value": "c"}]
    with pytest.raises(stacks.StackError, match=r"Pipeline .AWS::SageMaker::Pipeline.: Unable to parse"):
        stack.deploy(described("no JSON"))
    cloud.put({"definition.json": definition()})
    text = json.loads(described(second))
    location = {"PipelineDefinitionS3Location": {"Bucket": cloud.bucket, "Key": "definition.json"}}
    text["Resources"]["Pipeline"]["Properties"]["PipelineDefinition"] = location
    stack.deploy(json.dumps(text))
    assert cloud.sagemaker.describe_pipeline(PipelineName=name)["PipelineDefinition"] == definition()
    stack.destroy()
    with pytest.raises(ClientError, match=name):
        cloud.sagemaker.describe_pipeline(PipelineName=name)
    with pytest.raises(ClientError, match=name):
        cloud.sagemaker.describe_model_package_group(ModelPackageGroupName=name)


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
        planned = stacks.plan(cloudformation, "auto", AUTOMATION, {"EndpointInstanceType": "ml.c6i.large"})
        assert [change.logical_id for change in planned.changes] == ["ApprovalRule"]
        rule = stacks.apply(cloudformation, planned)["ApprovalRule"]
        (target,) = client("events").list_targets_by_rule(Rule=rule)["Targets"]
        assert target["SageMakerPipelineParameters"]["PipelineParameterList"][0]["Value"] == "ml.c6i.large"
        for stack in ("auto", "base"):
            stacks.destroy(cloudformation, stack)
        assert client("events").list_rules()["Rules"] == []
        assert client("iam").list_roles()["Roles"] == []
        assert sorted(each["Name"] for each in client("s3").list_buckets()["Buckets"]) == [bucket, f"{bucket}-logs"]
    finally:
        control.stop(tmp_path)
