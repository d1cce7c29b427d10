"""What happens by itself: failures are told, schedules and budgets are there only if they are wanted."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml

from infra import stacks
from pipeline import infrastructure, settings
from pipeline.clouds import Cloud

AWS = Path(stacks.__file__).with_name("aws")
TEXT = (AWS / "automation.yaml").read_text()
ROLE = "arn:aws:iam::123456789012:role/any"


def broken() -> str:
    """A definition whose only step fails."""
    fail = {"Name": "Fail", "Type": "Fail", "Arguments": {"ErrorMessage": "as was to be shown"}}
    return json.dumps({"Version": "2020-12-01", "Parameters": [], "Steps": [fail]})


class Deployed:
    """The stack under a name of its own."""

    def __init__(self, client: Callable[[str], Any]) -> None:
        self.client, self.name = client, f"signs-{secrets.token_hex(3)}"

    def plan(self, **given: str) -> stacks.Plan:
        return stacks.plan(self.client("cloudformation"), self.name, TEXT, {"Name": self.name, **given})

    def changes(self, **given: str) -> dict[str, str]:
        planned = self.plan(**given)
        stacks.discard(self.client("cloudformation"), planned)
        return {change.logical_id: change.action for change in planned.changes}

    def deploy(self, **given: str) -> dict[str, str]:
        return stacks.apply(self.client("cloudformation"), self.plan(**given))


@pytest.fixture
def stack(client: Callable[[str], Any]) -> Deployed:
    return Deployed(client)


def test_a_failed_execution_is_told(client: Callable[[str], Any], stack: Deployed) -> None:
    outputs = stack.deploy(AlertEmail="someone@example.com")
    sns, sqs, sagemaker = client("sns"), client("sqs"), client("sagemaker")
    topic = outputs["AlertTopicArn"]
    (mail,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert (mail["Protocol"], mail["Endpoint"]) == ("email", "someone@example.com")
    url = sqs.create_queue(QueueName=f"{stack.name}-heard")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    # Of another's pipeline nothing is told.
    for pipeline in (f"{stack.name}-another", f"{stack.name}-training"):
        sagemaker.create_pipeline(PipelineName=pipeline, PipelineDefinition=broken(), RoleArn=ROLE)
        started = sagemaker.start_pipeline_execution(PipelineName=pipeline)["PipelineExecutionArn"]
    deadline, heard = time.monotonic() + 30, []
    while not heard and time.monotonic() < deadline:
        heard = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages", [])
    told = json.loads(json.loads(heard[0]["Body"])["Message"])
    assert told["detail"]["currentPipelineExecutionStatus"] == "Failed"
    assert told["detail"]["pipelineExecutionArn"] == started
    assert "Messages" not in sqs.receive_message(QueueUrl=url)


def test_what_could_not_be_started_sounds_an_alarm_of_a_metric_that_exists(
    client: Callable[[str], Any], stack: Deployed
) -> None:
    topic = stack.deploy()["AlertTopicArn"]
    (alarm,) = client("cloudwatch").describe_alarms(AlarmNames=[f"{stack.name}-undelivered"])["MetricAlarms"]
    # SQS developer guide, "Available CloudWatch metrics for Amazon SQS".
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible")
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": f"{stack.name}-undelivered"}]
    assert (alarm["AlarmActions"], alarm["ActionsEnabled"]) == ([topic], True)
    policy = json.loads(client("sns").get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"])
    services = {s["Principal"]["Service"] for s in policy["Statement"] if s["Effect"] == "Allow"}
    assert services == {"events.amazonaws.com", "cloudwatch.amazonaws.com"}


def test_nothing_is_scheduled_nor_kept_unless_it_is_wanted(client: Callable[[str], Any], stack: Deployed) -> None:
    made = stack.changes()
    assert not {"ScheduleRule", "ScheduleRole", "Budget", "AlertMail", "IdleFunction", "IdleRule"} & set(made)
    stack.deploy()
    wanted = {"TrainingSchedule": "cron(0 2 ? * SUN *)", "TrainingData": "s3://bucket/data"}
    assert stack.changes(**wanted) == {"ScheduleRule": "Add", "ScheduleRole": "Add"}
    stack.deploy(**wanted)
    rule = client("events").describe_rule(Name=f"{stack.name}-schedule")
    assert rule["ScheduleExpression"] == "cron(0 2 ? * SUN *)"
    (target,) = client("events").list_targets_by_rule(Rule=f"{stack.name}-schedule")["Targets"]
    given = target["SageMakerPipelineParameters"]["PipelineParameterList"]
    assert given == [{"Name": "InputData", "Value": "s3://bucket/data"}]
    assert target["Arn"].endswith(f":pipeline/{stack.name}-training")
    # A rule cannot start a function here.
    with pytest.raises(stacks.StackError, match=r"IdleRule .*lambda"):
        stack.deploy(IdleHours="12")
    # A budget cannot be had here, and says so; without anybody to tell there is none.
    assert stack.changes(MonthlyBudget="100") == {}
    with pytest.raises(stacks.StackError, match=r"no resource types \[AWS::Budgets::Budget\]"):
        stack.changes(MonthlyBudget="100", AlertEmail="someone@example.com")


def test_the_settings_give_the_templates_what_they_ask_for(client: Callable[[str], Any]) -> None:
    class Place(Cloud):
        def client(self, service: str) -> Any:
            return client(service)

    loaded, place = settings.load(), Place("local", None, "eu-central-1", "bucket", ROLE)
    for template in infrastructure.TEMPLATES:
        given = infrastructure._parameters(loaded, place, template)
        parameters = json.loads(json.dumps(cfn_yaml.loads((AWS / f"{template}.yaml").read_text())))["Parameters"]
        assert set(given) <= set(parameters)
        assert {name for name, declared in parameters.items() if "Default" not in declared} <= set(given)
        # What only a person changes, and what is said only where there is something to say.
        unsaid = {"State", "KeptKeyArn", "CreateGitHubProvider", "CreateImageRepository"}
        assert set(parameters) - set(given) <= unsaid
