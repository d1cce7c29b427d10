"""Retry policies, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from infra.local.pipelines.retries import Attempts, exception_type

INTERNAL = "SageMaker.JOB_INTERNAL_ERROR"


def delays(policies: list[dict[str, Any]], *failures: str | None, seconds: float = 0) -> list[float | None]:
    """What is waited after each failure, when each attempt takes some seconds."""
    attempts, time, waits = Attempts(policies, 0.0), 0.0, []
    for failure in failures:
        time += seconds
        waits.append(attempts.delay(failure, time))
        time += waits[-1] or 0
    return waits


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("ThrottlingException", "slow down", "Step.THROTTLING"),
        ("InternalFailure", "", "Step.SERVICE_FAULT"),
        ("ResourceLimitExceeded", "", "SageMaker.RESOURCE_LIMIT"),
        ("", "InternalServerError: We encountered an internal error.", INTERNAL),
        ("", "CapacityError: Unable to provision", "SageMaker.CAPACITY_ERROR"),
        ("", "AlgorithmError: InternalServerError: said the script", None),
        ("ValidationException", "InternalServerErrors are not the matter", "SageMaker.JOB_INTERNAL_ERROR"),
    ],
)
def test_failures_have_the_names_that_policies_use(code: str, reason: str, kind: str | None) -> None:
    assert exception_type(code, reason) == kind


def test_each_wait_is_longer_by_the_rate_until_the_attempts_are_used_up() -> None:
    policy = {"ExceptionType": [INTERNAL], "IntervalSeconds": 3, "BackoffRate": 1.5, "MaxAttempts": 3}
    assert delays([policy], *[INTERNAL] * 4) == [3, 4.5, 6.75, None]


def test_a_policy_may_expire_instead() -> None:
    policy = {"ExceptionType": [INTERNAL], "IntervalSeconds": 30, "BackoffRate": 1.0, "ExpireAfterMin": 2}
    # The attempts end at 20, 70 and 120 s, and the next one could only begin after two minutes.
    assert delays([policy], *[INTERNAL] * 3, seconds=20) == [30, 30, None]


def test_policies_count_for_themselves() -> None:
    one = {"ExceptionType": [INTERNAL], "IntervalSeconds": 1, "BackoffRate": 2.0, "MaxAttempts": 1}
    two = {"ExceptionType": ["SageMaker.RESOURCE_LIMIT"], "IntervalSeconds": 5, "BackoffRate": 2.0, "MaxAttempts": 2}
    failures = (INTERNAL, "SageMaker.RESOURCE_LIMIT", "SageMaker.RESOURCE_LIMIT", INTERNAL)
    assert delays([one, two], *failures) == [1, 5, 10, None]


def test_only_faults_of_the_service_are_tried_again_unasked() -> None:
    assert delays([], "Step.THROTTLING", "Step.SERVICE_FAULT") == [1, 2]
    assert delays([], INTERNAL) == [None]
    assert delays([], None) == [None]


def test_a_policy_of_the_steps_own_replaces_the_automatic_one() -> None:
    policy = {"ExceptionType": ["Step.THROTTLING"], "IntervalSeconds": 7, "BackoffRate": 1.0, "MaxAttempts": 1}
    assert delays([policy], "Step.THROTTLING", "Step.THROTTLING") == [7, None]
    assert delays([policy], "Step.SERVICE_FAULT") == [1]
