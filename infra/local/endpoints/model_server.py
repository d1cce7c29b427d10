"""Serves one model archive as AWS's TensorFlow inference image does: a handler file around TensorFlow Serving.

In AWS's image nginx passes a request to ``code/inference.py`` under gunicorn, which talks to TensorFlow Serving over
REST. Here one process does all of it: the same handler file, and TensorFlow Serving's REST rules, re-implemented over
the same SavedModel. Source: TensorFlow Serving, "RESTful API"; sagemaker-tensorflow-serving-container, README.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import io
import json
import logging
import os
import socket
import sys
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import requests

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

logger = logging.getLogger(__name__)

BODY_LIMIT = 6_291_456
"""Bytes of a request, SageMaker's limit for real-time endpoints."""

ONE_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"
)
"""A PNG file of one black pixel."""

Context = namedtuple(  # the image's own class: handlers may rely on its being a namedtuple
    "Context",
    "model_name, model_version, method, rest_uri, grpc_port, channel, custom_attributes, request_content_type, "
    "accept_header, content_length, timeout",
)


class BadRequest(Exception):
    """A request that TensorFlow Serving would answer with 400; the text is the reason."""


class Model:
    """A SavedModel behind TensorFlow Serving's REST rules."""

    def __init__(self, folder: Path) -> None:
        versions = sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
        if not versions:
            raise SystemExit(f"{folder} holds no model version: expected a folder such as 1/ with saved_model.pb in it")
        self.version = versions[-1].name
        self._loaded = tf.saved_model.load(str(versions[-1]))

    def predict(self, body: bytes) -> bytes:
        """Answer the body of a ``:predict`` call, row format. Raises ``BadRequest``."""
        try:
            request = json.loads(body)
            instances, name = request["instances"], request.get("signature_name", "serving_default")
        except (ValueError, KeyError, AttributeError) as error:
            raise BadRequest(f"JSON Parse error: {type(error).__name__}: {error}") from error
        signature = self._loaded.signatures.get(name)
        if signature is None:
            raise BadRequest(f'Serving signature name: "{name}" not found in signature def')
        inputs = _tensors(instances, signature.structured_input_signature[1])
        try:
            outputs = signature(**inputs)
        except tf.errors.InvalidArgumentError as error:
            raise BadRequest(str(error.message)) from error
        return json.dumps({"predictions": _rows({key: value.numpy() for key, value in outputs.items()})}).encode()

    def warm_up(self) -> None:
        """Send one picture through every signature that takes encoded ones.

        The first call of a graph costs a hundred later ones; whoever is told that the server is ready should not pay
        it.
        """
        for signature in self._loaded.signatures.values():
            specs = signature.structured_input_signature[1]
            if len(specs) == 1 and all(spec.dtype == tf.string and spec.shape.rank == 1 for spec in specs.values()):
                try:
                    signature(**{key: tf.constant([ONE_PIXEL]) for key in specs})
                except tf.errors.OpError:
                    logger.info("a signature that takes bytes takes no pictures; it is not warmed up")


def _tensors(instances: Any, specs: dict[str, tf.TensorSpec]) -> dict[str, tf.Tensor]:
    """Turn rows into tensors by the signature's types: one input unnamed, several by name."""
    if not isinstance(instances, list) or not instances:
        raise BadRequest('"instances" must be a non-empty list')
    columns: dict[str, list[Any]] = {key: [] for key in specs}
    for row in instances:
        named = isinstance(row, dict) and set(row) == set(specs)
        if not named and len(specs) != 1:
            raise BadRequest(f"each instance must name the inputs {', '.join(specs)}")
        for key, column in columns.items():
            column.append(_decoded(row[key] if named else row))
    try:
        return {key: tf.constant(column, dtype=specs[key].dtype) for key, column in columns.items()}
    except (TypeError, ValueError) as error:
        raise BadRequest(f"the instances do not fit the model's input: {error}") from error


def _decoded(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"b64"}:
        try:
            return base64.b64decode(value["b64"])
        except (TypeError, ValueError) as error:
            raise BadRequest(f"an instance is not base64: {error}") from error
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    return value


def _rows(outputs: dict[str, np.ndarray[Any, Any]]) -> list[Any]:
    """Lay outputs out by rows: a plain list for one output, dictionaries for several."""
    plain = {key: _plain(value) for key, value in outputs.items()}
    if len(plain) == 1:
        return list(next(iter(plain.values())))
    return [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]


def _plain(value: np.ndarray[Any, Any]) -> list[Any]:
    if value.dtype == object:
        return np.vectorize(lambda item: item.decode("utf-8"), otypes=[object])(value).tolist()  # type: ignore[no-any-return]
    return value.tolist()  # type: ignore[no-any-return]


def load_handler(folder: Path) -> ModuleType | None:
    """Load ``code/inference.py`` of an archive, or nothing: then requests go to the model as they come."""
    path = folder / "code" / "inference.py"
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location("inference", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module


class Server:
    """A model and its handler behind ``/ping`` and ``/invocations``."""

    def __init__(self, folder: Path) -> None:
        self.model = Model(folder)
        self.handler = load_handler(folder)
        self.model.warm_up()

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/ping", self.ping, methods=["GET"]),
                Route("/invocations", self.invocations, methods=["POST"]),
            ]
        )

    async def ping(self, _: Request) -> Response:
        """Answer that the model is loaded: the server listens only then."""
        return Response()

    async def invocations(self, request: Request) -> Response:
        """Answer one request through handler and model."""
        body = await request.body()
        if len(body) > BODY_LIMIT:
            return Response(f"the body has {len(body)} bytes, the limit is {BODY_LIMIT}", 413)
        context = Context(
            "model", self.model.version, "predict", "in-process", None, None,
            request.headers.get("x-amzn-sagemaker-custom-attributes"), request.headers.get("content-type"),
            request.headers.get("accept"), len(body), None,
        )  # fmt: skip  # eleven short fields read better in three lines than in eleven
        return await run_in_threadpool(self.answer, body, context)

    def answer(self, body: bytes, context: Context) -> Response:
        """Run handler, model, handler; errors become statuses as the image makes them."""
        try:
            handler = self.handler
            if handler is None:
                return Response(self.model.predict(body), media_type="application/json")
            if hasattr(handler, "handler"):
                content, content_type = handler.handler(io.BytesIO(body), context)
            else:
                processed = handler.input_handler(io.BytesIO(body), context)
                content, content_type = handler.output_handler(self._predict(processed), context)
            return Response(content, media_type=content_type)
        except BadRequest as error:
            return Response(json.dumps({"error": str(error)}), 400, media_type="application/json")
        except Exception as error:
            # falcon, under which AWS's image runs handlers, knows its own HTTPError and makes a 500 of the rest.
            status = str(getattr(error, "status", "500"))
            if status.startswith("5"):
                logger.exception("the handler failed")
            return Response(json.dumps({"error": str(error)}), int(status[:3]), media_type="application/json")

    def _predict(self, body: str | bytes) -> requests.Response:
        """Answer as ``requests.post`` to TensorFlow Serving would, which is what an output handler is given."""
        response = requests.Response()
        try:
            response.status_code, response._content = 200, self.model.predict(_bytes(body))
        except BadRequest as error:
            response.status_code, response.reason = 400, "Bad Request"
            response._content = json.dumps({"error": str(error)}).encode()
        response.headers["Content-Type"] = "application/json"
        return response


def _bytes(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else body


def main(argv: Sequence[str] | None = None) -> int:
    """Serve an archive on a socket until told to stop."""
    parser = argparse.ArgumentParser(prog="model_server", description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True, help="the unpacked model archive")
    parser.add_argument("--socket", type=int, required=True, help="file descriptor of a listening socket")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # One thread a request: on single pictures a second one costs two to four times the processor time.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    server = Server(arguments.model_dir)
    config = uvicorn.Config(server.app(), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=arguments.socket)])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
