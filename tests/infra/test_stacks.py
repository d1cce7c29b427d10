"""Deploying by change set, where CloudFormation takes its time; and what the project's own templates promise."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber
from cfnlint.decode import cfn_yaml
from moto.events.models import EventPattern

from infra import policies, stacks
from infra.local.events import details as event_details
from infra.local.service import service_model
from pipeline import clouds, parameters, settings

ROOT = Path(stacks.__file__).parents[1]
TEMPLATES = {path.stem: path for path in (ROOT / "infra" / "aws").glob("*.yaml")}

# A CloudFormation that takes its time, in the words of the real one

STACK = "arn:aws:cloudformation:eu-central-1:123456789012:stack/signs/1"
CHANGE_SET = "arn:aws:cloudformation:eu-central-1:123456789012:changeSet/change/1"
MISSING = ("ValidationError", "Stack with id signs does not exist")


class Script:
    """What CloudFormation answers, in this order."""

    def __init__(self) -> None:
        self.client = boto3.Session("none", "none", region_name="eu-central-1").client(
            "cloudformation", endpoint_url="http://127.0.0.1:9", config=Config(retries={"total_max_attempts": 1})
        )
        self.stub = Stubber(self.client)
        self.stub.activate()

    def says(self, action: str, **answer: Any) -> None:
        self.stub.add_response(action, answer)

    def has(self, status: str | None) -> None:
        """Answer DescribeStacks."""
        if status is None:
            self.stub.add_client_error("describe_stacks", *MISSING)
            return
        described = {"StackName": "signs", "StackId": STACK, "StackStatus": status, "CreationTime": 0}
        self.says("describe_stacks", Stacks=[{**described, "Outputs": [{"OutputKey": "A", "OutputValue": "b"}]}])

    def happened(self, *told: tuple[str, str, str], token: str | None = None) -> None:
        """Answer DescribeStackEvents: resource, status and reason, the newest first."""
        shown = [
            {
                "StackId": STACK,
                "StackName": "signs",
                "EventId": f"{name}-{status}",
                "LogicalResourceId": name,
                "PhysicalResourceId": STACK if name == "signs" else name,
                "ResourceType": "AWS::CloudFormation::Stack" if name == "signs" else "AWS::S3::Bucket",
                "ResourceStatus": status,
                "ResourceStatusReason": reason,
                "Timestamp": 0,
            }
            for name, status, reason in told
        ]
        self.says("describe_stack_events", StackEvents=shown, **({"NextToken": token} if token else {}))

    def change(self, status: str, *names: str, reason: str = "", token: str | None = None) -> None:
        """Answer DescribeChangeSet."""
        changed = [
            {"ResourceChange": {"Action": "Modify", "LogicalResourceId": n, "ResourceType": "T", "Replacement": "True"}}
            for n in names
        ]
        more = {"NextToken": token} if token else {}
        self.says("describe_change_set", Status=status, StatusReason=reason, Changes=changed, **more)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    monkeypatch.setattr(stacks, "POLL_SECONDS", 0.0)
    script = Script()
    yield script
    script.stub.assert_no_pending_responses()


BEGUN = ("signs", "REVIEW_IN_PROGRESS", "")


def test_a_plan_waits_for_its_change_set_and_reads_all_of_it(script: Script) -> None:
    script.has("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
    script.has("UPDATE_COMPLETE")
    script.says("get_template_summary", Parameters=[{"ParameterKey": "New"}])
    script.says("create_change_set", Id=CHANGE_SET, StackId=STACK)
    script.change("CREATE_IN_PROGRESS")
    script.change("CREATE_COMPLETE", "First", token="more")
    script.change("CREATE_COMPLETE", "Second")
    planned = stacks.plan(script.client, "signs", "{}", {})
    changes = tuple(stacks.Change("Modify", name, "T", "True") for name in ("First", "Second"))
    assert planned == stacks.Plan("signs", CHANGE_SET, changes)


def test_a_plan_without_changes_is_empty_and_leaves_no_change_set(script: Script) -> None:
    script.has("CREATE_COMPLETE")
    script.says("get_template_summary")
    script.says("create_change_set", Id=CHANGE_SET, StackId=STACK)
    script.change("FAILED", reason="The submitted information didn't contain changes. Submit different information.")
    script.says("delete_change_set")
    script.has("CREATE_COMPLETE")
    planned = stacks.plan(script.client, "signs", "{}", {})
    assert planned == stacks.Plan("signs", None, ())
    script.has("CREATE_COMPLETE")
    assert stacks.apply(script.client, planned) == {"A": "b"}


def test_a_change_set_that_fails_leaves_no_stack_in_review(script: Script) -> None:
    script.has(None)
    script.says("create_change_set", Id=CHANGE_SET, StackId=STACK)
    script.change("FAILED", reason="No such transform")
    script.says("delete_change_set")
    script.has("REVIEW_IN_PROGRESS")
    script.has("REVIEW_IN_PROGRESS")
    script.happened(BEGUN)
    script.says("delete_stack")
    script.has("DELETE_COMPLETE")
    with pytest.raises(stacks.StackError, match="signs: No such transform"):
        stacks.plan(script.client, "signs", "{}", {})


def test_applying_waits_until_the_stack_has_begun_and_ended(script: Script) -> None:
    script.happened(BEGUN)
    script.says("execute_change_set")
    # Not a sign of it yet, and the stack's old status would be taken for the new one.
    script.happened(BEGUN)
    script.happened(("signs", "UPDATE_IN_PROGRESS", "User Initiated"), BEGUN)
    script.has("UPDATE_IN_PROGRESS")
    script.has("UPDATE_COMPLETE")
    assert stacks.apply(script.client, stacks.Plan("signs", CHANGE_SET, ())) == {"A": "b"}


def test_a_creation_that_fails_is_cleaned_up_and_explained(script: Script) -> None:
    script.happened(BEGUN)
    script.says("execute_change_set")
    script.happened(("signs", "CREATE_IN_PROGRESS", ""), BEGUN)
    script.has("ROLLBACK_IN_PROGRESS")
    script.has("ROLLBACK_COMPLETE")
    script.happened(
        ("signs", "ROLLBACK_COMPLETE", ""),
        ("signs", "ROLLBACK_FAILED", "The following resource(s) failed to create: [Bucket]."),
        ("Queue", "CREATE_FAILED", "Resource creation cancelled"),
        token="more",
    )
    script.happened(
        ("Bucket", "CREATE_FAILED", "bucket already exists"), BEGUN, ("Bucket", "CREATE_FAILED", "long ago")
    )
    script.has("ROLLBACK_COMPLETE")
    script.happened(("signs", "ROLLBACK_COMPLETE", ""))
    script.says("delete_stack")
    script.has("DELETE_IN_PROGRESS")
    script.has("DELETE_COMPLETE")
    with pytest.raises(stacks.StackError) as raised:
        stacks.apply(script.client, stacks.Plan("signs", CHANGE_SET, ()))
    assert str(raised.value) == (
        "stack signs was rolled back (ROLLBACK_COMPLETE): Bucket (AWS::S3::Bucket): bucket already exists"
    )


def test_a_deletion_that_failed_before_is_waited_for_again(script: Script) -> None:
    earlier = ("signs", "DELETE_FAILED", "not empty")
    script.has("DELETE_FAILED")
    script.happened(earlier)
    script.says("delete_stack")
    script.has("DELETE_FAILED")  # Still the status of the last time.
    script.happened(earlier)
    script.has("DELETE_IN_PROGRESS")
    script.has("DELETE_COMPLETE")
    stacks.destroy(script.client, "signs")


DETECTED = {"StackId": STACK, "StackDriftDetectionId": "1", "Timestamp": 0}


def test_what_was_changed_by_hand_is_told_with_its_places(script: Script) -> None:
    script.says("detect_stack_drift", StackDriftDetectionId="1")
    script.says("describe_stack_drift_detection_status", DetectionStatus="DETECTION_IN_PROGRESS", **DETECTED)
    script.says("describe_stack_drift_detection_status", DetectionStatus="DETECTION_COMPLETE", **DETECTED)
    drift = {"StackId": STACK, "ResourceType": "T", "Timestamp": 0}
    place = {"PropertyPath": "/State", "ExpectedValue": "a", "ActualValue": "b", "DifferenceType": "NOT_EQUAL"}
    changed = {"LogicalResourceId": "Rule", "StackResourceDriftStatus": "MODIFIED", "PropertyDifferences": [place]}
    gone = {"LogicalResourceId": "Queue", "StackResourceDriftStatus": "DELETED"}
    script.says("describe_stack_resource_drifts", StackResourceDrifts=[{**drift, **changed}], NextToken="more")
    script.says("describe_stack_resource_drifts", StackResourceDrifts=[{**drift, **gone}])
    assert stacks.drift(script.client, "signs") == ["Rule modified (/State)", "Queue deleted"]


def test_a_drift_that_cannot_be_detected_is_an_error(script: Script) -> None:
    script.says("detect_stack_drift", StackDriftDetectionId="1")
    failed = {"DetectionStatus": "DETECTION_FAILED", "DetectionStatusReason": "no rights"}
    script.says("describe_stack_drift_detection_status", **DETECTED, **failed)
    with pytest.raises(stacks.StackError, match="signs: its drift: no rights"):
        stacks.drift(script.client, "signs")


# On the embedded SageMaker

QUEUE = json.dumps({"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}})


def test_a_discarded_plan_leaves_nothing(client: Callable[[str], Any]) -> None:
    cloudformation, name = client("cloudformation"), "discarded"
    stacks.discard(cloudformation, stacks.plan(cloudformation, name, QUEUE, {}))
    with pytest.raises(stacks.StackError, match="there is no stack discarded"):
        stacks.outputs(cloudformation, name)


def test_a_plan_that_nobody_applied_is_no_obstacle(client: Callable[[str], Any]) -> None:
    cloudformation, name = client("cloudformation"), "planned-twice"
    first = stacks.plan(cloudformation, name, QUEUE, {})
    second = stacks.plan(cloudformation, name, QUEUE, {})
    with pytest.raises(stacks.StackError):
        stacks.apply(cloudformation, first)
    stacks.apply(cloudformation, second)
    assert stacks.plan(cloudformation, name, QUEUE, {}).changes == ()
    stacks.destroy(cloudformation, name)


# The templates


def load(name: str) -> Any:
    text = TEMPLATES[name].read_text()
    return json.loads(json.dumps(cfn_yaml.loads(text)))


def statements(name: str) -> list[dict[str, Any]]:
    """All statements of all of a template's policies."""

    def found(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if "Effect" in node:
                yield node
            for item in node.values():
                yield from found(item)
        elif isinstance(node, list):
            for item in node:
                yield from found(item)

    return list(found(load(name)["Resources"]))


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_template_passes_the_linter(name: str) -> None:
    linter = Path(sys.executable).with_name("cfn-lint")
    command = [linter, "--non-zero-exit-code", "informational", TEMPLATES[name]]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def sizes(template: str) -> dict[str, int]:
    """Characters of a role's own policies together, and of a managed one, without white space."""
    found: dict[str, int] = {}
    for name, document in policies.documents(template):
        text = re.sub(
            r"\bname\b", "x" * 40, json.dumps(document, separators=(",", ":")).replace("bucketname", "x" * 58)
        )
        found[name.partition(",")[0]] = found.get(name.partition(",")[0], 0) + len(text)
    return found


def test_templates_and_policies_are_no_larger_than_aws_takes_them() -> None:
    for name, path in TEMPLATES.items():
        # CreateChangeSet, TemplateBody; IAM quotas: inline policies of a role, a managed policy.
        assert len(path.read_bytes()) <= 51_200
        for resource, size in sizes(path.read_text()).items():
            managed = load(name)["Resources"][resource]["Type"] == "AWS::IAM::ManagedPolicy"
            assert size <= (6_144 if managed else 10_240), resource


def test_bucket_queue_and_topic_are_closed_to_unencrypted_connections() -> None:
    closed = {"network": set(), "foundation": {"s3:*"}, "automation": {"sqs:*", "sns:Publish"}}
    for name in TEMPLATES:
        denied = [statement for statement in statements(name) if statement["Effect"] == "Deny"]
        assert [each["Principal"] for each in denied] == ["*"] * len(denied)
        assert {each["Action"] for each in denied} == closed[name]
        assert all(each["Condition"] == {"Bool": {"aws:SecureTransport": "false"}} for each in denied)


def lacking(outputs: dict[str, set[str]]) -> set[str]:
    """What the code takes from the stacks, and no template gives."""
    roles = {f"{actor.capitalize()}RoleArn" for actor in get_args(clouds.Actor)}
    taken = {
        "foundation": {"RoleArn", "KeyArn", *roles},
        "network": {"Subnets", "SecurityGroups"},
        "automation": {"AlertTopicArn"},
    }
    assert set(taken) == set(clouds.STACKS)
    return {output for template, needed in taken.items() for output in needed - outputs[template]}


def test_the_stacks_give_what_is_taken_from_them() -> None:
    given = {name: set(load(name)["Outputs"]) for name in TEMPLATES}
    assert lacking(given) == set()
    assert lacking({**given, "foundation": given["foundation"] - {"DeployRoleArn"}}) == {"DeployRoleArn"}


def test_every_job_and_the_model_run_with_the_role_that_is_theirs() -> None:
    outputs = {name: load(name)["Outputs"] for name in TEMPLATES}["foundation"]
    for actor in get_args(clouds.Actor):
        made = outputs[f"{actor.capitalize()}RoleArn"]["Value"]["Fn::GetAtt"][0]
        named = load("foundation")["Resources"][made]["Properties"]["RoleName"]["Fn::Sub"]
        assert named == f"${{Name}}-{actor}"


def test_the_rule_hears_what_the_registry_says_and_starts_the_deployment_pipeline() -> None:
    rule = load("automation")["Resources"]["ApprovalRule"]["Properties"]
    values = settings.load()
    pattern = json.dumps(rule["EventPattern"]).replace('{"Ref": "Name"}', json.dumps(values.model_package_group))
    heard = EventPattern.load(pattern)

    def hears(group: str, status: str) -> bool:
        package = {"ModelPackageArn": "a", "ModelPackageGroupName": group, "ModelApprovalStatus": status}
        change = event_details.resource(service_model(), "ModelPackage", package, {})
        return bool(
            heard.matches_event({"source": "aws.sagemaker", "detail-type": change.detail_type, "detail": change.detail})
        )

    ours = values.model_package_group
    assert [hears(ours, status) for status in ("Approved", "Rejected", "PendingManualApproval")] == [True, True, False]
    assert not hears("another", "Approved")
    (target,) = rule["Targets"]
    assert target["Arn"]["Fn::Sub"].replace("${Name}", values.name).endswith(f":pipeline/{values.deployment_pipeline}")
    assert "SageMakerPipelineParameters" not in target, "what the pipeline was upserted with counts, not an old stack"
    scheduled = load("automation")["Resources"]["ScheduleRule"]["Properties"]["Targets"][0]
    given = scheduled["SageMakerPipelineParameters"]["PipelineParameterList"]
    assert {parameter["Name"] for parameter in given} <= set(parameters.SETTINGS) | {"InputData"}
    # The queue and the role name the rule by its ARN, since a reference would be a circle.
    text = TEMPLATES["automation"].read_text()
    assert rule["Name"]["Fn::Sub"] == "${Name}-approval"
    assert text.count(":rule/${Name}-approval") == 2
    assert text.count(":rule/${Name}-schedule") == 2
