"""Anybody's templates on the embedded SageMaker: what cannot be is refused by its name, what fails is undone."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError
from embedded_cloud import ROLE, Cloud, definition, step
from stack_parts import Deployer, queue, queues, template, unique

from infra import stacks

REGION, ACCOUNT = "eu-central-1", "123456789012"


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
