"""InvokeEndpoint: chooses who answers, passes the request on, and tells metrics and data capture."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import random
from typing import Any

import httpx
from werkzeug.wrappers import Request, Response

from infra.local.endpoints.capture import Captures, Exchange
from infra.local.endpoints.fleets import Busy, Fleet, Instance, Retired, Unavailable, UnknownVariant, Variant
from infra.local.endpoints.metrics import Invocation, Metrics, Source, elapsed
from infra.local.endpoints.rollouts import Traffic

INVOKE_SECONDS = 60
"""SageMaker's limit for one invocation."""

_AGAIN_SECONDS = 0.01
"""Between two attempts to reach an instance: where the only one is ending, it takes a moment until that is known."""

_PASSED = ("Content-Type", "Accept", "X-Amzn-SageMaker-Custom-Attributes", "X-Amzn-SageMaker-Inference-Id")
"""The headers that reach the model."""


@dataclass(frozen=True)
class Invoker:
    """Answers requests to endpoints."""

    traffic: Callable[[str], Traffic]
    metrics: Metrics
    captures: Captures
    account: str
    # The machine's proxies are none of a loopback address's business. Many threads share the client.
    http: httpx.Client

    @classmethod
    def create(cls, traffic: Callable[[str], Traffic], metrics: Metrics, captures: Captures, account: str) -> Invoker:
        """Make one with a client of its own."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        return cls(
            traffic, metrics, captures, account, httpx.Client(timeout=INVOKE_SECONDS, trust_env=False, limits=limits)
        )

    def answer(self, name: str, request: Request) -> Response:
        """Answer ``POST /endpoints/<name>/invocations``, as the SageMaker runtime does."""
        started, target = time.perf_counter(), request.headers.get("X-Amzn-SageMaker-Target-Variant")
        body = request.get_data()
        while True:
            fleet = self._fleet(name)
            if fleet is None:
                return _error("ValidationError", 400, f"Endpoint {name} of account {self.account} not found.")
            try:
                with fleet.request(target) as (variant, instance):
                    return self._ask(name, fleet, variant, instance, request, body, started)
            except Retired:
                # An update took over between the look-up and the request: no caller may notice it.
                continue
            except _NotSent:
                # The instance died before the request reached it, so asking another one repeats nothing.
                time.sleep(_AGAIN_SECONDS)
            except UnknownVariant:
                return _error("ValidationError", 400, f"Variant {target} not found for this endpoint.")
            except Busy as error:
                return _error("ThrottlingException", 429, f"Endpoint {name}: {error}.")
            except Unavailable as error:
                return self._unavailable(name, fleet, target, f"Endpoint {name}: {error}.", started)

    def _fleet(self, name: str) -> Fleet | None:
        traffic = self.traffic(name)
        # Random, as SageMaker shares out traffic; the next fleet's share counts over many requests.
        return traffic.coming if traffic.coming is not None and random() < traffic.share else traffic.serving  # noqa: S311

    def _ask(
        self,
        name: str,
        fleet: Fleet,
        variant: Variant,
        instance: Instance,
        request: Request,
        body: bytes,
        started: float,
    ) -> Response:
        headers = {key: request.headers[key] for key in _PASSED if key in request.headers}
        source = Source(name, variant.name, fleet.name)
        asked = time.perf_counter()
        try:
            answer = self.http.post(f"{instance.server.url}/invocations", content=body, headers=headers)
        except httpx.ConnectError as error:
            instance.avoid()
            raise _NotSent from error
        except httpx.TransportError as error:
            if not isinstance(error, httpx.TimeoutException):
                instance.avoid()
            self._count(source, 503, elapsed(asked), started, variant)
            return _error("ModelError", 424, f"Endpoint {name} did not answer: {error!r}", OriginalStatusCode=503)
        self._count(source, answer.status_code, elapsed(asked), started, variant)
        if answer.status_code != 200:
            return _model_error(answer)
        self._capture(name, variant, fleet, request, body, answer, instance.server.s3)
        shown = {"x-Amzn-Invoked-Production-Variant": variant.name}
        return Response(answer.content, 200, shown, content_type=answer.headers.get("content-type"))

    def _unavailable(self, name: str, fleet: Fleet, target: str | None, words: str, started: float) -> Response:
        for variant in fleet.variants.values():
            if target in (None, variant.name):
                self._count(Source(name, variant.name, fleet.name), 503, 0.0, started, variant)
                break
        return _error("ServiceUnavailable", 503, words)

    def _count(self, source: Source, status: int, model_seconds: float, started: float, variant: Variant) -> None:
        overhead = elapsed(started) - model_seconds
        self.metrics.add(source, Invocation(status, model_seconds, overhead, variant.count))

    def _capture(
        self, name: str, variant: Variant, fleet: Fleet, request: Request, body: bytes, answer: httpx.Response, s3: Any
    ) -> None:
        headers = request.headers
        exchange = Exchange(
            body,
            headers.get("Content-Type", ""),
            answer.content,
            answer.headers.get("content-type", ""),
            headers.get("X-Amzn-SageMaker-Inference-Id"),
            headers.get("X-Amzn-SageMaker-Custom-Attributes"),
        )
        self.captures.add(name, variant.name, fleet.config.get("DataCaptureConfig"), exchange, s3)


class _NotSent(Exception):
    """A request that reached nobody."""


def _error(code: str, status: int, message: str, **fields: Any) -> Response:
    body = json.dumps({"Message": message, "message": message, **fields})
    return Response(body, status, {"x-amzn-errortype": code}, content_type="application/json")


def _model_error(answer: httpx.Response) -> Response:
    """Wrap a model's refusal as the runtime does: ModelError, with the model's own status and words inside."""
    side = "client" if answer.status_code < 500 else "server"
    message = f'Received {side} error ({answer.status_code}) from primary with message "{answer.text[:500]}".'
    original = {"OriginalStatusCode": answer.status_code, "OriginalMessage": answer.text[:1000]}
    return _error("ModelError", 424, message, **original)
