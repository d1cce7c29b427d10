"""Deploys CloudFormation templates by change set, to AWS or to whatever else answers as CloudFormation does.

``plan`` shows what would change and changes nothing; ``apply`` carries a plan out and waits for the end. Both may be
repeated: a plan without changes is empty, and a stack that never came to be is removed before it is tried again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

POLL_SECONDS = 2.0
WAIT_SECONDS = 1800.0

NEVER_MADE = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")
"""The states of a stack whose creation failed; the only way out of them is to delete it."""


class StackError(Exception):
    """A stack that cannot be deployed or deleted; the text names it and CloudFormation's reasons."""


@dataclass(frozen=True)
class Change:
    """One resource that a plan adds, changes or removes."""

    action: str
    """``Add``, ``Modify`` or ``Remove``."""
    logical_id: str
    resource_type: str
    replacement: str
    """Whether the resource is replaced by another one: ``True``, ``False``, ``Conditional`` or, if unknown, empty."""


@dataclass(frozen=True)
class Plan:
    """What ``apply`` would do."""

    stack: str
    change_set: str | None
    """ARN; ``None`` where nothing would change."""
    changes: tuple[Change, ...]


def plan(
    client: Any, stack: str, template: str, parameters: Mapping[str, str], tags: Mapping[str, str] | None = None
) -> Plan:
    """Create a change set and return what it would do; it lies there until ``apply`` or ``discard``.

    ``client`` is a boto3 client of CloudFormation. Parameters that are not given keep their value;
    ``tags`` are handed on to whatever the stack makes. Raises
    ``StackError`` for a template or parameters that CloudFormation refuses, and then leaves nothing behind.
    """
    described = _settled(client, stack)
    if described is not None and described["StackStatus"] in (*NEVER_MADE, "REVIEW_IN_PROGRESS"):
        destroy(client, stack)
        described = None
    try:
        created = client.create_change_set(
            StackName=stack,
            ChangeSetName=f"change-{secrets.token_hex(8)}",
            ChangeSetType="CREATE" if described is None else "UPDATE",
            TemplateBody=template,
            Parameters=_parameters(client, template, parameters, described),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Tags=[{"Key": key, "Value": value} for key, value in (tags or {}).items()],
        )
    except ClientError as error:
        if _no_changes(_words(error)):
            return Plan(stack, None, ())
        raise StackError(f"stack {stack}: {_words(error)}") from error
    return _described(client, Plan(stack, created["Id"], ()), created["StackId"])


def _parameters(
    client: Any, template: str, given: Mapping[str, str], described: dict[str, Any] | None
) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()]
    if described is None:
        return listed
    summary = client.get_template_summary(TemplateBody=template)
    declared = {parameter["ParameterKey"] for parameter in summary.get("Parameters", [])}
    known = {parameter["ParameterKey"] for parameter in described.get("Parameters", [])}
    kept = sorted((declared & known) - set(given))
    return listed + [{"ParameterKey": key, "UsePreviousValue": True} for key in kept]


def _described(client: Any, planned: Plan, stack_id: str) -> Plan:
    """Wait for a plan's change set and read its changes."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (answer := _pages(client, planned))[0]["Status"] in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
        _pause(deadline, f"stack {planned.stack}: its change set")
    if answer[0]["Status"] == "FAILED":
        discard(client, planned)
        reason = answer[0].get("StatusReason", "the change set failed")
        if _no_changes(reason):
            return Plan(planned.stack, None, ())
        raise StackError(f"stack {planned.stack}: {reason}")
    changes = [change["ResourceChange"] for page in answer for change in page.get("Changes", [])]
    return Plan(
        planned.stack,
        planned.change_set,
        tuple(
            Change(
                change["Action"], change["LogicalResourceId"], change["ResourceType"], change.get("Replacement") or ""
            )
            for change in changes
        ),
    )


def _pages(client: Any, planned: Plan) -> list[dict[str, Any]]:
    request = {"ChangeSetName": planned.change_set, "StackName": planned.stack}
    pages = [client.describe_change_set(**request)]
    while token := pages[-1].get("NextToken"):
        pages.append(client.describe_change_set(**request, NextToken=token))
    return pages


def discard(client: Any, planned: Plan) -> None:
    """Delete a plan's change set, and its stack if that exists for nothing else."""
    if planned.change_set is None:
        return
    client.delete_change_set(ChangeSetName=planned.change_set, StackName=planned.stack)
    described = _describe(client, planned.stack)
    if described is not None and described["StackStatus"] == "REVIEW_IN_PROGRESS":
        destroy(client, planned.stack)


def apply(client: Any, planned: Plan) -> dict[str, str]:
    """Carry a plan out, wait, and return the stack's outputs.

    Raises ``StackError`` with what CloudFormation says of each resource that failed. Then the stack is as it was, and
    one that was to be created does not exist.
    """
    if planned.change_set is None:
        return outputs(client, planned.stack)
    started = _newest_event(client, planned.stack)
    try:
        client.execute_change_set(ChangeSetName=planned.change_set, StackName=planned.stack)
    except ClientError as error:
        raise StackError(f"stack {planned.stack}: {_words(error)}") from error
    # The call is answered before the stack's status changes; its first event tells when that has happened.
    deadline = time.monotonic() + WAIT_SECONDS
    while _newest_event(client, planned.stack) == started:
        _pause(deadline, f"stack {planned.stack}")
    described = _settled(client, planned.stack)
    if described is None:
        raise StackError(f"stack {planned.stack} was deleted meanwhile")
    status = described["StackStatus"]
    if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        return _outputs(described)
    reasons = _reasons(client, described["StackId"], started)
    if status in NEVER_MADE:
        destroy(client, planned.stack)
    raise StackError(f"stack {planned.stack} was rolled back ({status}): {reasons}")


def destroy(client: Any, stack: str) -> bool:
    """Delete a stack and wait; what its template's DeletionPolicy retains stays. Answers whether there was one.

    Raises ``StackError`` with the resources that could not be deleted.
    """
    described = _settled(client, stack)
    if described is None:
        return False
    # By its name a deleted stack is not found any more; by its identifier it is, with its last status.
    identifier = described["StackId"]
    started, deadline = _newest_event(client, identifier), time.monotonic() + WAIT_SECONDS
    client.delete_stack(StackName=identifier)
    while (now := _describe(client, identifier)) is not None and now["StackStatus"] != "DELETE_COMPLETE":
        if now["StackStatus"] == "DELETE_FAILED" and _newest_event(client, identifier) != started:
            raise StackError(f"stack {stack} cannot be deleted: {_reasons(client, identifier, started)}")
        _pause(deadline, f"stack {stack} ({now['StackStatus']})")
    return True


def missing(client: Any, stack: str, template: str) -> list[str]:
    """Return the kinds of resources that a template may make, if its stack was never made; else nothing.

    Unlike ``plan`` it leaves nothing behind that only deleting a stack removes, which not everybody may who looks.
    """
    described = _settled(client, stack)
    if described is not None and described["StackStatus"] not in (*NEVER_MADE, "REVIEW_IN_PROGRESS"):
        return []
    return sorted(set(client.get_template_summary(TemplateBody=template).get("ResourceTypes", [])))


def drift(client: Any, stack: str) -> list[str]:
    """Return what differs from how a stack was deployed, because somebody changed it by hand; a phrase a resource.

    Raises ``StackError`` if there is no such stack, or CloudFormation cannot tell.
    """
    try:
        detection = client.detect_stack_drift(StackName=stack)["StackDriftDetectionId"]
        deadline = time.monotonic() + WAIT_SECONDS
        request = {"StackDriftDetectionId": detection}
        while (answer := client.describe_stack_drift_detection_status(**request))["DetectionStatus"].endswith(
            "_PROGRESS"
        ):
            _pause(deadline, f"stack {stack}: the detection of its drift")
        if answer["DetectionStatus"] == "DETECTION_FAILED":
            raise StackError(f"stack {stack}: its drift: {answer.get('DetectionStatusReason', 'no reason is given')}")
        return [_drifted(found) for found in _drifts(client, stack)]
    except ClientError as error:
        raise StackError(f"stack {stack}: CloudFormation cannot tell what was changed: {_words(error)}") from error


def _drifts(client: Any, stack: str) -> Iterator[dict[str, Any]]:
    request = {"StackName": stack, "StackResourceDriftStatusFilters": ["MODIFIED", "DELETED"]}
    while True:
        answer = client.describe_stack_resource_drifts(**request)
        yield from answer["StackResourceDrifts"]
        if "NextToken" not in answer:
            return
        request["NextToken"] = answer["NextToken"]


def _drifted(found: dict[str, Any]) -> str:
    places = ", ".join(each["PropertyPath"] for each in found.get("PropertyDifferences", []))
    status = found["StackResourceDriftStatus"].lower()
    return f"{found['LogicalResourceId']} {status}{f' ({places})' if places else ''}"


def resources(client: Any, stack: str) -> set[str]:
    """Return the logical names of the resources that a stack has; none where there is no such stack."""
    try:
        pages = client.get_paginator("list_stack_resources").paginate(StackName=stack)
        found = [each for page in pages for each in page["StackResourceSummaries"]]
    except ClientError as error:
        if "does not exist" in str(error):
            return set()
        raise StackError(f"stack {stack}: {_words(error)}") from error
    gone = ("DELETE_COMPLETE", "DELETE_SKIPPED")
    return {each["LogicalResourceId"] for each in found if each["ResourceStatus"] not in gone}


def outputs(client: Any, stack: str) -> dict[str, str]:
    """Return a stack's outputs. Raises ``StackError`` if there is no such stack."""
    described = _describe(client, stack)
    if described is None:
        raise StackError(f"there is no stack {stack}")
    return _outputs(described)


def _outputs(described: dict[str, Any]) -> dict[str, str]:
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


def _describe(client: Any, stack: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise StackError(f"stack {stack}: {_words(error)}") from error
    return found


def _settled(client: Any, stack: str) -> dict[str, Any] | None:
    """Wait until nobody changes a stack, and describe it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (described := _describe(client, stack)) is not None:
        status = described["StackStatus"]
        if not status.endswith("_IN_PROGRESS") or status == "REVIEW_IN_PROGRESS":
            return described
        _pause(deadline, f"stack {stack} ({status})")
    return None


def _pause(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise StackError(f"{what} did not come to an end within {WAIT_SECONDS:.0f} s; CloudFormation goes on with it")
    time.sleep(POLL_SECONDS)


def _newest_event(client: Any, stack: str) -> str:
    events = client.describe_stack_events(StackName=stack)["StackEvents"]
    return str(events[0]["EventId"]) if events else ""


def _reasons(client: Any, stack_id: str, since: str) -> str:
    """Return what failed after an event, the first failure first."""
    resources: list[str] = []
    itself: list[str] = []
    for event in _events(client, stack_id, since):
        reason = event.get("ResourceStatusReason", "")
        # One failure cancels whatever else is under way, which explains nothing.
        if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in reason:
            of_stack = event.get("PhysicalResourceId") == stack_id
            (itself if of_stack else resources).append(
                f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason}"
            )
    return "; ".join(reversed(resources or itself)) or "CloudFormation gives no reason"


def _events(client: Any, stack_id: str, since: str) -> Iterator[dict[str, Any]]:
    """Yield a stack's events after one of them, the newest first."""
    for page in client.get_paginator("describe_stack_events").paginate(StackName=stack_id):
        for event in page["StackEvents"]:
            if event["EventId"] == since:
                return
            yield event


def _no_changes(reason: str) -> bool:
    """Tell whether CloudFormation says that a change set would change nothing."""
    return "didn't contain changes" in reason or "No updates are to be performed" in reason


def _words(error: ClientError) -> str:
    return str(error.response["Error"]["Message"])
