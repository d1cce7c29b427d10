"""SageMaker's wire: takes a request, holds it against botocore's own service model, and calls the operation.

Shapes, required members, ranges, enums, patterns and defaults are read from the service model that the clients
themselves use, so that what AWS refuses for its form is refused here with the same error code, and nothing of it is
written down a second time.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import botocore.session
import regex
from botocore import xform_name
from botocore.model import ServiceModel, Shape
from botocore.utils import parse_timestamp
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
        """Carry out one action and answer what the service model says that it answers.

        Raises ``ServiceError`` with ``ValidationException`` where the request breaks the service model, and with
        ``UnsupportedOperation`` where the action exists on AWS and not here.
        """
        if action not in self.model.operation_names:
            refuse(f"Unknown action {action}.", "UnknownOperationException")
        method = self._method(xform_name(action))
        if method is None:
            refuse(f"{action} is not supported by the embedded SageMaker.", "UnsupportedOperation")
        operation = self.model.operation_model(action)
        if operation.input_shape is not None:
            check(request, operation.input_shape)
        answer: Record = method(request) or {}
        return _shown(answer, operation.output_shape)

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
    """Hold a request against its shape: members, types and lower bounds by botocore, the rest here.

    Raises ``ServiceError`` (``ValidationException``) that lists every violation, worded as AWS words them.
    """
    report = ParamValidator().validate(request, shape)
    problems = [report.generate_report()] if report.has_errors() else list(_violations(request, shape, ""))
    if problems:
        plural = "s" if len(problems) > 1 else ""
        refuse(f"{len(problems)} validation error{plural} detected: {'; '.join(problems)}")


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
            yield from _violations(key, shape.key, f"{where}.{key}.key")
            yield from _violations(item, shape.value, f"{where}.{key}")
    rule = _broken_rule(value, shape)
    if rule:
        yield f"Value '{value}' at '{where}' failed to satisfy constraint: {rule}"


def _broken_rule(value: Any, shape: Shape) -> str | None:
    most = shape.metadata.get("max", math.inf)
    if shape.type_name in ("string", "list", "map") and len(value) > most:
        return f"Member must have length less than or equal to {most}"
    if shape.type_name in ("integer", "long", "float", "double") and value > most:
        return f"Member must have value less than or equal to {most}"
    if shape.type_name != "string":
        return None
    if shape.enum and value not in shape.enum:
        return f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"
    pattern = shape.metadata.get("pattern")
    if pattern and not _matches(pattern, value):
        return f"Member must satisfy regular expression pattern: {pattern}"
    return None


def _matches(pattern: str, value: str) -> bool:
    # A slip in two of the model's patterns: the end of the text, up to 256 times.
    readable = re.sub(r"\$\{\d+,\d+\}$", "", pattern)
    try:
        # Python's own module does not know classes such as \p{L}, of which the model has some.
        return regex.fullmatch(readable, value, flags=regex.DOTALL) is not None
    except regex.error:
        # What cannot be read here is left to AWS.
        return True


def _shown(answer: Record, shape: Shape | None) -> Record:
    """Cut an answer down to what its shape has: records also hold what only this program needs."""
    members = shape.members if shape is not None else {}
    return {key: answer[key] for key in members if answer.get(key) is not None}


def page(model: ServiceModel, action: str, request: Record, records: list[Record]) -> Record:
    """Answer a List action: filter, sort, cut to one page, and project to the summary's members.

    ``records`` come oldest first. The filters are the ones that List actions share; a summary's members are read from
    the action's output shape, and so is which of them is its name, and which its status.
    """
    output = model.operation_model(action).output_shape
    summaries = next(name for name, shape in output.members.items() if shape.type_name == "list")
    shape = output.members[summaries].member
    chosen = [record for record in records if _selected(record, request, list(shape.members))]
    if request.get("SortBy") in ("Name", "Status"):
        chosen.sort(key=lambda record: _ending(record, list(shape.members), request["SortBy"]))
    if request.get("SortOrder", "Descending") == "Descending":
        chosen.reverse()
    start = _position(request.get("NextToken", "0"))
    end = start + int(request.get("MaxResults", PAGE_SIZE))
    answer: Record = {summaries: [_shown(record, shape) for record in chosen[start:end]]}
    if end < len(chosen):
        answer["NextToken"] = str(end)
    return answer


def _position(token: str) -> int:
    if not token.isdecimal():
        refuse(f"NextToken '{token}' is not one that this server gave out.")
    return int(token)


def _ending(record: Record, members: list[str], suffix: str) -> str:
    """Return the first member whose name ends so: ``ModelName`` for ``Name``."""
    return next((str(record[key]) for key in members if key.endswith(suffix) and key in record), "")


def _selected(record: Record, request: Record, members: list[str]) -> bool:
    name = _ending(record, members, "Name")
    approval = record.get("ModelApprovalStatus")
    created: float = record.get("CreationTime", 0.0)
    changed: float = record.get("LastModifiedTime", created)
    return (
        request.get("NameContains", "") in name
        and name.startswith(request.get("PipelineNamePrefix", ""))
        and request.get("StatusEquals") in (None, _ending(record, members, "Status"))
        and request.get("ModelApprovalStatus") in (None, approval)
        and _between(created, request, "CreationTimeAfter", "CreationTimeBefore")
        and _between(created, request, "CreatedAfter", "CreatedBefore")
        and _between(changed, request, "LastModifiedTimeAfter", "LastModifiedTimeBefore")
    )


def _between(moment: float, request: Record, after: str, before: str) -> bool:
    def bound(key: str, default: float) -> float:
        return float(parse_timestamp(request[key]).timestamp()) if key in request else default

    return bound(after, -math.inf) <= moment <= bound(before, math.inf)


def now() -> float:
    """Return the present as SageMaker's records keep it: seconds since 1970, to the millisecond."""
    return round(time.time(), 3)
