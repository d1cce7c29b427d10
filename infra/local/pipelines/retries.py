"""Retry policies: which failure of a step is tried again, how often, and after how long. Pure.

Source: developer guide, "Retry Policy for Pipeline Steps".
"""

from __future__ import annotations

from infra.local.store import Record

MAX_ATTEMPTS = 5
"""Retries where a policy sets no bound."""

AUTOMATIC: Record = {
    "ExceptionType": ["Step.SERVICE_FAULT", "Step.THROTTLING"],
    "IntervalSeconds": 1,
    "BackoffRate": 2.0,
    "MaxAttempts": MAX_ATTEMPTS,
}
"""Pipelines retries these by itself; a policy of the step's own that names them takes its place."""

_REFUSALS = {
    "InternalFailure": "Step.SERVICE_FAULT",
    "ThrottlingException": "Step.THROTTLING",
    "ResourceLimitExceeded": "SageMaker.RESOURCE_LIMIT",
}
"""Error codes of calls, as the exception types that policies name them by."""

_REASONS = {
    "InternalServerError": "SageMaker.JOB_INTERNAL_ERROR",
    "CapacityError": "SageMaker.CAPACITY_ERROR",
    "ResourceLimitExceeded": "SageMaker.RESOURCE_LIMIT",
}
"""How the failure reasons of jobs begin, as the same."""

EXCEPTION_TYPES = frozenset({*_REFUSALS.values(), *_REASONS.values()})


def exception_type(code: str, reason: str) -> str | None:
    """Return what policies call a failure, by the code of the call or the reason of the job; ``None`` if nothing."""
    return _REFUSALS.get(code) or next((kind for start, kind in _REASONS.items() if reason.startswith(start)), None)


class Attempts:
    """The attempts at one step under its policies; the first is under way."""

    def __init__(self, policies: list[Record], started: float) -> None:
        named = {kind for policy in policies for kind in policy["ExceptionType"]}
        automatic = [kind for kind in AUTOMATIC["ExceptionType"] if kind not in named]
        self._policies = [*policies, {**AUTOMATIC, "ExceptionType": automatic}]
        self._made = [0] * len(self._policies)
        self._started = started

    def delay(self, kind: str | None, time: float) -> float | None:
        """Count a failure at ``time`` and return the seconds until the next attempt, or ``None`` when there is none.

        The n-th retry under a policy waits ``IntervalSeconds * BackoffRate ** (n - 1)``, until ``MaxAttempts`` retries
        were made or ``ExpireAfterMin`` minutes have passed since the first attempt.
        """
        for index, policy in enumerate(self._policies):
            if kind not in policy["ExceptionType"]:
                continue
            wait = float(policy.get("IntervalSeconds", 1)) * float(policy.get("BackoffRate", 2.0)) ** self._made[index]
            self._made[index] += 1
            if "ExpireAfterMin" in policy:
                again = time + wait <= self._started + 60 * policy["ExpireAfterMin"]
            else:
                again = self._made[index] <= policy.get("MaxAttempts", MAX_ATTEMPTS)
            return wait if again else None
        return None
