"""Checks pipeline definitions as they come in, and binds their parameters. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.local.pipelines import cache
from infra.local.pipelines.expressions import CONDITIONS, EXECUTION_VARIABLES, dependencies, references
from infra.local.pipelines.retries import EXCEPTION_TYPES
from infra.local.pipelines.steps import STEP_TYPES
from infra.local.service import refuse
from infra.local.store import Record

_NEEDED_ARGUMENTS = {
    "Condition": ("Conditions",),
    "Fail": ("ErrorMessage",),
    "Endpoint": ("EndpointName", "EndpointConfigName"),
}
"""What a step itself reads; whatever goes into a call is held against the service model when it is made."""


def check_definition(text: str) -> None:
    """Refuse a definition that could never run: no JSON, unknown step types or references, cycles.

    Raises ``ServiceError`` (``ValidationException``) that names the step.
    """
    try:
        definition = json.loads(text)
        steps = {step["Name"]: step for step in all_steps(definition["Steps"])}
        parameters = {parameter["Name"] for parameter in definition.get("Parameters", [])}
        names = [step["Name"] for step in all_steps(definition["Steps"])]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        refuse(f"Unable to parse pipeline definition: {type(error).__name__}: {error}")
    for name in names:
        if names.count(name) > 1:
            refuse(f"Unable to parse pipeline definition. Duplicate step name '{name}'.")
    for name, step in steps.items():
        if problem := next(_problems(step, steps, parameters), None):
            refuse(f"Unable to parse pipeline definition. Step '{name}': {problem}.")
    _check_cycles(_graph(definition["Steps"]))


def all_steps(steps: list[Record]) -> Iterator[Record]:
    """Yield every step, those inside the branches of conditions too."""
    for step in steps:
        yield step
        yield from all_steps(_branches(step))


def _branches(step: Record) -> list[Record]:
    if step.get("Type") != "Condition":
        return []
    arguments = step.get("Arguments", {})
    return [*arguments.get("IfSteps", []), *arguments.get("ElseSteps", [])]


def _problems(step: Record, steps: Mapping[str, Record], parameters: set[str]) -> Iterator[str]:
    if step.get("Type") not in STEP_TYPES:
        yield f"type {step.get('Type')} is not supported here (supported: {', '.join(sorted(STEP_TYPES))})"
    arguments = step.get("Arguments")
    if not isinstance(arguments, dict):
        yield "it has no Arguments"
        return
    for key in _NEEDED_ARGUMENTS.get(step["Type"], ()):
        if key not in arguments:
            yield f"its Arguments lack {key}"
    for condition in arguments.get("Conditions", []) if step["Type"] == "Condition" else []:
        yield from _unknown_conditions(condition)
    if expiry := step.get("CacheConfig", {}).get("ExpireAfter"):
        try:
            cache.seconds(expiry)
        except ValueError as error:
            yield f"its CacheConfig's ExpireAfter: {error}"
    yield from _bad_policies(step.get("RetryPolicies", []))
    for name in sorted(dependencies(step) - set(steps)):
        yield f"refers to step '{name}', which does not exist"
    for reference in references(_own_arguments(arguments)):
        yield from _dangling(reference, steps, parameters)


def _bad_policies(policies: list[Record]) -> Iterator[str]:
    for policy in policies:
        if unknown := sorted(set(policy.get("ExceptionType", [""])) - EXCEPTION_TYPES):
            yield f"a retry policy names {', '.join(unknown)} (there are: {', '.join(sorted(EXCEPTION_TYPES))})"
        if "MaxAttempts" in policy and "ExpireAfterMin" in policy:
            yield "a retry policy has both MaxAttempts and ExpireAfterMin"


def _own_arguments(arguments: Record) -> Record:
    return {key: value for key, value in arguments.items() if key not in ("IfSteps", "ElseSteps")}


def _unknown_conditions(condition: Record) -> Iterator[str]:
    if condition.get("Type") not in CONDITIONS:
        expected = ", ".join(sorted(CONDITIONS))
        yield f"condition type {condition.get('Type')} is not supported here (supported: {expected})"
    parts = [condition.get("Condition"), condition.get("Expression"), *condition.get("Conditions", [])]
    for part in parts:
        if isinstance(part, dict) and "Type" in part:
            yield from _unknown_conditions(part)


def _dangling(reference: str, steps: Mapping[str, Record], parameters: set[str]) -> Iterator[str]:
    head, _, rest = reference.partition(".")
    if head == "Parameters" and rest not in parameters:
        yield f"refers to parameter '{rest}', which is not declared"
    if head == "Execution" and rest not in EXECUTION_VARIABLES:
        expected = ", ".join(sorted(EXECUTION_VARIABLES))
        yield f"refers to execution variable '{rest}', which does not exist (there are: {expected})"
    if head not in ("Parameters", "Execution", "Steps"):
        yield f"refers to '{reference}', which starts with no known name"
    match = re.fullmatch(r"([^.]+)\.PropertyFiles\.(.+)", rest) if head == "Steps" else None
    declared = steps[match[1]].get("PropertyFiles", []) if match and match[1] in steps else []
    if match and match[2] not in {file["PropertyFileName"] for file in declared}:
        yield f"refers to property file '{match[2]}', which step '{match[1]}' does not declare"


def _graph(steps: list[Record], condition: str | None = None) -> dict[str, set[str]]:
    """Return each step's dependencies; a step in a branch also waits for its condition."""
    graph: dict[str, set[str]] = {}
    for step in steps:
        graph[step["Name"]] = dependencies(step) | ({condition} if condition else set())
        graph.update(_graph(_branches(step), step["Name"]))
    return graph


def _check_cycles(graph: dict[str, set[str]]) -> None:
    done: set[str] = set()
    while len(done) < len(graph):
        free = {name for name, needed in graph.items() if name not in done and needed <= done}
        if not free:
            stuck = ", ".join(sorted(set(graph) - done))
            refuse(f"Unable to parse pipeline definition. Cyclic dependency between steps: {stuck}.")
        done |= free


def bind(definition: Record, given: list[dict[str, str]], inherited: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Give every declared parameter its value: the one given, else the inherited one, else its default.

    Raises ``ServiceError`` for parameters that are undeclared, missing, of the wrong type or outside their enum.
    """
    declared = {parameter["Name"]: parameter for parameter in definition.get("Parameters", [])}
    values = {item["Name"]: item["Value"] for item in given}
    if unknown := sorted(set(values) - set(declared)):
        refuse(f"Parameters [{', '.join(unknown)}] are not declared by the pipeline: {', '.join(sorted(declared))}.")
    bound: dict[str, Any] = {}
    for name, parameter in declared.items():
        if name in values:
            bound[name] = _parse(name, parameter["Type"], values[name])
        elif inherited and name in inherited:
            bound[name] = inherited[name]
        elif "DefaultValue" in parameter:
            bound[name] = parameter["DefaultValue"]
        else:
            refuse(f"Parameter [{name}] has no value and no default.")
        allowed = parameter.get("EnumValues")
        if allowed and bound[name] not in allowed:
            refuse(f"Parameter [{name}] is {bound[name]!r}: expected one of {', '.join(map(str, allowed))}.")
    return bound


def _parse(name: str, kind: str, text: str) -> Any:
    """Read a parameter's value, which travels as text, as its declared type."""
    patterns = {"Integer": r"[+-]?\d+", "Boolean": r"true|false", "Float": r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"}
    if kind == "String":
        return text
    if kind not in patterns or not re.fullmatch(patterns[kind], text, re.IGNORECASE):
        refuse(f"Parameter [{name}] is '{text}': expected a value of type {kind}.")
    if kind == "Boolean":
        return text.lower() == "true"
    return int(text) if kind == "Integer" else float(text)
