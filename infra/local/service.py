"""SageMaker's wire: takes a request, holds it against botocore's own service model, and calls the operation.

Shapes, required members, ranges, enums, patterns and defaults are read from the service model that the clients
themselves use, so that what AWS refuses for its form is refused here with the same error code, and nothing of it is
written down a second time.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import botocore.session
from botocore import xform_name
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator
from werkzeug.wrappers import Request, Response

from infra.local.store import Record

logger = logging.getLogger(__name__)

PAGE_SIZE = 100
"""Entries of a List answer where the request sets no ``MaxResults``, SageMaker's own upper limit."""


class ServiceError(Exception):
    """A refusal as AWS words it: an error code that clients branch on, and a message with the thing's name."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def refuse(message: str, code: str = "ValidationException") -> NoReturn:
    """Raise a refusal; ``ValidationException`` is what SageMaker uses for nearly everything."""
    raise ServiceError(code, message)


def service_model(name: str = "sagemaker") -> ServiceModel:
    """Load botocore's model of a service."""
    return botocore.session.get_session().get_service_model(name)


class Service:
    """Dispatches calls to the methods of ``operations``, each named as boto3 names the action (``create_model``)."""

    def __init__(self) -> None:
        self.model = service_model()
        self._operations: list[object] = []

    def register(self, operations: object) -> None:
        """Offer the public methods of an object as actions."""
        self._operations.append(operations)

    def call(self, action: str, request: Record) -> Record:
        """Carry out one action.

        Raises ``ServiceError`` with ``ValidationException`` where the request breaks the service model, and with
        ``UnsupportedOperation`` where the action exists on AWS and not here.
        """
        if action not in self.model.operation_names:
            refuse(f"Unknown action {action}.", "UnknownOperationException")
        method = self._method(xform_name(action))
        if method is None:
            refuse(f"{action} is not supported by the embedded SageMaker.", "UnsupportedOperation")
        shape = self.model.operation_model(action).input_shape
        if shape is not None:
            check(request, shape)
        answer: Record = method(request) or {}
        return answer

    def _method(self, name: str) -> Any:
        found = (getattr(operations, name, None) for operations in self._operations)
        return next((method for method in found if callable(method)), None)

    def respond(self, request: Request) -> Response:
        """Answer one HTTP request of the JSON protocol (``X-Amz-Target: SageMaker.<Action>``)."""
        action = request.headers["X-Amz-Target"].partition(".")[2]
        try:
            body = self.call(action, json.loads(request.get_data() or b"{}"))
            return _json_response(body, 200)
        except ServiceError as error:
            return _json_response({"__type": error.code, "message": str(error)}, 400)
        except json.JSONDecodeError as error:
            return _json_response({"__type": "SerializationException", "message": f"not JSON: {error}"}, 400)
        except Exception:
            # The boundary of the server: the caller gets AWS's word for it, and the log gets the traceback.
            logger.exception("%s failed", action)
            return _json_response({"__type": "InternalFailure", "message": f"{action} failed, see the server log"}, 500)


def _json_response(body: Record, status: int) -> Response:
    return Response(json.dumps(body), status, content_type="application/x-amz-json-1.1")


def check(request: Record, shape: Shape) -> None:
    """Hold a request against its shape: members, types and ranges by botocore, enums and patterns here.

    Raises ``ServiceError`` (``ValidationException``) that lists every violation, worded as AWS words them.
    """
    report = ParamValidator().validate(_with_times(request, shape), shape)
    problems = [report.generate_report()] if report.has_errors() else list(_violations(request, shape, ""))
    if problems:
        plural = "s" if len(problems) > 1 else ""
        refuse(f"{len(problems)} validation error{plural} detected: {'; '.join(problems)}")


def _with_times(value: Any, shape: Shape) -> Any:
    """Leave time stamps out of botocore's check: on the wire they are numbers, which it accepts only as text."""
    if shape.type_name == "structure" and isinstance(value, dict):
        members = shape.members
        return {
            key: _with_times(item, members[key]) if key in members else item
            for key, item in value.items()
            if key not in members or members[key].type_name != "timestamp"
        }
    return value


def _violations(value: Any, shape: Shape, where: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for key, item in value.items():
            if key in shape.members:
                yield from _violations(item, shape.members[key], f"{where}.{key}" if where else key)
    elif shape.type_name == "list":
        for index, item in enumerate(value):
            yield from _violations(item, shape.member, f"{where}.{index + 1}.member")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from _violations(item, shape.value, f"{where}.{key}")
    elif shape.type_name == "string":
        rule = _broken_rule(value, shape)
        if rule:
            yield f"Value '{value}' at '{where}' failed to satisfy constraint: {rule}"


def _broken_rule(value: str, shape: Shape) -> str | None:
    if shape.enum and value not in shape.enum:
        return f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"
    longest = shape.metadata.get("max")
    if longest is not None and len(value) > longest:
        return f"Member must have length less than or equal to {longest}"
    pattern = shape.metadata.get("pattern")
    if pattern and not _matches(pattern, value):
        return f"Member must satisfy regular expression pattern: {pattern}"
    return None


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.fullmatch(pattern, value, flags=re.DOTALL) is not None
    except re.error:
        # Some patterns use Java's syntax (\p{L}); what cannot be read here is left to AWS.
        return True


def public(record: Record) -> Record:
    """Drop what is kept for ourselves (keys that start with an underscore)."""
    return {key: value for key, value in record.items() if not key.startswith("_")}


def page(model: ServiceModel, action: str, request: Record, records: list[Record]) -> Record:
    """Answer a List action: filter, sort, cut to one page, and project to the summary's members.

    ``records`` come oldest first. The filters are the ones that List actions share; a summary's members are read from
    the action's output shape.
    """
    output = model.operation_model(action).output_shape
    summaries = next(name for name, shape in output.members.items() if shape.type_name == "list")
    members = output.members[summaries].member.members
    chosen = [record for record in records if _selected(record, request)]
    if request.get("SortOrder", "Descending") == "Descending":
        chosen.reverse()
    start = int(request.get("NextToken", 0))
    end = start + int(request.get("MaxResults", PAGE_SIZE))
    answer: Record = {
        summaries: [{key: record[key] for key in members if key in record} for record in chosen[start:end]]
    }
    if end < len(chosen):
        answer["NextToken"] = str(end)
    return answer


def _selected(record: Record, request: Record) -> bool:
    name = next((value for key, value in record.items() if key.endswith("Name")), "")
    status = next((value for key, value in record.items() if key.endswith("Status")), None)
    created = float(record.get("CreationTime") or record.get("StartTime") or 0.0)
    after = float(request.get("CreationTimeAfter", request.get("CreatedAfter", "-inf")))
    before = float(request.get("CreationTimeBefore", request.get("CreatedBefore", "inf")))
    return (
        request.get("NameContains", "") in name
        and name.startswith(request.get("PipelineNamePrefix", ""))
        and request.get("StatusEquals", status) == status
        and request.get("ModelApprovalStatus", record.get("ModelApprovalStatus")) == record.get("ModelApprovalStatus")
        and after <= created <= before
    )


def now() -> float:
    """Return the present as SageMaker's records keep it: seconds since 1970, to the millisecond."""
    return round(time.time(), 3)
