"""What endpoints tell CloudWatch, minute by minute: SageMaker's invocation metrics.

Every invocation sends a value to each metric, so a sum counts and an average is a rate. Source: developer guide,
"Amazon SageMaker AI metrics in Amazon CloudWatch", endpoint invocation metrics.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from infra.local.clock import MINUTE, Clock

NAMESPACE = "AWS/SageMaker"
BATCH = 500
"""Metrics in one PutMetricData call; AWS takes a thousand."""


@dataclass(frozen=True)
class Source:
    """Who answered: an endpoint's variant, as one configuration describes it."""

    endpoint: str
    variant: str
    config: str


@dataclass(frozen=True)
class Invocation:
    """One answered request."""

    status: int
    """The HTTP status that the model answered with; 503 where it did not answer."""
    model_seconds: float
    overhead_seconds: float
    instances: int
    """How many the variant had at that moment."""


@dataclass
class _Series:
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, invocation: Invocation) -> None:
        client, server = 400 <= invocation.status < 500, invocation.status >= 500
        for name, value in (
            ("Invocations", 1.0),
            ("InvocationsPerInstance", 1.0 / max(invocation.instances, 1)),
            ("Invocation4XXErrors", float(client)),
            ("Invocation5XXErrors", float(server)),
            ("InvocationModelErrors", float(client or server)),
            ("ModelLatency", invocation.model_seconds * 1e6),
            ("OverheadLatency", invocation.overhead_seconds * 1e6),
        ):
            self.values[name].append(value)


class Metrics:
    """Collects invocations, and sends each minute's to CloudWatch. Safe to share between threads."""

    def __init__(self, cloudwatch: Any, clock: Clock) -> None:
        self._cloudwatch, self._clock = cloudwatch, clock
        self._lock = threading.Lock()
        self._minutes: dict[float, dict[Source, _Series]] = {}

    def add(self, source: Source, invocation: Invocation) -> None:
        """Count an invocation to the minute in which it was answered."""
        minute = self._clock.period(MINUTE)
        with self._lock:
            self._minutes.setdefault(minute, defaultdict(_Series))[source].add(invocation)

    def send(self) -> None:
        """Send the minutes that are over. An endpoint that nobody asked sends nothing, as on AWS."""
        now = self._clock.period(MINUTE)
        with self._lock:
            over = {minute: self._minutes.pop(minute) for minute in list(self._minutes) if minute < now}
        data = [point for minute, sources in over.items() for point in _points(minute, sources)]
        for start in range(0, len(data), BATCH):
            self._cloudwatch.put_metric_data(Namespace=NAMESPACE, MetricData=data[start : start + BATCH])


def _points(minute: float, sources: dict[Source, _Series]) -> Iterator[dict[str, Any]]:
    for source, series in sources.items():
        whole = [{"Name": "EndpointName", "Value": source.endpoint}, {"Name": "VariantName", "Value": source.variant}]
        # The second set tells an update's two fleets apart.
        for dimensions in (whole, [*whole, {"Name": "EndpointConfigName", "Value": source.config}]):
            for name, values in series.values.items():
                yield {
                    "MetricName": name,
                    "Dimensions": dimensions,
                    "Timestamp": datetime.fromtimestamp(minute, UTC),
                    "Unit": "Microseconds" if name.endswith("Latency") else "None",
                    "StatisticValues": {
                        "SampleCount": len(values),
                        "Sum": sum(values),
                        "Minimum": min(values),
                        "Maximum": max(values),
                    },
                }


def elapsed(since: float) -> float:
    """Return the seconds since a reading of ``time.perf_counter``."""
    return time.perf_counter() - since
