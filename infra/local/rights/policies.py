"""Judges whether policies allow an access, as IAM does: a denial wins, and what nobody allows is refused. Pure.

Source: IAM user guide, "Policy evaluation logic", "IAM JSON policy elements: Condition operators" and "... Resource".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.local.store import Record

ARN_PARTS = 6
"""An ARN has so many parts between colons; the last one may hold more of them."""


class UnsupportedPolicy(Exception):
    """A policy with an element that is not understood here; the text names it."""


@dataclass(frozen=True)
class Access:
    """One use of a right."""

    action: str
    """Such as ``s3:GetObject``."""
    resource: str = "*"
    """ARN; ``*`` for an action that knows no resources."""
    context: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What is known of the request, by condition key."""
    principal: tuple[str, str] | None = None
    """Who asks, where a role's trust is judged: kind and name, such as ``("Service", "sagemaker.amazonaws.com")``."""


def allowed(policies: Iterable[Record], access: Access) -> bool:
    """Tell whether one of the policies allows an access and none denies it.

    Raises ``UnsupportedPolicy`` for one that cannot be judged.
    """
    statements = [statement for policy in policies for statement in _listed(policy["Statement"])]
    effects = {statement["Effect"] for statement in statements if _applies(statement, access)}
    return effects == {"Allow"}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _applies(statement: Record, access: Access) -> bool:
    if unknown := sorted({"NotAction", "NotResource", "NotPrincipal"} & set(statement)):
        raise UnsupportedPolicy(f"the policy element {unknown[0]} is not supported by the embedded SageMaker")
    resources = [_arn_like(wanted, access.resource) for wanted in _listed(statement.get("Resource", "*"))]
    return bool(
        any(like(wanted.lower(), access.action.lower()) for wanted in _listed(statement["Action"]))
        and any(resources)
        and _is_for(statement, access.principal)
        and all(_holds(*each, access.context) for each in _conditions(statement))
    )


def _is_for(statement: Record, principal: tuple[str, str] | None) -> bool:
    if "Principal" not in statement:
        return True
    wanted = statement["Principal"]
    if wanted == "*" or principal is None:
        return bool(wanted == "*")
    kind, name = principal
    return any(each in (name, "*") for each in _listed(wanted.get(kind, [])))


def _conditions(statement: Record) -> Iterator[tuple[str, str, list[str]]]:
    for operator, keys in statement.get("Condition", {}).items():
        for key, values in keys.items():
            yield operator, key, [str(value) for value in _listed(values)]


@functools.cache
def _pattern(wanted: str) -> re.Pattern[str]:
    return re.compile(re.escape(wanted).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def like(wanted: str, given: str) -> bool:
    """Tell whether a text is what a pattern with ``*`` and ``?`` describes."""
    return _pattern(wanted).fullmatch(given) is not None


def _arn_like(wanted: str, given: str) -> bool:
    """Compare ARNs part by part: a ``*`` stands for nothing beyond its colons, unless it is all."""
    if wanted == "*" or ":" not in wanted:
        return like(wanted, given)
    parts = [text.split(":", ARN_PARTS - 1) for text in (wanted, given)]
    return len(parts[0]) == len(parts[1]) and all(map(like, *parts))


_POSITIVE: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, given: wanted == given,
    "StringEqualsIgnoreCase": lambda wanted, given: wanted.lower() == given.lower(),
    "StringLike": like,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": lambda wanted, given: wanted.lower() == given.lower(),
}
"""Operators by what one wanted value must be to the given one."""

_NEGATIVE = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


def _holds(operator: str, key: str, wanted: list[str], context: Mapping[str, str]) -> bool:
    given = {name.lower(): value for name, value in context.items()}.get(key.lower())
    if operator == "Null":
        return (given is None) == (wanted[0].lower() == "true")
    name = operator.removesuffix("IfExists")
    if name not in _POSITIVE and name not in _NEGATIVE:
        raise UnsupportedPolicy(f"the condition operator {operator} is not supported by the embedded SageMaker")
    if given is None:
        # What a request does not say is nothing of what is wanted, and not what is unwanted.
        return name in _NEGATIVE or name != operator
    matches = any(_POSITIVE[_NEGATIVE.get(name, name)](each, given) for each in wanted)
    return matches != (name in _NEGATIVE)
