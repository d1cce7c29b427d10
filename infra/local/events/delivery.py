"""EventBridge: SageMaker's own events and everybody else's go through the rules to the rules' targets.

moto keeps the rules and knows their patterns; what it cannot do is start SageMaker pipelines, try again, and put what
cannot be delivered into a dead-letter queue. An event is kept with the change that it tells of, and a delivery until it
has been made: whatever the death of the process interrupts is sent after the next start, so a target may see an event
twice, as on AWS. Rules with a schedule are kept and never fire.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import random
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from jsonpath_ng.ext.parser import parse as parse_path
from moto.events.exceptions import ValidationException
from moto.events.models import EventsBackend, Rule, events_backends
from moto.events.utils import EventTemplateParser

from infra.local.events import details as event_details
from infra.local.events.details import Change, moment
from infra.local.neighbours import turns
from infra.local.rights.actors import EVENTS, Free, Rights
from infra.local.service import Service, ServiceError
from infra.local.store import Record, Store

logger = logging.getLogger(__name__)

MAXIMUM_ATTEMPTS = 185
MAXIMUM_AGE_SECONDS = 86_400
"""EventBridge's own limits where a target has no RetryPolicy."""

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 60.0
"""Between two attempts; EventBridge doubles its delays too, and says not from which."""

SUPPORTED = ("events", "logs", "sagemaker", "sns", "sqs")
"""The services whose resources can be targets here."""

_ERRORS = {
    "ResourceNotFound": "NO_RESOURCE",
    "ResourceNotFoundException": "NO_RESOURCE",
    "AWS.SimpleQueueService.NonExistentQueue": "NO_RESOURCE",
    "QueueDoesNotExist": "NO_RESOURCE",
    "NotFound": "NO_RESOURCE",
    "AccessDeniedException": "NO_PERMISSIONS",
    "ValidationException": "INVALID_PARAMETER",
    "ThrottlingException": "THROTTLING",
    "ResourceLimitExceeded": "RESOURCE_LIMIT_EXCEEDED",
    "ConflictException": "RESOURCE_MODIFICATION_COLLISION",
    "InternalFailure": "INTERNAL_ERROR",
}
"""What EventBridge calls the errors of targets."""

_RETRIED = (
    "CONNECTION_FAILURE",
    "INTERNAL_ERROR",
    "RESOURCE_LIMIT_EXCEEDED",
    "RESOURCE_MODIFICATION_COLLISION",
    "THROTTLING",
)
"""The errors that may pass; others go to the dead-letter queue at once, as on AWS."""

_stock_send = Rule.send_to_targets
_stock_put_targets = EventsBackend.put_targets


class Events:
    """Takes events, and delivers them in a thread of its own."""

    def __init__(
        self,
        service: Service,
        store: Store,
        account: str,
        region: str,
        client: Callable[[str], Any],
        rights: Rights | None = None,
    ) -> None:
        """Without ``rights`` roles mean nothing."""
        self._service, self._store, self._client = service, store, client
        self._rights: Rights = rights or Free(client, service.call)
        self._account, self._region = account, region
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._worker = threading.Thread(target=self._work, name="events", daemon=True)
        # On the classes and not in moto's objects, which are pickled.
        Rule.send_to_targets = lambda rule, event, *_, **__: self._fan_out(rule, event)
        EventsBackend.put_targets = _put_targets

    def start(self) -> None:
        """Begin to deliver, first what an earlier process left. The targets must be within reach."""
        self._worker.start()

    def stop(self) -> None:
        """End with the delivery under way; what is left is kept."""
        self._stopping.set()
        self._wake.set()
        if self._worker.is_alive():
            self._worker.join()

    # What happened

    def send(self, detail_type: str, resources: list[str], detail: Record) -> None:
        """Keep an event of SageMaker, in the transaction of the change that it tells of, and have it delivered."""
        sent = time.time()
        identifier = str(uuid.uuid4())
        event = {
            "version": "0",
            "id": identifier,
            "detail-type": detail_type,
            "source": "aws.sagemaker",
            "account": self._account,
            # Seconds, as moto has it; a target sees text.
            "time": sent,
            "ingestion-time": sent,
            "region": self._region,
            "resources": resources,
            "detail": detail,
        }
        self._store.insert("Event", identifier, event)
        self._wake.set()

    def _send(self, change: Change) -> None:
        self.send(change.detail_type, change.resources, change.detail)

    def resource(self, kind: str, record: Record) -> None:
        """Send that a record of one of the kinds in ``event_details.RESOURCES`` changed."""
        tags = (self._store.get("Tags", record[f"{kind}Arn"]) or {"Tags": {}})["Tags"]
        self._send(event_details.resource(self._service.model, kind, record, tags))

    def execution(self, record: Record, previous: str | None = None) -> None:
        """Send that a pipeline execution changed its status, from the ``previous`` one."""
        self._send(event_details.execution(record, previous))

    def step(self, execution: Record, record: Record, step_type: str, previous: str | None = None) -> None:
        """Send that a step of an execution changed its status."""
        self._send(event_details.step(execution, record, step_type, previous))

    # From events to deliveries

    def _fan_out(self, rule: Rule, event: Record) -> None:
        """Keep a delivery for each target of a rule that an event matches; moto calls this for PutEvents too."""
        shown = {**event, "time": moment(float(event["time"]))}
        shown.pop("ingestion-time", None)
        if rule.state == "DISABLED" or not rule.event_pattern.get_pattern():
            return
        if not _harmless(rule, rule.event_pattern.matches_event, shown):
            return
        for target in list(rule.targets):
            if target["Arn"].split(":")[2] == "events":
                # Buses, archives and API destinations are moto's own.
                alone = copy.copy(rule)
                alone.targets = [target]
                _harmless(rule, _stock_send, alone, event)
                continue
            delivery = {"event": shown, "rule": rule.arn, "target": target, "attempts": 0, "since": time.time()}
            self._store.insert("Delivery", f"{shown['id']}/{rule.arn}/{target['Id']}", {**delivery, "due": 0.0})
        self._wake.set()

    def _route(self, event: Record) -> None:
        # In this order, since PutEvents has moto's turn when it keeps its deliveries.
        with turns.turn(), self._store.exclusive():
            for rule in events_backends[self._account][self._region].event_buses["default"].rules.values():
                self._fan_out(rule, event)
            self._store.delete("Event", event["id"])

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                for event in self._store.list("Event"):
                    self._route(event)
                due = min((self._attend(delivery) for delivery in self._store.list("Delivery")), default=math.inf)
            except Exception:
                # The edge of a thread: without this no event would ever be delivered again.
                logger.exception("events are held up")
                due = time.time() + LONGEST_DELAY_SECONDS
            self._wake.wait(None if due == math.inf else max(0.0, due - time.time()))

    # Deliveries

    def _attend(self, delivery: Record) -> float:
        """Make a delivery if it is due, and answer when it is due again."""
        due: float = delivery["due"]
        if self._stopping.is_set() or due > time.time():
            return due
        name = f"{delivery['event']['id']}/{delivery['rule']}/{delivery['target']['Id']}"
        if failure := self._attempt(delivery, name):
            code, message = failure
            exhausted = _exhausted(delivery) if code in _RETRIED else None
            if code in _RETRIED and exhausted is None:
                delay = min(FIRST_DELAY_SECONDS * 2 ** delivery["attempts"], LONGEST_DELAY_SECONDS)
                due = time.time() + delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads attempts, guards nothing
                self._store.update("Delivery", name, attempts=delivery["attempts"] + 1, due=due)
                return due
            self._bury(delivery, code, message, exhausted)
        self._store.delete("Delivery", name)
        return math.inf

    def _attempt(self, delivery: Record, name: str) -> tuple[str, str] | None:
        """Deliver; answers the error's code and message where that fails."""
        try:
            self._deliver(delivery, name)
        except (ServiceError, ClientError, BotoCoreError, ValueError) as error:
            logger.warning("the event %s does not reach %s: %s", name, delivery["target"]["Arn"], error)
            return _code(error), str(error)
        except Exception as error:
            # Whatever else breaks is ours; the events behind this one must not wait for ever.
            logger.exception("the event %s does not reach %s", name, delivery["target"]["Arn"])
            return "INTERNAL_ERROR", repr(error)
        return None

    def _deliver(self, delivery: Record, name: str) -> None:
        event, target = delivery["event"], delivery["target"]
        service = target["Arn"].split(":")[2]
        if service == "sagemaker":
            token = hashlib.sha256(name.encode()).hexdigest()
            request = {"PipelineName": target["Arn"].rpartition("/")[2], "ClientRequestToken": token}
            listed = target.get("SageMakerPipelineParameters", {}).get("PipelineParameterList", [])
            parameters = [{"Name": item["Name"], "Value": _value(item["Value"], event)} for item in listed]
            actor = self._rights.actor(target["RoleArn"], EVENTS, {"aws:SourceArn": delivery["rule"]})
            actor.call("StartPipelineExecution", {**request, "PipelineParameters": parameters})
            return
        text = _input(target, event)
        if service == "sqs":
            group = target.get("SqsParameters", {}).get("MessageGroupId")
            self._post(target["Arn"], text, **({"MessageGroupId": group} if group else {}))
        elif service == "sns":
            self._client("sns").publish(TopicArn=target["Arn"], Message=text)
        else:
            entry = {"logGroupName": target["Arn"].split(":")[6], "logStreamName": event["id"]}
            # Another rule may have made it, or an earlier attempt at this delivery.
            with suppress(self._client("logs").exceptions.ResourceAlreadyExistsException):
                self._client("logs").create_log_stream(**entry)
            self._client("logs").put_log_events(
                **entry, logEvents=[{"timestamp": int(time.time() * 1000), "message": text}]
            )

    def _post(self, queue_arn: str, text: str, **more: Any) -> None:
        sqs = self._client("sqs")
        url = sqs.get_queue_url(QueueName=queue_arn.rpartition(":")[2])["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody=text, **more)

    def _bury(self, delivery: Record, code: str, message: str, exhausted: str | None) -> None:
        """Put what cannot be delivered into the target's dead-letter queue; without one it is dropped, as on AWS."""
        queue = delivery["target"].get("DeadLetterConfig", {}).get("Arn")
        if queue is None:
            logger.error("dropped the event %s: %s", delivery["event"]["id"], message)
            return
        attributes = {
            "RULE_ARN": delivery["rule"],
            "TARGET_ARN": delivery["target"]["Arn"],
            "ERROR_CODE": code,
            "ERROR_MESSAGE": message[:1024] or code,
            "RETRY_ATTEMPTS": str(delivery["attempts"]),
            **({"EXHAUSTED_RETRY_CONDITION": exhausted} if exhausted else {}),
        }
        shown = {key: {"DataType": "String", "StringValue": value} for key, value in attributes.items()}
        try:
            self._post(queue, json.dumps(delivery["event"]), MessageAttributes=shown)
        except (ClientError, BotoCoreError) as error:
            logger.error("dropped the event %s: its dead-letter queue fails: %s", delivery["event"]["id"], error)


def _harmless(rule: Rule, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of moto; what breaks on one rule must not keep an event from the others."""
    try:
        return function(*arguments)
    except Exception:
        logger.exception("rule %s cannot take an event", rule.name)
        return None


def _exhausted(delivery: Record) -> str | None:
    """Return which limit of a target's retry policy forbids one more attempt, if any does."""
    policy = delivery["target"].get("RetryPolicy", {})
    if delivery["attempts"] >= policy.get("MaximumRetryAttempts", MAXIMUM_ATTEMPTS):
        return "MaximumRetryAttempts"
    if time.time() - delivery["since"] >= policy.get("MaximumEventAgeInSeconds", MAXIMUM_AGE_SECONDS):
        return "MaximumEventAgeInSeconds"
    return None


def _code(error: Exception) -> str:
    if isinstance(error, ServiceError):
        return _ERRORS.get(error.code, "ERROR_FROM_TARGET")
    if isinstance(error, ClientError):
        return _ERRORS.get(error.response["Error"]["Code"], "ERROR_FROM_TARGET")
    return "CONNECTION_FAILURE" if isinstance(error, BotoCoreError) else "INVALID_JSON"


def _value(value: str, event: Record) -> str:
    """Return a pipeline parameter's value; a JSON path, always the whole of it, stands for what it leads to."""
    if not value.startswith(("$.", "$[")):
        return value
    found = _follow(value, event)
    return found if isinstance(found, str) else json.dumps(found)


def _follow(path: str, event: Record) -> Any:
    try:
        return parse_path(path).find(event)[0].value
    except Exception as error:
        # Whatever the parser makes of a path, or of one that leads nowhere, is the rule's fault.
        raise ServiceError("ValidationException", f"the path {path} leads to nothing in the event") from error


def _input(target: Record, event: Record) -> str:
    """Return what a target gets: the event, or what its Input, InputPath or InputTransformer makes of it."""
    if "Input" in target:
        return str(target["Input"])
    if "InputPath" in target:
        return json.dumps(_follow(target["InputPath"], event))
    if transformer := target.get("InputTransformer"):
        whole = {**event, "ingestion-time": event["time"]}
        return json.dumps(
            EventTemplateParser.parse(transformer["InputTemplate"], transformer.get("InputPathsMap", {}), whole)
        )
    return json.dumps(event)


def _put_targets(backend: EventsBackend, name: str, event_bus_arn: str | None, targets: list[Record]) -> None:
    """Keep a rule's targets, unless nothing could ever be delivered to them."""
    for target in targets:
        service = target["Arn"].partition(":")[2].partition(":")[2].partition(":")[0]
        if service == "sagemaker" and not target.get("RoleArn"):
            raise ValidationException(f"RoleArn is required for target {target['Arn']}.")
        if service not in SUPPORTED:
            raise ValidationException(
                f"Target {target['Arn']} is not supported by the embedded SageMaker, only those of: "
                f"{', '.join(SUPPORTED)}."
            )
    _stock_put_targets(backend, name=name, event_bus_arn=event_bus_arn, targets=targets)
