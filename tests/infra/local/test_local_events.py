"""SageMaker's events and everybody else's, through the rules to their targets."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from embedded_cloud import ROLE, Cloud, definition, step, wait_until
from moto.events.models import events_backends

from infra.local import control
from infra.local.events import delivery as events
from infra.local.service import Service, refuse
from infra.local.store import Record, Store

ACCOUNT, REGION = "123456789012", "eu-central-1"
ARN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
PARAMETERS = [{"Name": "Package", "Type": "String"}, {"Name": "Version", "Type": "Integer", "DefaultValue": 0}]
SAY = definition(
    step("Say", "echo $SAID", arguments={"Environment": {"SAID": {"Get": "Parameters.Package"}}}), parameters=PARAMETERS
)


def pipeline_target(name: str, *parameters: tuple[str, str], **more: Any) -> dict[str, Any]:
    listed = [{"Name": key, "Value": value} for key, value in parameters]
    shown = {"SageMakerPipelineParameters": {"PipelineParameterList": listed}} if listed else {}
    return {"Id": "pipeline", "Arn": f"{ARN}:pipeline/{name}", "RoleArn": ROLE, **shown, **more}


def put_rule(cloud: Cloud, pattern: dict[str, Any], *targets: dict[str, Any], **more: Any) -> str:
    name = f"rule-{secrets.token_hex(4)}"
    cloud.client("events").put_rule(Name=name, EventPattern=json.dumps(pattern), **more)
    cloud.client("events").put_targets(Rule=name, Targets=list(targets))
    return name


def queue(cloud: Cloud) -> tuple[str, str]:
    """Make a queue; answers its URL and its ARN."""
    name = f"queue-{secrets.token_hex(4)}"
    return cloud.client("sqs").create_queue(QueueName=name)["QueueUrl"], f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


def received(cloud: Cloud, url: str, count: int) -> list[dict[str, Any]]:
    """Wait for so many messages."""
    found: list[dict[str, Any]] = []

    def read() -> list[dict[str, Any]]:
        answer = cloud.client("sqs").receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=1
        )
        for message in answer.get("Messages", []):
            cloud.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            found.append(message)
        return found

    return list(wait_until(read, lambda messages: len(messages) >= count))


def bodies(cloud: Cloud, url: str, count: int) -> list[dict[str, Any]]:
    return [json.loads(message["Body"]) for message in received(cloud, url, count)]


def attributes(message: dict[str, Any]) -> dict[str, str]:
    return {key: value["StringValue"] for key, value in message["MessageAttributes"].items()}


def executions(cloud: Cloud, pipeline: str) -> list[dict[str, Any]]:
    listed = cloud.sagemaker.list_pipeline_executions(PipelineName=pipeline)
    return list(listed["PipelineExecutionSummaries"])


def group(cloud: Cloud) -> str:
    name = f"group-{secrets.token_hex(4)}"
    cloud.sagemaker.create_model_package_group(ModelPackageGroupName=name)
    return name


def register(cloud: Cloud, group: str, **more: Any) -> str:
    return str(cloud.sagemaker.create_model_package(ModelPackageGroupName=group, **more)["ModelPackageArn"])


def decide(cloud: Cloud, package: str, status: str) -> None:
    cloud.sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus=status)


def approvals(group: str, *statuses: str) -> dict[str, Any]:
    return {
        "source": ["aws.sagemaker"],
        "detail-type": ["SageMaker Model Package State Change"],
        "detail": {"ModelPackageGroupName": [group], **({"ModelApprovalStatus": list(statuses)} if statuses else {})},
    }


def test_an_approval_runs_the_rules_pipeline_with_the_events_values_and_nothing_else_does(cloud: Cloud) -> None:
    pipeline, ours, other = cloud.create_pipeline(SAY), group(cloud), group(cloud)
    parameters = ("Package", "$.detail.ModelPackageArn"), ("Version", "$.detail.ModelPackageVersion")
    put_rule(cloud, approvals(ours, "Approved"), pipeline_target(pipeline, *parameters))
    decide(cloud, register(cloud, other), "Approved")
    decide(cloud, register(cloud, ours), "Rejected")
    package = register(cloud, ours)
    decide(cloud, package, "Approved")
    started = wait_until(lambda: executions(cloud, pipeline), bool)
    # Events are delivered in their order, so those that came before would have started something by now.
    assert len(started) == 1
    run = cloud.ended(started[0]["PipelineExecutionArn"])
    assert run.status == "Succeeded"
    job = run.steps["Say"]["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
    assert cloud.log("/aws/sagemaker/ProcessingJobs", job) == [package]
    given = cloud.sagemaker.list_pipeline_parameters_for_execution(PipelineExecutionArn=run.arn)["PipelineParameters"]
    assert {item["Name"]: item["Value"] for item in given} == {"Package": package, "Version": "2"}
    # Registered as approved, a version needs no update.
    register(cloud, ours, ModelApprovalStatus="Approved")
    wait_until(lambda: executions(cloud, pipeline), lambda found: len(found) == 2)


def test_a_model_packages_event_says_what_aws_documents(cloud: Cloud) -> None:
    url, arn = queue(cloud)
    ours = group(cloud)
    put_rule(cloud, approvals(ours), {"Id": "queue", "Arn": arn})
    package = register(cloud, ours)
    # A change of something else than the approval tells nobody.
    cloud.sagemaker.update_model_package(ModelPackageArn=package, CustomerMetadataProperties={"seed": "7"})
    decide(cloud, package, "Rejected")
    first, second = bodies(cloud, url, 2)
    assert set(first) == {
        *("version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"),
    }
    envelope = (first["version"], first["source"], first["account"], first["region"], first["resources"])
    assert envelope == ("0", "aws.sagemaker", ACCOUNT, REGION, [package])
    time.strptime(first["time"], "%Y-%m-%dT%H:%M:%SZ")
    assert first["id"] != second["id"]
    detail = second["detail"]
    assert detail["ModelPackageGroupName"] == ours
    assert (detail["ModelPackageArn"], detail["ModelPackageVersion"]) == (package, 1)
    assert (detail["ModelPackageStatus"], detail["ModelApprovalStatus"]) == ("Completed", "Rejected")
    assert detail["CustomerMetadataProperties"] == {"seed": "7"}
    time.strptime(detail["CreationTime"], "%Y-%m-%dT%H:%M:%SZ")
    assert first["detail"]["ModelApprovalStatus"] == "PendingManualApproval"


def test_an_endpoints_events_spell_its_status_in_their_own_way(cloud: Cloud) -> None:
    url, arn = queue(cloud)
    name = f"endpoint-{secrets.token_hex(4)}"
    pattern = {"detail-type": ["SageMaker Endpoint State Change"], "detail": {"EndpointName": [name]}}
    put_rule(cloud, pattern, {"Id": "queue", "Arn": arn})
    container = {"Image": "any", "ModelDataUrl": cloud.s3("nothing.tar.gz")}
    cloud.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {
        "VariantName": "All",
        "ModelName": name,
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
        "InitialVariantWeight": 1.0,
    }
    cloud.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    cloud.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=[{"Key": "team", "Value": "a"}])
    told = bodies(cloud, url, 2)
    cloud.sagemaker.delete_endpoint(EndpointName=name)
    told += bodies(cloud, url, 1)
    assert [event["detail"]["EndpointStatus"] for event in told] == ["CREATING", "FAILED", "DELETING"]
    assert told[0]["detail"]["Tags"] == {"team": "a"}
    assert isinstance(told[0]["detail"]["CreationTime"], int)


def test_what_cannot_be_started_ends_in_the_dead_letter_queue_at_once(cloud: Cloud) -> None:
    url, arn = queue(cloud)
    buried, ours = {"DeadLetterConfig": {"Arn": arn}}, group(cloud)
    missing = pipeline_target("no-such-pipeline", **buried)
    rule = put_rule(cloud, approvals(ours, "Approved"), missing)
    package = register(cloud, ours, ModelApprovalStatus="Approved")
    (letter,) = received(cloud, url, 1)
    assert json.loads(letter["Body"])["detail"]["ModelPackageArn"] == package
    told = attributes(letter)
    assert "no-such-pipeline" in told.pop("ERROR_MESSAGE")
    assert told == {
        "RULE_ARN": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{rule}",
        "TARGET_ARN": missing["Arn"],
        "ERROR_CODE": "NO_RESOURCE",
        "RETRY_ATTEMPTS": "0",
    }
    pipeline = cloud.create_pipeline(SAY)
    for parameter in (("NeverDeclared", "x"), ("Package", "$.detail.nowhere")):
        target = pipeline_target(pipeline, parameter, **buried)
        cloud.client("events").put_targets(Rule=rule, Targets=[target])
        decide(cloud, package, "Approved")
        (letter,) = received(cloud, url, 1)
        told = attributes(letter)
        assert told["ERROR_CODE"] == "INVALID_PARAMETER"
        assert parameter[0 if parameter[1] == "x" else 1] in told["ERROR_MESSAGE"]
    assert executions(cloud, pipeline) == []


def test_events_of_users_reach_pipelines_and_queues(cloud: Cloud) -> None:
    url, arn = queue(cloud)
    pipeline, source = cloud.create_pipeline(SAY), f"source-{secrets.token_hex(4)}"
    transformer = {"InputPathsMap": {"what": "$.detail.what"}, "InputTemplate": '{"heard": "<what>"}'}
    put_rule(
        cloud,
        {"source": [source]},
        pipeline_target(pipeline, ("Package", "$.detail.what")),
        {"Id": "fixed", "Arn": arn, "Input": '{"a": 1}'},
        {"Id": "part", "Arn": arn, "InputPath": "$.detail"},
        {"Id": "made", "Arn": arn, "InputTransformer": transformer},
    )
    silent_url, silent = queue(cloud)
    put_rule(cloud, {"source": [source]}, {"Id": "silent", "Arn": silent}, State="DISABLED")
    rule = f"rule-{secrets.token_hex(4)}"
    cloud.client("events").put_rule(Name=rule, ScheduleExpression="rate(1 hour)")
    cloud.client("events").put_targets(Rule=rule, Targets=[{"Id": "silent", "Arn": silent}])
    # moto takes this pattern and breaks on every event that it could match.
    put_rule(cloud, {"detail": {"what": [{"prefix": 5}]}}, {"Id": "silent", "Arn": silent})
    entry = {"Source": source, "DetailType": "Said", "Detail": '{"what": "hello"}'}
    answer = cloud.client("events").put_events(Entries=[entry])
    assert answer["FailedEntryCount"] == 0
    (started,) = wait_until(lambda: executions(cloud, pipeline), bool)
    assert cloud.ended(started["PipelineExecutionArn"]).status == "Succeeded"
    assert bodies(cloud, url, 3) == [{"a": 1}, {"what": "hello"}, {"heard": "hello"}]
    assert "Messages" not in cloud.client("sqs").receive_message(QueueUrl=silent_url)


def test_two_rules_write_one_event_into_one_log_group(cloud: Cloud) -> None:
    ours, name = group(cloud), f"/events/{secrets.token_hex(4)}"
    logs = cloud.client("logs")
    logs.create_log_group(logGroupName=name)
    for number in range(2):
        arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}"
        put_rule(cloud, approvals(ours), {"Id": str(number), "Arn": arn})
    register(cloud, ours)
    found = wait_until(lambda: logs.filter_log_events(logGroupName=name)["events"], lambda events: len(events) >= 2)
    assert len({event["message"] for event in found}) == 1


def test_targets_that_could_never_be_reached_are_refused(cloud: Cloud) -> None:
    _, arn = queue(cloud)
    rule = put_rule(cloud, {"source": ["nobody"]}, {"Id": "queue", "Arn": arn})
    put_targets = cloud.client("events").put_targets
    target = pipeline_target("any")
    with pytest.raises(ClientError, match=f"RoleArn is required for target {target['Arn']}"):
        put_targets(Rule=rule, Targets=[{key: value for key, value in target.items() if key != "RoleArn"}])
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:any"
    with pytest.raises(ClientError, match=f"{function} is not supported"):
        put_targets(Rule=rule, Targets=[{"Id": "function", "Arn": function}])
    kept = cloud.client("events").list_targets_by_rule(Rule=rule)["Targets"]
    assert [target["Id"] for target in kept] == ["queue"]


# The outbox, without a server


class Starts:
    """The one action that rules call: refuses it so many times, then notes it."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.requests: list[Record] = []

    def start_pipeline_execution(self, request: Record) -> Record:
        self.requests.append(request)
        if len(self.requests) <= self.refusals:
            refuse("Rate exceeded", "ThrottlingException")
        return {"PipelineExecutionArn": f"{ARN}:pipeline/p/execution/{'e' * 12}"}


Make = Callable[..., tuple[events.Events, Store, Starts]]


@pytest.fixture
def make(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes event buses of this process; the queues that they reach are the session's server's."""
    monkeypatch.setattr(events, "FIRST_DELAY_SECONDS", 0.01)
    made: list[events.Events] = []

    def build(refusals: int = 0) -> tuple[events.Events, Store, Starts]:
        service, store, starts = Service(), Store(tmp_path / "records.sqlite"), Starts(refusals)
        service.register(starts)
        made.append(events.Events(service, store, ACCOUNT, REGION, cloud.client))
        return made[-1], store, starts

    yield build
    for each in made:
        each.stop()


def rule_here(target: dict[str, Any]) -> str:
    name = f"rule-{secrets.token_hex(4)}"
    backend = events_backends[ACCOUNT][REGION]
    backend.put_rule(name, event_pattern=json.dumps({"detail-type": [name]}))
    backend.put_targets(name=name, event_bus_arn=None, targets=[target])
    return name


def test_what_may_pass_is_tried_again_as_the_same_start(make: Make) -> None:
    bus, store, starts = make(refusals=2)
    rule = rule_here(pipeline_target("p"))
    bus.start()
    bus.send(rule, [], {})
    wait_until(lambda: store.list("Event") + store.list("Delivery"), lambda left: not left)
    assert len(starts.requests) == 3
    assert len({request["ClientRequestToken"] for request in starts.requests}) == 1


def test_the_retry_policy_ends_the_trying(make: Make, cloud: Cloud) -> None:
    bus, _, starts = make(refusals=9)
    url, arn = queue(cloud)
    policy = {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 60}
    rule = rule_here(pipeline_target("p", RetryPolicy=policy, DeadLetterConfig={"Arn": arn}))
    bus.start()
    bus.send(rule, [], {"what": "ever"})
    (letter,) = received(cloud, url, 1)
    told = attributes(letter)
    assert (told["ERROR_CODE"], told["ERROR_MESSAGE"]) == ("THROTTLING", "Rate exceeded")
    assert (told["EXHAUSTED_RETRY_CONDITION"], told["RETRY_ATTEMPTS"]) == ("MaximumRetryAttempts", "2")
    assert len(starts.requests) == 3


def test_an_event_that_is_too_old_is_given_up(make: Make, cloud: Cloud) -> None:
    bus, store, _ = make(refusals=9)
    url, arn = queue(cloud)
    policy = {"MaximumRetryAttempts": 185, "MaximumEventAgeInSeconds": 0}
    rule = rule_here(pipeline_target("p", RetryPolicy=policy, DeadLetterConfig={"Arn": arn}))
    bus.start()
    bus.send(rule, [], {})
    (letter,) = received(cloud, url, 1)
    assert attributes(letter)["EXHAUSTED_RETRY_CONDITION"] == "MaximumEventAgeInSeconds"
    wait_until(lambda: store.list("Delivery"), lambda left: not left)


def test_a_change_that_is_rolled_back_tells_nobody(make: Make) -> None:
    bus, store, starts = make()
    rule = rule_here(pipeline_target("p"))
    bus.start()
    with pytest.raises(KeyError), store.exclusive():
        bus.send(rule, ["never"], {})
        raise KeyError
    bus.send(rule, [], {})
    wait_until(lambda: store.list("Event") + store.list("Delivery"), lambda left: not left)
    assert len(starts.requests) == 1


def test_what_was_not_sent_is_sent_after_the_next_start(make: Make) -> None:
    first, store, _ = make()
    rule = rule_here(pipeline_target("p"))
    first.send(rule, [], {})
    store.close()
    second, store, starts = make()
    second.start()
    wait_until(lambda: starts.requests, bool)
    wait_until(lambda: store.list("Event") + store.list("Delivery"), lambda left: not left)
    assert len(starts.requests) == 1


def test_an_approval_survives_the_death_of_the_server(tmp_path: Path) -> None:
    state = tmp_path / "state"
    session = boto3.Session("local", "local", region_name=REGION)

    def cloud_of(server: control.RunningServer) -> Cloud:
        config = Config(retries={"total_max_attempts": 1}, proxies={})
        return Cloud(lambda service: session.client(service, endpoint_url=server.url, config=config), "none")

    server = control.start(state, 0, REGION)
    try:
        cloud = cloud_of(server)
        pipeline, ours = cloud.create_pipeline(SAY), group(cloud)
        put_rule(cloud, approvals(ours, "Approved"), pipeline_target(pipeline, ("Package", "$.detail.ModelPackageArn")))
        packages = {register(cloud, ours) for _ in range(3)}
        for package in packages:
            decide(cloud, package, "Approved")
        os.kill(server.pid, signal.SIGKILL)
        os.waitpid(server.pid, 0)
        cloud = cloud_of(control.start(state, 0, REGION))
        started = wait_until(lambda: executions(cloud, pipeline), lambda found: len(found) >= 3)
        deployed = {
            parameter["Value"]
            for execution in started
            for parameter in cloud.sagemaker.list_pipeline_parameters_for_execution(
                PipelineExecutionArn=execution["PipelineExecutionArn"]
            )["PipelineParameters"]
            if parameter["Name"] == "Package"
        }
        assert (deployed, len(started)) == (packages, 3)
    finally:
        control.stop(state)
