"""CloudFormation as templates need it: moto's, with what it lacks.

moto skips resource types that it does not know, compares templates without their parameters, stops half-way where a
resource fails, and deletes what leaves a template even if it is to be retained. Here a change set that holds an unknown
type is refused with its name, changes are those of the resolved templates, and what fails is rolled back.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

from moto.cloudformation import models, parsing, responses
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import Change, ChangeSet, CloudFormationBackend, Event, Stack
from moto.cloudformation.parsing import ResourceMap

from infra.local.service import Service
from infra.local.stacks import alerts, identities, networks, types  # noqa: F401 - imported, so that moto finds them
from infra.local.stacks.resources import SageMakerType
from infra.local.stacks.templates import in_order, parsed, present, references, resolved, scope_of
from infra.local.store import Record

logger = logging.getLogger(__name__)

_installing = threading.Lock()


class ResourceFailed(ValidationError):  # type: ignore[misc]  # moto ships no types
    """A resource that could not be created or changed; the text names it."""

    def __init__(self, logical_id: str, resource_type: str, error: Exception) -> None:
        super().__init__(message=f"{logical_id} ({resource_type}): {error}")
        self.logical_id, self.resource_type, self.reason = logical_id, resource_type, str(error)


def install(service: Service) -> None:
    """Put all this into moto's classes; SageMaker's resources are made by calls of ``service``."""
    SageMakerType.service = service
    with _installing:
        if ResourceMap.update is not _update:
            _install()


def _install() -> None:
    for module in (models, responses):
        module.yaml_tag_constructor = _knowing_conditions(module.yaml_tag_constructor)
    for name in ("parse_and_create_resource", "parse_and_update_resource"):
        setattr(parsing, name, _naming_the_resource(getattr(parsing, name)))
    CloudFormationBackend.create_change_set = _seeing_no_changes(CloudFormationBackend.create_change_set)
    for name in ("create_stack", "create_change_set", "update_stack"):
        setattr(CloudFormationBackend, name, _refusing_what_cannot_be(getattr(CloudFormationBackend, name)))
    CloudFormationBackend.execute_change_set = _execute_change_set
    CloudFormationBackend.delete_stack = _keeping_what_fails(CloudFormationBackend.delete_stack)
    ResourceMap.build_resource_diff, ResourceMap.update, ResourceMap.delete = _differences, _update, _delete
    ResourceMap._delete_resource = _retaining(ResourceMap._delete_resource)
    ChangeSet.diff = _changes


# Change sets


def _knowing_conditions(stock: Callable[..., Any]) -> Callable[..., Any]:
    """Read ``!Condition``, which alone of the short forms stands for no function; moto reads one."""

    @functools.wraps(stock)
    def construct(loader: Any, tag: Any, node: Any) -> Any:
        return {"Condition": node.value} if tag == "!Condition" else stock(loader, tag, node)

    return construct


def _refusing_what_cannot_be(stock: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def run(backend: CloudFormationBackend, *, template: str, parameters: Any, **more: Any) -> Any:
        name = more.get("stack_name") or more["name"]
        stack = next((each for each in backend.stacks.values() if name in (each.name, each.stack_id)), None)
        if more.get("change_set_type") == "CREATE" and stack:
            if stack.status != "REVIEW_IN_PROGRESS":
                raise ValidationError(message=f"Stack [{name}] already exists and cannot be created again.")
            # It is nothing yet but a change set that nobody carried out; moto would make a second one of its name.
            backend.delete_stack(stack.stack_id)
            stack = None
        values = backend._resolve_update_parameters(stack, parameters) if isinstance(parameters, list) else parameters
        stack = stack or Stack(name, name, {}, {}, backend.account_id, backend.region_name)
        _refuse_what_cannot_be(stack.resource_map, parsed(template), values)
        return stock(backend, template=template, parameters=parameters, **more)

    return run


def _refuse_what_cannot_be(like: ResourceMap, template: Record, parameters: Record) -> None:
    scope = scope_of(like, template, parameters)
    resources = present(scope)
    named = {*template["Resources"], *scope.resolved_parameters}
    if unresolved := sorted({name for name in references(resources) if "::" not in name} - named):
        raise ValidationError(
            message=f"Template format error: Unresolved resource dependencies [{', '.join(unresolved)}] "
            "in the Resources block of the template"
        )
    if unknown := sorted({each["Type"] for each in resources.values() if not _known(each["Type"])}):
        raise ValidationError(message=f"The embedded SageMaker has no resource types [{', '.join(unknown)}].")
    in_order(resources)


def _known(resource_type: str) -> bool:
    model = parsing.get_model_map().get(resource_type)
    if resource_type.startswith("AWS::SageMaker::"):
        # moto has some of them, in books of its own that nobody here reads.
        return model is not None and issubclass(model, SageMakerType)
    return model is not None or resource_type in parsing.NULL_MODELS


def _differences(self: ResourceMap, other_template: Record, parameters: Record | None = None) -> dict[str, list[str]]:
    """Compare what is there with what another template, or other parameters, would make."""
    old = present(self)
    new = present(scope_of(self, other_template, self.input_parameters if parameters is None else parameters))
    return {
        "Add": [name for name in new if name not in old],
        "Modify": [name for name in new if name in old and new[name] != old[name]],
        "Remove": [name for name in old if name not in new],
    }


def _changes(self: ChangeSet) -> list[Change]:
    old, new = self.stack.resource_map._resource_json_map, self.template_dict["Resources"]
    differences = self.stack.resource_map.build_resource_diff(self.template_dict, self.parameters)
    return [
        Change(action, name, (new.get(name) or old[name])["Type"])
        for action, names in differences.items()
        for name in names
    ]


def _seeing_no_changes(stock: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def run(backend: CloudFormationBackend, **request: Any) -> Any:
        identifier, stack_id = stock(backend, **request)
        change_set = backend.change_sets[identifier]
        here = change_set.stack.resource_map
        there = scope_of(here, change_set.template_dict, change_set.parameters)
        outputs = [resolved(scope._template.get("Outputs"), scope) for scope in (here, there)]
        if change_set.change_set_type == "UPDATE" and not change_set.changes and outputs[0] == outputs[1]:
            change_set.status, change_set.execution_status = "FAILED", "UNAVAILABLE"
            change_set.status_reason = (
                "The submitted information didn't contain changes. Submit different information to create a change set."
            )
        return identifier, stack_id

    return run


# Carrying them out


def _execute_change_set(self: CloudFormationBackend, change_set_name: str, stack_name: str | None = None) -> None:
    """Carry out a change set; what fails is written into the stack's events and rolled back."""
    change_set = self.describe_change_set(change_set_name)
    if change_set.execution_status != "AVAILABLE":
        raise ValidationError(
            message=f"ChangeSet [{change_set.change_set_id}] cannot be executed in its current status of "
            f"[{change_set.status}]"
        )
    stack, kind = self.stacks[change_set.stack_id], change_set.change_set_type
    stack._add_stack_event(f"{kind}_IN_PROGRESS", resource_status_reason="User Initiated")
    template, parameters = stack.template_dict, stack.resource_map.input_parameters
    try:
        stack.resource_map.update(change_set.template_dict, change_set.parameters)
    except Exception as error:
        # On AWS the call has been answered by now: the stack's status is what tells.
        logger.exception("stack %s cannot be changed", stack.name)
        change_set.execution_status = "EXECUTE_FAILED"
        _note_failure(stack, kind, error)
        _roll_back(stack, kind, template, parameters)
        return
    stack.template, stack.template_dict, stack.parameters = (
        change_set.template,
        change_set.template_dict,
        change_set.parameters,
    )
    stack.description = stack.template_dict.get("Description")
    stack.output_map = stack._create_output_map()
    self.exports.update({export.name: export for export in stack.exports})
    change_set.execution_status = "EXECUTE_COMPLETE"
    _end(stack, f"{kind}_COMPLETE")


def _end(stack: Stack, status: str, reason: str | None = None) -> None:
    stack.status = status
    stack._add_stack_event(status, resource_status_reason=reason)


def _note_failure(stack: Stack, kind: str, error: Exception) -> None:
    failed = (
        error if isinstance(error, ResourceFailed) else ResourceFailed(stack.name, Stack.cloudformation_type(), error)
    )
    what = stack.stack_id, stack.name, failed.logical_id, "", failed.resource_type
    stack.events.append(Event(*what, f"{kind}_FAILED", failed.reason, None))


def _roll_back(stack: Stack, kind: str, template: Record, parameters: Record) -> None:
    """Put a stack back to what it was; one that never was keeps nothing."""
    prefix = "ROLLBACK" if kind == "CREATE" else "UPDATE_ROLLBACK"
    resources = stack.resource_map
    try:
        if kind == "CREATE":
            for node in resources._resource_json_map.values():
                if node.get("DeletionPolicy") == "RetainExceptOnCreate":
                    node["DeletionPolicy"] = "Delete"
            resources.delete()
            _empty(stack)
        else:
            resources.update(template, parameters)
    except Exception as error:
        # There is nobody left to tell but the reader of the stack's events.
        logger.exception("stack %s cannot be rolled back", stack.name)
        _end(stack, f"{prefix}_FAILED", str(error))
    else:
        _end(stack, f"{prefix}_COMPLETE")


def _empty(stack: Stack) -> None:
    """Forget the template of a stack that has no resources any more: moto makes what it is asked to show."""
    stack.template_dict = {}
    stack.resource_map = stack._create_resource_map()
    stack.output_map = stack._create_output_map()


def _update(self: ResourceMap, template: Record, parameters: Record | None = None) -> None:
    """Create, change and delete resources, in this order, each after those that it refers to."""
    differences = self.build_resource_diff(template, parameters)
    gone = {name: self._resource_json_map[name] for name in differences["Remove"]}
    self._template, self._resource_json_map = template, template["Resources"]
    if parameters is not None:
        self.input_parameters = parameters
    self.load_mapping()
    self.load_parameters()
    self.load_conditions()
    replaced: set[str] = set()
    for name in in_order(self._resource_json_map):
        affected = name in differences["Modify"] or replaced.intersection(references(self._resource_json_map[name]))
        if name in differences["Add"]:
            _ = self[name]  # Reading is creating.
        elif affected and _change_resource(self, name):
            replaced.add(name)
    _delete(self, gone)


def _delete(self: ResourceMap, gone: dict[str, Record] | None = None) -> None:
    """Delete resources, or all of them, each before those that it refers to."""
    nodes = self._resource_json_map if gone is None else gone
    for name in reversed(in_order(nodes)):
        if name in self._parsed_resources:
            self._delete_resource(self._parsed_resources[name], nodes[name])
            del self._parsed_resources[name]


def _change_resource(resources: ResourceMap, name: str) -> bool:
    """Change a resource that is there, and tell whether another one took its place."""
    before, node = resources._parsed_resources.get(name), resources._resource_json_map[name]
    if before is None:
        return False
    place = {"account_id": resources._account_id, "region_name": resources._region_name}
    after = parsing.parse_and_update_resource(name, node, resources, **place)
    if after is None:
        raise ResourceFailed(
            name, node["Type"], ValueError("the embedded SageMaker cannot change what exists of this type")
        )
    resources._parsed_resources[name] = after
    return bool(after.physical_resource_id != before.physical_resource_id)


def _naming_the_resource(stock: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def run(logical_id: str, resource_json: Record, *args: Any, **kwargs: Any) -> Any:
        try:
            return stock(logical_id, resource_json, *args, **kwargs)
        except ResourceFailed:
            raise  # A resource that this one refers to.
        except Exception as error:
            # Whatever another service has against the resource is what the stack's owner must read.
            raise ResourceFailed(logical_id, resource_json["Type"], error) from error

    return run


def _retaining(stock: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def run(self: ResourceMap, parsed_resource: Any, resource_json: Record) -> None:
        if resource_json.get("DeletionPolicy") in ("Retain", "RetainExceptOnCreate"):
            return
        try:
            stock(self, parsed_resource, resource_json)
        except Exception as error:
            raise ResourceFailed(parsed_resource.logical_resource_id, resource_json["Type"], error) from error

    return run


def _keeping_what_fails(stock: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def run(backend: CloudFormationBackend, name_or_stack_id: str) -> None:
        stack = next((each for each in backend.stacks.values() if name_or_stack_id in (each.name, each.stack_id)), None)
        if stack is None:
            return
        try:
            stock(backend, stack.stack_id)
        except Exception as error:
            # As when a change set fails: the status tells.
            logger.exception("stack %s cannot be deleted", stack.name)
            backend.stacks[stack.stack_id] = stack
            _note_failure(stack, "DELETE", error)
            _end(stack, "DELETE_FAILED", str(error))
        else:
            _empty(stack)
            left = {key: each for key, each in backend.change_sets.items() if each.stack_id != stack.stack_id}
            backend.change_sets = left

    return run
