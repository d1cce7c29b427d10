"""What a model server tells of itself: an access log of JSON lines, and Prometheus metrics."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from infra.local.endpoints.serving import workers

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Served:
    """One answered request."""

    method: str
    path: str
    status: int
    content_type: str
    request_bytes: int
    response_bytes: int
    seconds: float
    """From the request's headers to the answer."""
    queue_seconds: float = 0.0
    model_seconds: float = 0.0
    """What the call of the engine took that this request was part of."""
    batch: int = 0
    """How many requests were in it."""


class Metrics:
    """Counters and histograms of one server, of all its processes where it has several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        requests = Counter("model_requests", "Answered requests.", ["status"], registry=self.registry)
        self._requests = requests
        self._by_status: dict[int, Counter] = {}
        self._seconds = self._histogram("model_request_seconds", "From a request's headers to its answer.", SECONDS)
        self._queue = self._histogram("model_queue_seconds", "How long requests waited for the model.", SECONDS)
        self._engine = self._histogram("model_engine_seconds", "Calls of the engine.", SECONDS)
        self._batch = self._histogram("model_batch_requests", "Requests in one call of the engine.", ROWS)
        self.ready = Gauge("model_ready", "1 once the model is warm.", registry=self.registry, multiprocess_mode="min")

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)

    def served(self, request: Served) -> None:
        """Count a request."""
        counter = self._by_status.get(request.status)
        if counter is None:
            counter = self._by_status[request.status] = self._requests.labels(str(request.status))
        counter.inc()
        self._seconds.observe(request.seconds)
        if request.batch:
            self._queue.observe(request.queue_seconds)

    def called(self, calls: Iterable[tuple[float, int]]) -> None:
        """Note calls of the engine: seconds and requests."""
        for seconds, batch in calls:
            self._engine.observe(seconds)
            self._batch.observe(batch)

    def page(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        if workers.METRICS_VARIABLE not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # only this class has no types there
        return generate_latest(together)


class AccessLog:
    """Writes a JSON line a request, those of one turn of the loop at once."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lines: list[bytes] = []

    def write(self, request: Served) -> None:
        """Note a request; call it in the loop."""
        self._lines.append(_line(request))
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what was noted."""
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write(b"".join(lines))
            self._stream.flush()


def _line(request: Served) -> bytes:
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "method": request.method,
        "path": request.path,
        "status": request.status,
        "content_type": request.content_type,
        "request_bytes": request.request_bytes,
        "response_bytes": request.response_bytes,
        "seconds": round(request.seconds, 6),
        "queue_seconds": round(request.queue_seconds, 6),
        "model_seconds": round(request.model_seconds, 6),
        "batch": request.batch,
    }
    return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
