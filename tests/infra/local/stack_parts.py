"""What tests of stacks are made of: templates of a few queues, and somebody who deploys."""

from __future__ import annotations

import json
import secrets
from typing import Any

from embedded_cloud import Cloud

from infra import stacks


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


def queues(cloud: Cloud, prefix: str) -> list[str]:
    urls = cloud.client("sqs").list_queues(QueueNamePrefix=prefix).get("QueueUrls", [])
    return sorted(url.rpartition("/")[2] for url in urls)
