"""The resource types that tell somebody: topics with who may write and who listens, and alarms."""

from __future__ import annotations

import json
from collections.abc import Mapping

from moto.cloudwatch.models import cloudwatch_backends
from moto.core.common_models import CloudFormationModel
from moto.core.utils import camelcase_to_underscores
from moto.sns.models import sns_backends

from infra.local.stacks.resources import Kept, Place
from infra.local.store import Record


class Topic(Kept, CloudFormationModel):  # type: ignore[misc]  # moto ships no types
    """An SNS topic, whose ``Ref`` is its ARN."""

    cfn_type, name_property = "AWS::SNS::Topic", "TopicName"
    properties, attributes = ("DisplayName",), ("TopicArn", "TopicName")

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Create or change the topic."""
        sns, arn = sns_backends[place.account][place.region], f"arn:aws:sns:{place.region}:{place.account}:{name}"
        if new:
            sns.create_topic(name)
        sns.get_topic(arn).display_name = properties.get("DisplayName", "")
        return {"TopicArn": arn, "TopicName": name, "Ref": arn}

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Delete the topic with its subscriptions."""
        sns_backends[place.account][place.region].delete_topic(values["TopicArn"])


class TopicPolicy(Kept, CloudFormationModel):  # type: ignore[misc]
    """Who may write to topics."""

    cfn_type, name_property = "AWS::SNS::TopicPolicy", ""
    properties, attributes = ("PolicyDocument", "Topics"), ()

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Set the policy."""
        for arn in properties["Topics"]:
            sns_backends[place.account][place.region].get_topic(arn).policy = json.dumps(properties["PolicyDocument"])
        return {}

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Leave the policy to the topic, which goes with it."""


class Subscription(Kept, CloudFormationModel):  # type: ignore[misc]
    """One who listens to a topic, named by its ARN; here nobody has to confirm it, and no mail is sent."""

    cfn_type, name_property = "AWS::SNS::Subscription", ""
    properties, attributes = ("Endpoint", "Protocol", "TopicArn"), ()

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Subscribe, in place of what was subscribed before."""
        sns = sns_backends[place.account][place.region]
        if not new:
            sns.unsubscribe(name)
        arn = sns.subscribe(properties["TopicArn"], properties["Endpoint"], properties["Protocol"]).arn
        return {"Name": arn, "Ref": arn}

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Subscribe no longer."""
        sns_backends[place.account][place.region].unsubscribe(name)


class Alarm(Kept, CloudFormationModel):  # type: ignore[misc]
    """A CloudWatch alarm on one metric."""

    cfn_type, name_property = "AWS::CloudWatch::Alarm", "AlarmName"
    properties = (
        "AlarmActions",
        "AlarmDescription",
        "ComparisonOperator",
        "Dimensions",
        "EvaluationPeriods",
        "MetricName",
        "Namespace",
        "Period",
        "Statistic",
        "Threshold",
        "TreatMissingData",
    )

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Create or change the alarm."""
        given = {camelcase_to_underscores(key): value for key, value in properties.items() if key != "AlarmName"}
        numbers = {key: int(given[key]) for key in ("evaluation_periods", "period")}
        request = {"dimensions": [], "alarm_actions": [], **given, **numbers, "threshold": float(given["threshold"])}
        request["description"] = request.pop("alarm_description", "")
        alarm = cloudwatch_backends[place.account][place.region].put_metric_alarm(name=name, **request)
        return {"Arn": alarm.alarm_arn}

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Delete the alarm."""
        cloudwatch_backends[place.account][place.region].delete_alarms([name])
