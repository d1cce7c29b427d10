"""CloudWatch's alarms: what follows from the latest values, and that it happens."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from embedded_cloud import Cloud, wait_until
from moto.cloudwatch.models import MetricAggregatedDatum, MetricDatum

from infra.local.clock import Clock
from infra.local.neighbours.cloudwatch import judged, latest


def value(moment: float, number: float) -> MetricDatum:
    return MetricDatum("n", "m", number, [], datetime.fromtimestamp(moment, UTC))


def statistics(moment: float, low: float, high: float, count: float, total: float) -> MetricAggregatedDatum:
    return MetricAggregatedDatum("n", "m", low, high, count, total, [], datetime.fromtimestamp(moment, UTC))


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [
        ("Sum", [None, 3.0, 20.0]),
        ("SampleCount", [None, 2.0, 5.0]),
        ("Average", [None, 1.5, 4.0]),
        ("Minimum", [None, 1.0, 0.0]),
        ("Maximum", [None, 2.0, 10.0]),
    ],
)
def test_statistics_of_the_latest_whole_periods(statistic: str, expected: list[float | None]) -> None:
    # A minute of AWS's is a second here; the second that begins at 103 is not over at 103.5.
    points = [value(99.9, 7), value(101, 1), value(101.5, 2), statistics(102, 0, 10, 4, 16), value(102.9, 4)]
    points.append(value(103, 1000))
    assert latest(points, statistic, 60, 3, Clock(60), now=103.5) == expected


@pytest.mark.parametrize(
    ("values", "missing", "datapoints", "state"),
    [
        ([1, 2, 3], None, None, "OK"),
        ([11, 12, 13], None, None, "ALARM"),
        ([10, 10, 10], None, None, "OK"),
        ([11, 1, 13], None, 2, "ALARM"),
        ([1, 1, 13], None, 2, "OK"),
        ([None, None, None], None, None, "INSUFFICIENT_DATA"),
        ([None, None, None], "ignore", None, None),
        ([None, None, None], "notBreaching", None, "OK"),
        ([None, None, None], "breaching", None, "ALARM"),
        ([None, 11, 11], "breaching", None, "ALARM"),
        ([None, 11, 11], "notBreaching", None, "OK"),
        ([None, 11, 11], "missing", 2, "ALARM"),
    ],
)
def test_the_state_that_values_ask_for(
    values: list[float | None], missing: str | None, datapoints: int | None, state: str | None
) -> None:
    alarm = SimpleNamespace(
        comparison_operator="GreaterThanThreshold",
        threshold=10,
        treat_missing_data=missing,
        datapoints_to_alarm=datapoints,
        evaluation_periods=3,
    )
    assert judged(alarm, values) == state


@pytest.mark.parametrize(
    ("operator", "states"),
    [
        ("GreaterThanThreshold", ["OK", "OK", "ALARM"]),
        ("GreaterThanOrEqualToThreshold", ["OK", "ALARM", "ALARM"]),
        ("LessThanThreshold", ["ALARM", "OK", "OK"]),
        ("LessThanOrEqualToThreshold", ["ALARM", "ALARM", "OK"]),
    ],
)
def test_both_sides_of_every_comparison(operator: str, states: list[str]) -> None:
    alarm = SimpleNamespace(
        comparison_operator=operator,
        threshold=10.0,
        treat_missing_data=None,
        datapoints_to_alarm=None,
        evaluation_periods=1,
    )
    assert [judged(alarm, [number]) for number in (9.0, 10.0, 11.0)] == states


def test_an_alarm_follows_its_metric_and_tells_its_topic(cloud: Cloud) -> None:
    name = f"alarm-{secrets.token_hex(4)}"
    queue, inbox = listening(cloud, name)
    cloudwatch = cloud.client("cloudwatch")
    described = {
        "AlarmName": name,
        "Namespace": "Any",
        "MetricName": name,
        "Dimensions": [{"Name": "Where", "Value": "here"}],
        "Statistic": "Maximum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 5,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "ignore",
        "AlarmActions": [queue],
    }
    cloudwatch.put_metric_alarm(**described)

    def state() -> str:
        (found,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
        return str(found["StateValue"])

    def put(number: float, where: str = "here") -> str:
        dimensions = [{"Name": "Where", "Value": where}]
        point: dict[str, Any] = {"MetricName": name, "Value": number, "Dimensions": dimensions}
        cloudwatch.put_metric_data(Namespace="Any", MetricData=[point])
        return state()

    assert state() == "INSUFFICIENT_DATA"
    put(9, where="elsewhere")
    # Again and again: an alarm looks at its latest minute alone, and minutes pass unseen when the machine is busy.
    wait_until(lambda: put(4), lambda found: found == "OK")
    wait_until(lambda: put(9), lambda found: found == "ALARM")
    cloudwatch.put_metric_alarm(**described)
    assert state() == "ALARM", "a changed alarm keeps its state until it is judged"
    messages = wait_until(
        lambda: cloud.client("sqs").receive_message(QueueUrl=inbox).get("Messages", []), lambda found: len(found) == 1
    )
    told = json.loads(json.loads(messages[0]["Body"])["Message"])
    assert (told["AlarmName"], told["NewStateValue"]) == (name, "ALARM")
    wait_until(lambda: put(4), lambda found: found == "OK")
    cloudwatch.delete_alarms(AlarmNames=[name])


def listening(cloud: Cloud, name: str) -> tuple[str, str]:
    """Make a topic and a queue that receives from it."""
    topic = cloud.client("sns").create_topic(Name=name)["TopicArn"]
    inbox = cloud.client("sqs").create_queue(QueueName=name)["QueueUrl"]
    arn = cloud.client("sqs").get_queue_attributes(QueueUrl=inbox, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    cloud.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return topic, inbox
