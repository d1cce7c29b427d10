"""The handler file of an archive, called as AWS's TensorFlow 2.20 image calls it.

Source: sagemaker-tensorflow-serving-container, README ("Pre/Post-Processing") and its front end for archives without a
handler.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import re
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import requests

from infra.local.endpoints.serving.engines import UnservableArchive

logger = logging.getLogger(__name__)

JSON = "application/json"

Context = namedtuple(  # the image's own class: handlers may rely on its being a namedtuple
    "Context",
    "model_name, model_version, method, rest_uri, grpc_port, channel, custom_attributes, request_content_type, "
    "accept_header, content_length, timeout",
)


@dataclass(frozen=True)
class Answer:
    """What a client is sent."""

    status: int
    body: bytes
    content_type: str = JSON


@dataclass(frozen=True)
class Handler:
    """Either a pair around TensorFlow Serving, or one function that calls TensorFlow Serving itself."""

    before: Callable[[Any, Context], str | bytes] | None = None
    after: Callable[[requests.Response, Context], tuple[Any, str]] | None = None
    whole: Callable[[Any, Context], tuple[Any, str]] | None = None


def load(archive: Path) -> Handler:
    """Load ``code/inference.py`` of an archive; without one, requests go to the model as AWS's front end sends them.

    Raises ``UnservableArchive`` if it cannot be imported or has no handler in it.
    """
    path = archive / "code" / "inference.py"
    if not path.is_file():
        return Handler(before=plain_request)
    try:
        module = _imported(path)
    except Exception as error:
        logger.exception("code/inference.py cannot be imported")
        raise UnservableArchive(f"code/inference.py cannot be imported: {type(error).__name__}: {error}") from error
    if hasattr(module, "handler"):
        return Handler(whole=module.handler)
    try:
        return Handler(module.input_handler, module.output_handler)
    except AttributeError as error:
        raise UnservableArchive(
            "code/inference.py defines neither handler(data, context) nor input_handler and output_handler"
        ) from error


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("inference", path)
    if spec is None or spec.loader is None:
        raise UnservableArchive(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # What lies beside the file, and in lib/, may be imported by it, as in the image.
    sys.path[:0] = [str(path.parent), str(path.parent / "lib")]
    spec.loader.exec_module(module)
    return module


class Refused(Exception):
    """A request that needs no model to be refused."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.title, self.description = status, text, text


def plain_request(data: Any, context: Context) -> bytes:
    """Turn a request for an archive without a handler into a predict call, as the image's own front end does."""
    body: bytes = data.read()
    kind = (context.request_content_type or "").partition(";")[0].strip().lower()
    if kind == "text/csv":
        lines = [line.split(",") for line in body.decode("utf-8", "replace").splitlines() if line.strip()]
        rows = [[_number(field) for field in line] for line in lines]
        return json.dumps({"instances": [row[0] if len(row) == 1 else row for row in rows]}).encode()
    if kind not in (JSON, "application/jsonlines", "application/jsons"):
        raise Refused(415, f"Unsupported Media Type: {kind or 'Unknown'}")
    if re.search(rb'"(instances|inputs|examples)"\s*:', body):
        return body
    if re.search(rb"[}\]]\s*[\[{]", body):
        return b'{"instances":[%s]}' % b",".join(line for line in body.splitlines() if line.strip())
    return b'{"instances":%s}' % (body if re.match(rb"\s*\[\s*\[", body) else b"[%s]" % body)


def _number(field: str) -> Any:
    try:
        return json.loads(field)
    except ValueError:
        return field.strip().strip('"')


def stream(body: bytes) -> io.BytesIO:
    """Return a body as what a handler reads from."""
    return io.BytesIO(body)


def served(status: int, content: bytes) -> requests.Response:
    """Return TensorFlow Serving's answer as ``requests.post`` would, which is what an output handler is given."""
    response = requests.Response()
    response.status_code, response._content = status, content
    response.reason = "OK" if status == 200 else "Bad Request"
    response.headers["Content-Type"] = JSON
    return response


def answer(content: Any, content_type: Any) -> Answer:
    """Check what a handler returned. Raises ``TypeError`` if it cannot be sent."""
    body = content.encode() if isinstance(content, str) else content
    kind = content_type or JSON
    if not isinstance(body, bytes) or not isinstance(kind, str):
        raise TypeError(f"the handler must return (str or bytes, content type), not {type(content).__name__}")
    if not kind.isascii() or not kind.isprintable():
        raise TypeError(f"the handler's content type {kind!r} cannot be a header")
    return Answer(200, body, kind)


def failed(error: Exception) -> Answer:
    """Turn a handler's exception into an answer: falcon's ``HTTPError`` keeps its status, the rest is a 500.

    What has such a ``status`` counts as falcon's, which is not installed here.
    """
    status = str(getattr(error, "status", ""))
    if re.match(r"[1-5]\d\d\b", status):
        told = {
            "title": getattr(error, "title", None) or status,
            "description": getattr(error, "description", str(error)),
        }
        return Answer(int(status[:3]), json.dumps({key: text for key, text in told.items() if text}).encode())
    logger.error("the handler failed", exc_info=error)
    return Answer(500, json.dumps({"error": str(error)}).encode())
