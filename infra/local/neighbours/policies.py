"""Bucket policies as S3 reads them: moto takes a condition that is not met for a refusal, and asks no request for any.

So a bucket that refuses unencrypted connections would refuse everything. Here a statement whose condition is not met
says nothing, and what never leaves this machine counts as encrypted.
"""

from __future__ import annotations

import json
from typing import Any

from moto.s3.models import FakeBucket

_stock_get_permission = FakeBucket.get_permission

CONTEXT = {"aws:SecureTransport": "true"}
"""What is known of every request, by condition key."""


class _Policy:
    """A bucket, as far as moto's judgement looks at one."""

    def __init__(self, policy: bytes | None) -> None:
        self.policy = policy


def _get_permission(bucket: Any, action: str, resource: str) -> Any:
    """Tell whether a bucket's policy allows an action, denies it, or says nothing of it."""
    if bucket.policy is None:
        return _stock_get_permission(bucket, action, resource)
    policy = json.loads(bucket.policy)
    statements = policy["Statement"] if isinstance(policy["Statement"], list) else [policy["Statement"]]
    policy["Statement"] = [_unconditional(each) for each in statements if _met(each)]
    return _stock_get_permission(_Policy(json.dumps(policy).encode()), action, resource)


def _unconditional(statement: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in statement.items() if key != "Condition"}


def _met(statement: dict[str, Any]) -> bool:
    """Tell whether a statement's conditions hold; one on what is not known of a request does not."""
    return all(
        operator == "Bool" and CONTEXT.get(key) == str(wanted).lower()
        for operator, keys in statement.get("Condition", {}).items()
        for key, wanted in keys.items()
    )


def install() -> None:
    """Put it into moto."""
    FakeBucket.get_permission = _get_permission
