"""What a template of CloudFormation says: its resources with conditions and parameters resolved, and their order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import Stack
from moto.cloudformation.parsing import ResourceMap
from yaml import YAMLError  # type: ignore[import-untyped]  # PyYAML ships no types

from infra.local.store import Record


def parsed(text: str) -> Record:
    """Return a template; raises ``ValidationError`` for what is none."""
    try:
        template = Stack.parse_template(text)
    except (YAMLError, ValueError) as error:
        raise ValidationError(message=f"Template format error: {error}") from error
    if not isinstance(template, dict) or not isinstance(template.get("Resources"), dict):
        raise ValidationError(message="Template format error: At least one Resources member must be defined.")
    for name, node in template["Resources"].items():
        if not isinstance(node, dict) or "Type" not in node:
            place = f"[/Resources/{name}]"
            raise ValidationError(message=f"Template format error: {place} Every Resources object must contain a Type.")
    return template


def scope_of(like: ResourceMap, template: Record, parameters: Record) -> ResourceMap:
    """Return a template's parameters and conditions, for the stack of ``like``; raises moto's ``ValidationError``."""
    names: tuple[Any, ...] = like.stack_id, like["AWS::StackName"], parameters, {}, like._region_name, like._account_id
    scope = ResourceMap(*names, template, like.cross_stack_resources)
    scope.load_mapping()
    scope.load_parameters()
    scope.load_conditions()
    return scope


def present(scope: ResourceMap) -> dict[str, Record]:
    """Return the resources whose condition holds, with the parameters' values in place of their names."""
    resources = scope._resource_json_map
    holds = {
        name: scope.lazy_condition_map[each["Condition"]] for name, each in resources.items() if "Condition" in each
    }
    # moto adds the properties to resources that have none.
    return {name: resolved({"Properties": {}, **resources[name]}, scope) for name in resources if holds.get(name, True)}


def resolved(node: Any, scope: ResourceMap) -> Any:
    """Return a part of a template with the parameters' values and the conditions' choices in it, to be compared."""
    values = scope.resolved_parameters
    if isinstance(node, list):
        return [resolved(item, scope) for item in node]
    if not isinstance(node, dict):
        return node
    if "Fn::If" in node:
        condition, yes, no = node["Fn::If"]
        return resolved(yes if scope.lazy_condition_map[condition] else no, scope)
    if isinstance(node.get("Ref"), str) and node["Ref"] in values:
        return values[node["Ref"]]
    result = {key: resolved(item, scope) for key, item in node.items()}
    if "Fn::Sub" in node:
        # Only compared and never shown, so the values may stand beside the text.
        result["values"] = {name: values[name] for name in references(node) if name in values}
    return result


def references(node: Any) -> Iterator[str]:
    """Yield the logical names that a part of a template refers to."""
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, dict):
        for key, item in node.items():
            if key == "Ref":
                yield item
            elif key == "Fn::GetAtt":
                yield item[0] if isinstance(item, list) else item.partition(".")[0]
            elif key == "DependsOn":
                yield from [item] if isinstance(item, str) else item
            elif key == "Fn::Sub":
                text, own = (item, {}) if isinstance(item, str) else item
                yield from (name for name in re.findall(r"\$\{(\w+)[.}]", text) if name not in own)
            yield from references(item)


def in_order(resources: dict[str, Record]) -> list[str]:
    """Return the logical names so that each comes after those that it refers to."""
    order: dict[str, None] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValidationError(message=f"Circular dependency between resources: [{', '.join(above)}]")
        for other in references(resources[name]):
            if other in resources and other not in order:
                visit(other, (*above, name))
        order[name] = None

    for name in resources:
        visit(name, ())
    return list(order)
