"""The web application of one model: /ping, /invocations, /metrics, and TensorFlow Serving's own interface."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from infra.local.endpoints.serving import engines, handlers, warmup
from infra.local.endpoints.serving.batching import Call, Worker
from infra.local.endpoints.serving.handlers import JSON, Answer, Context, Handler
from infra.local.endpoints.serving.telemetry import AccessLog, Metrics, Served
from infra.local.endpoints.serving.workers import Readiness

BODY_LIMIT = 6_291_456
"""Bytes of a request, SageMaker's limit for real-time endpoints."""

PREDICT_LIMIT = 100 * 1024 * 1024
"""Bytes of a predict call: the JSON that a handler makes of a body is longer than it, arrays several times."""

BODY_SECONDS = 60
"""How long a client may take to send a body; SageMaker's limit for the whole invocation."""

MODEL_NAME = "model"

INVOCATIONS = "/invocations"

MOST_WAITING = 1024
"""Requests that may wait for the model; one more is told to come back later."""

OWN_CALLS = 16
"""Handlers of the kind that calls TensorFlow Serving itself, at once."""


@dataclass(frozen=True)
class Settings:
    """How a model is served."""

    archive: Path
    port: int
    """Of the server itself, where handlers find TensorFlow Serving's interface."""
    most_rows: int = 64
    """Of one call of the engine; 1 puts no two requests together."""
    body_limit: int = BODY_LIMIT


class Application:
    """One model and its handler as an ASGI application, in one process or in one of several."""

    def __init__(
        self, settings: Settings, readiness: Readiness, log: IO[bytes], ended: Callable[[BaseException], None]
    ) -> None:
        self.settings, self._readiness, self._ended = settings, readiness, ended
        self.metrics, self._log = Metrics(), AccessLog(log)
        self._worker = Worker(self._load, settings.most_rows, MOST_WAITING)
        self._worker.observe = self._observe
        self._own_calls = ThreadPoolExecutor(OWN_CALLS, "handler")
        self._handler = Handler()
        self._version = ""
        self._dead = False
        predict = f"/v1/models/{MODEL_NAME}"
        self._routed = Starlette(
            routes=[
                # For the other methods, which are refused: a POST does not come this way.
                Route(INVOCATIONS, _Endpoint(self._invoke), methods=["POST"]),
                # Called without Starlette's Request and Response, which would cost more than all else.
                Route(f"{predict}:predict", _Endpoint(self._predict), methods=["POST"]),
                Route(f"{predict}/versions/{{version:int}}:predict", _Endpoint(self._predict), methods=["POST"]),
                Route("/ping", self._ping),
                Route("/metrics", self._metrics),
                Route(predict, self._status),
            ],
            exception_handlers={HTTPException: self._refused},
            lifespan=self._lifespan,
        )

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Invocations, nearly all of them, go past Starlette's layers to save their cost."""
        if scope["type"] == "http" and scope["path"] == INVOCATIONS and scope["method"] == "POST":
            await self._invoke(scope, receive, send)
        else:
            await self._routed(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._worker.run(asyncio.get_running_loop(), self._began, self._over)
        yield
        self._log.flush()

    def _load(self) -> tuple[Handler, engines.Engine]:
        """Load and warm the model; the worker's thread does it, while /ping already answers 503."""
        folder = engines.version_folder(self.settings.archive)
        self._handler = handlers.load(self.settings.archive)
        engine = engines.open_engine(folder)
        warmup.warm_up(engine, folder)
        self._version = folder.name
        # Hundreds of thousands of objects that stay: without this the collector would walk over them again and again.
        gc.collect()
        gc.freeze()
        return self._handler, engine

    def _began(self) -> None:
        self.metrics.ready.set(1)
        self._readiness.tell()

    def _over(self, error: BaseException) -> None:
        self._dead = True
        self.metrics.ready.set(0)
        self._ended(error)

    def _observe(self, calls: list[Call]) -> None:
        # Those that shared a call of the engine have its seconds, to the last digit.
        self.metrics.called({(call.model_seconds, call.batch) for call in calls if call.batch})

    # What clients ask

    async def _ping(self, _: Request) -> Response:
        # Whoever hears that it is ready may be sent to any of the processes next.
        if self._worker.ready and self._readiness.all:
            return Response()
        return Response(status_code=500 if self._dead else 503)

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _status(self, _: Request) -> Response:
        state = {"version": self._version, "state": "AVAILABLE" if self._worker.ready else "LOADING"}
        told = {"model_version_status": [{**state, "status": {"error_code": "OK", "error_message": ""}}]}
        return Response(json.dumps(told), media_type=JSON)

    async def _invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        body, answer, call = b"", self._unready(), None
        if answer is None:
            body, answer = await _body(headers, receive, self.settings.body_limit)
        if answer is None:
            context = self._context(headers, len(body))
            if self._handler.whole is not None:
                answer = await self._own_call(body, context)
            else:
                call = await self._worker.answer(body, context)
        await self._respond(scope, send, start, len(body), answer, call)

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        body, answer, call = b"", self._unready(), None
        if answer is None:
            body, answer = await _body(dict(scope["headers"]), receive, PREDICT_LIMIT)
        if answer is None:
            call = await self._worker.answer(body, None)
        await self._respond(scope, send, start, len(body), answer, call)

    def _unready(self) -> Answer | None:
        if self._worker.ready and not self._worker.full:
            return None
        why = "too many requests wait for the model" if self._worker.ready else "the model is not loaded"
        return _error(503, why)

    async def _own_call(self, body: bytes, context: Context) -> Answer | None:
        """Let a handler that calls TensorFlow Serving itself answer, in a thread, since its call comes back to here."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._own_calls, self._whole, body, context)
        except SystemExit as error:
            self._over(error)
            return None

    def _whole(self, body: bytes, context: Context) -> Answer:
        assert self._handler.whole is not None
        try:
            return handlers.answer(*self._handler.whole(handlers.stream(body), context))
        except Exception as error:  # noqa: BLE001  # whatever a handler does wrong is its request's answer
            return handlers.failed(error)

    def _context(self, headers: dict[bytes, bytes], length: int) -> Context:
        def told(name: bytes) -> str | None:
            value = headers.get(name)
            return None if value is None else value.decode("latin-1")

        return Context(
            MODEL_NAME, self._version, "predict",
            f"http://127.0.0.1:{self.settings.port}/v1/models/{MODEL_NAME}:predict", None, None,
            told(b"x-amzn-sagemaker-custom-attributes"), told(b"content-type"), told(b"accept"), length, BODY_SECONDS,
        )  # fmt: skip  # eleven short fields read better in three lines than in eleven

    async def _respond(
        self, scope: Scope, send: Send, start: float, length: int, answer: Answer | None, call: Call | None
    ) -> None:
        told = answer or (call and call.answer) or _error(500, "the model was stopped")
        queued, model, batch = (call.queue_seconds, call.model_seconds, call.batch) if call else (0.0, 0.0, 0)
        headers = [
            (b"content-type", told.content_type.encode()),
            (b"content-length", b"%d" % len(told.body)),
            (b"server-timing", b"queue;dur=%.3f, model;dur=%.3f" % (queued * 1000, model * 1000)),
        ]
        if told.status == 503:
            headers.append((b"retry-after", b"1"))
        if told.status == 408:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": told.status, "headers": headers})
        await send({"type": "http.response.body", "body": told.body})
        self._note(scope, told, start, length, queued, model, batch)

    async def _refused(self, request: Request, error: Exception) -> Response:
        """Answer a wrong path or method as the image's front end does."""
        assert isinstance(error, HTTPException)
        title = f"{error.status_code} {HTTPStatus(error.status_code).phrase}"
        answer = Answer(error.status_code, json.dumps({"title": title}).encode())
        self._note(request.scope, answer, time.perf_counter())
        return Response(answer.body, answer.status, error.headers, media_type=answer.content_type)

    def _note(
        self,
        scope: Scope,
        answer: Answer,
        start: float,
        length: int = 0,
        queued: float = 0.0,
        model: float = 0.0,
        batch: int = 0,
    ) -> None:
        method, path, kind = scope["method"], scope["path"], answer.content_type
        seconds, size = time.perf_counter() - start, len(answer.body)
        served = Served(method, path, answer.status, kind, length, size, seconds, queued, model, batch)
        self.metrics.served(served)
        self._log.write(served)


class _Endpoint:
    """A function of the ASGI interface as an object, which Starlette calls as it is."""

    def __init__(self, function: Callable[[Scope, Receive, Send], Any]) -> None:
        self._function = function

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._function(scope, receive, send)


async def _body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> tuple[bytes, Answer | None]:
    """Read a body, or say why not: too long, too slow."""
    # The web server has made sure that this is a number.
    if int(headers.get(b"content-length", b"0")) > limit:
        return b"", _error(413, f"the body has {headers[b'content-length'].decode()} bytes, the limit is {limit}")
    message = await receive()
    whole = message["type"] == "http.request" and not message.get("more_body", False)
    if whole and len(message.get("body", b"")) <= limit:
        return message.get("body", b""), None
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _rest(message, receive, limit)
    except TimeoutError:
        return b"", _error(408, f"the body did not arrive within {BODY_SECONDS} seconds")


async def _rest(message: Message, receive: Receive, limit: int) -> tuple[bytes, Answer | None]:
    """Read on until the body is whole, never more than is allowed."""
    parts, length = [], 0
    while True:
        if message["type"] == "http.disconnect":
            # Nobody reads this; the access log shows it under nginx's number for it.
            return b"", _error(499, "the client went away")
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        if length > limit:
            return b"", _error(413, f"the body has more than {limit} bytes")
        if not message.get("more_body", False):
            return b"".join(parts), None
        message = await receive()


def _error(status: int, text: str) -> Answer:
    return Answer(status, json.dumps({"error": text}).encode())
