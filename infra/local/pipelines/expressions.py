"""Resolves the expressions of a pipeline definition: Get, Std:Join, Std:JsonGet, and conditions.

Pure: whatever has to be looked up (a parameter, a step's answer, a property file) comes through a ``Lookup``.
Source: AWS's "SageMaker model building pipeline definition JSON schema", and what the SageMaker SDK emits where they
differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol

_TOKEN = re.compile(r"\.?([A-Za-z0-9_-]+)|\[(\d+)\]|\['([^']+)'\]|\[\"([^\"]+)\"\]")
_STEP = re.compile(r"Steps\.([A-Za-z0-9_-]+)\.?(.*)", re.DOTALL)

CONDITIONS = frozenset(
    {
        "Equals",
        "GreaterThan",
        "GreaterThanOrEqualTo",
        "LessThan",
        "LessThanOrEqualTo",
        "In",
        "Not",
        "Or",
    }
)


EXECUTION_VARIABLES = frozenset(
    {
        "CurrentDateTime",
        "PipelineArn",
        "PipelineExecutionArn",
        "PipelineExecutionId",
        "PipelineName",
        "ProcessingJobName",
        "StartDateTime",
        "TrainingJobName",
    }
)


class ExpressionError(Exception):
    """An expression that cannot be resolved; the text names the expression and what is missing."""


class Lookup(Protocol):
    """Where an expression's values come from."""

    def parameter(self, name: str) -> Any:
        """Return a pipeline parameter's value."""

    def execution(self, name: str) -> Any:
        """Return an execution variable (``PipelineExecutionId``, ``StartDateTime``, ...)."""

    def step(self, name: str) -> Any:
        """Return what describing the step's job or resource answers."""

    def property_file(self, step: str, name: str) -> Any:
        """Return the parsed content of a step's property file."""

    def json_file(self, uri: str) -> Any:
        """Return the parsed content of a JSON file in S3."""


def resolve(value: Any, lookup: Lookup) -> Any:
    """Replace every expression in a JSON value by what it stands for.

    Raises ``ExpressionError``.
    """
    if isinstance(value, list):
        return [resolve(item, lookup) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Get"}:
        return _get(value["Get"], lookup)
    if set(value) == {"Std:Join"}:
        join = value["Std:Join"]
        return join["On"].join(_text(resolve(item, lookup)) for item in join["Values"])
    if set(value) == {"Std:JsonGet"}:
        return _json_get(value["Std:JsonGet"], lookup)
    return {key: resolve(item, lookup) for key, item in value.items()}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _get(reference: str, lookup: Lookup) -> Any:
    head, _, rest = reference.partition(".")
    if head == "Parameters":
        return lookup.parameter(rest)
    if head == "Execution":
        return lookup.execution(rest)
    match = _STEP.fullmatch(reference)
    if match is None:
        raise ExpressionError(f"cannot resolve {{'Get': '{reference}'}}: it starts with no known name")
    return follow(lookup.step(match[1]), match[2], f"step {match[1]}")


def _json_get(arguments: dict[str, Any], lookup: Lookup) -> Any:
    path = arguments["Path"]
    if "S3Uri" in arguments:
        uri = resolve(arguments["S3Uri"], lookup)
        return follow(lookup.json_file(uri), path, f"the JSON file {uri}")
    reference = arguments["PropertyFile"]["Get"]
    match = re.fullmatch(r"Steps\.([A-Za-z0-9_-]+)\.PropertyFiles\.([A-Za-z0-9_-]+)", reference)
    if match is None:
        raise ExpressionError(f"'{reference}' is no property file: expected Steps.<step>.PropertyFiles.<name>")
    return follow(lookup.property_file(match[1], match[2]), path, f"property file {match[2]} of step {match[1]}")


def follow(value: Any, path: str, place: str) -> Any:
    """Walk a path such as ``Outputs['train'].S3Output.S3Uri`` or ``$.metrics.accuracy`` through a JSON value.

    A text key into a list picks the entry whose name it is (``OutputName``, ``ChannelName``, ...), as SageMaker does.
    Raises ``ExpressionError`` that names ``place``, the key that is missing and the keys that are there.
    """
    position = 1 if path.startswith("$") else 0
    while position < len(path):
        token = _TOKEN.match(path, position)
        if token is None:
            raise ExpressionError(f"cannot read the path '{path}' at '{path[position:]}'")
        value = _member(value, token, path, place)
        position = token.end()
    return value


def _member(value: Any, token: re.Match[str], path: str, place: str) -> Any:
    name, index, *quoted = token.groups()
    key = name or next((text for text in quoted if text), None)
    if isinstance(value, dict) and key in value:
        return value[key]
    if isinstance(value, list) and index is not None and int(index) < len(value):
        return value[int(index)]
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict) and any(k.endswith("Name") and v == key for k, v in item.items()):
                return item
    there = ", ".join(sorted(value)) if isinstance(value, dict) else type(value).__name__
    raise ExpressionError(f"{place} has no '{path}': nothing at '{key or index}' (there: {there})")


def references(value: Any) -> Iterator[str]:
    """Yield the ``Get`` references anywhere in a JSON value."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "Get" and isinstance(item, str):
                yield item
            else:
                yield from references(item)


def steps_read(value: Any) -> set[str]:
    """Return the names of the steps whose results a JSON value reads."""
    return {match[1] for reference in references(value) if (match := _STEP.fullmatch(reference))}


def dependencies(step: dict[str, Any]) -> set[str]:
    """Return the names of the steps that must have ended before this one starts (not those of its branches)."""
    own = {key: value for key, value in step["Arguments"].items() if key not in ("IfSteps", "ElseSteps")}
    return set(step.get("DependsOn", [])) | steps_read(own)


def holds(condition: dict[str, Any], lookup: Lookup) -> bool:
    """Decide one condition of a Condition step.

    Raises ``ExpressionError`` for a type that is not known or values that cannot be compared.
    """
    kind = condition["Type"]
    if kind == "Not":
        # The published schema says Expression, the SDK writes Condition.
        return not holds(condition.get("Condition") or condition["Expression"], lookup)
    if kind == "Or":
        return any(holds(part, lookup) for part in condition["Conditions"])
    if kind == "In":
        return resolve(condition["QueryValue"], lookup) in resolve(condition["Values"], lookup)
    compare = _COMPARISONS.get(kind)
    if compare is None:
        raise ExpressionError(f"unknown condition type {kind}: expected one of {', '.join(sorted(CONDITIONS))}")
    left, right = resolve(condition["LeftValue"], lookup), resolve(condition["RightValue"], lookup)
    try:
        return compare(left, right)
    except TypeError as error:
        raise ExpressionError(f"condition {kind} cannot compare {left!r} with {right!r}") from error


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "Equals": lambda left, right: left == right,
    "GreaterThan": lambda left, right: left > right,
    "GreaterThanOrEqualTo": lambda left, right: left >= right,
    "LessThan": lambda left, right: left < right,
    "LessThanOrEqualTo": lambda left, right: left <= right,
}
