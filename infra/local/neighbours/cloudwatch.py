"""CloudWatch's alarms, which moto keeps and never looks at, and metrics told apart by all of their dimensions.

Evaluated are alarms on one metric with a plain statistic; those on expressions, percentiles or other alarms keep their
state. Source: CloudWatch user guide, "Alarm evaluation" and "Configuring how CloudWatch alarms treat missing data".
"""

from __future__ import annotations

import copy
import json
import logging
import math
import operator
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from moto.cloudwatch.models import Alarm, CloudWatchBackend, MetricAggregatedDatum, MetricDatumBase, cloudwatch_backends

from infra.local.clock import Clock
from infra.local.neighbours import turns
from infra.local.neighbours.pickles import Pickler

logger = logging.getLogger(__name__)

KEPT_SECONDS = 3600
"""How long points of metrics are kept, in this machine's seconds: without an end they would fill the memory."""

_COMPARED = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
_ACTIONS = {"ALARM": "alarm_actions", "OK": "ok_actions", "INSUFFICIENT_DATA": "insufficient_data_actions"}


Values = list[float | None]
"""A statistic, period by period, the oldest first; ``None`` where there is no data."""


class Alarms:
    """The alarms of one account and region."""

    def __init__(self, client: Callable[[str], Any], account: str, region: str, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._account, self._region = account, region

    @property
    def _backend(self) -> CloudWatchBackend:
        return cloudwatch_backends[self._account][self._region]

    def tripped(self, names: Iterable[str]) -> list[str]:
        """Return which of the named alarms are in state ALARM.

        Raises ``KeyError`` with the first name that is no alarm's.
        """
        wanted = list(names)
        if not wanted:
            return []
        with turns.turn():
            return [name for name in wanted if self._backend.alarms[name].state_value == "ALARM"]

    def values(self, metric: tuple[str, str, dict[str, str]], statistic: str, period: int, count: int) -> Values:
        """Return a statistic of a metric (namespace, name, dimensions) over the latest whole periods of AWS seconds."""
        namespace, name, dimensions = metric
        wanted = (namespace, name, frozenset(dimensions.items()))
        with turns.turn():
            points = [each for each in self._backend.metric_data if _key(each) == wanted]
        return latest(points, statistic, period, count, self._clock, time.time())

    def evaluate(self) -> None:
        """Give every alarm the state that its metric asks for, and carry out the actions of those that change."""
        with turns.turn():
            changes = list(self._changes(time.time()))
        for alarm, state, values in changes:
            reason = f"{state}: the latest values of {alarm.metric_name} are {values}, the threshold {alarm.threshold}"
            self._client("cloudwatch").set_alarm_state(
                AlarmName=alarm.name, StateValue=state, StateReason=reason[:1023]
            )
            self._act(alarm, state, reason)

    def _changes(self, now: float) -> Iterable[tuple[Alarm, str, Values]]:
        alarms = [alarm for alarm in self._backend.alarms.values() if alarm.metric_name and alarm.statistic]
        if not self._backend.metric_data and not alarms:
            return
        self._backend.metric_data = [
            point for point in self._backend.metric_data if _moment(point) > now - KEPT_SECONDS
        ]
        points = defaultdict(list)
        for point in self._backend.metric_data:
            points[_key(point)].append(point)
        for alarm in alarms:
            dimensions = frozenset((dimension.name, dimension.value) for dimension in alarm.dimensions)
            found = points[alarm.namespace, alarm.metric_name, dimensions]
            values = latest(found, alarm.statistic, int(alarm.period), int(alarm.evaluation_periods), self._clock, now)
            state = judged(alarm, values)
            if state is not None and state != alarm.state_value:
                yield alarm, state, values

    def _act(self, alarm: Alarm, state: str, reason: str) -> None:
        for action in getattr(alarm, _ACTIONS[state]) if alarm.actions_enabled else ():
            if not action.startswith("arn:aws:sns:"):
                continue
            message = {
                "AlarmName": alarm.name,
                "NewStateValue": state,
                "NewStateReason": reason,
                "StateChangeTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000+0000}",
            }
            try:
                subject = f'{state}: "{alarm.name}"'[:100]
                self._client("sns").publish(TopicArn=action, Subject=subject, Message=json.dumps(message))
            except Exception:
                # An alarm is no less an alarm because nobody hears of it.
                logger.exception("alarm %s could not notify %s", alarm.name, action)


def latest(
    points: Sequence[MetricDatumBase], statistic: str, period: int, count: int, clock: Clock, now: float
) -> Values:
    """Return a statistic over the latest ``count`` whole periods of AWS seconds. Pure."""
    length = clock.here(period)
    start = clock.period(period, now) - count * length
    windows: list[list[MetricDatumBase]] = [[] for _ in range(count)]
    for point in points:
        # A point carries the moment at which its period began, give or take what a float loses.
        index = math.floor((_moment(point) - start) / length + 1e-6)
        if 0 <= index < count:
            windows[index].append(point)
    return [_statistic(window, statistic) if window else None for window in windows]


def judged(alarm: Any, values: Sequence[float | None]) -> str | None:
    """Return the state that an alarm's latest values ask for; ``None`` for the one that it has."""
    missing = alarm.treat_missing_data or "missing"
    present = [value for value in values if value is not None]
    if not present and missing in ("missing", "ignore"):
        return "INSUFFICIENT_DATA" if missing == "missing" else None
    breaching = sum(bool(_COMPARED[alarm.comparison_operator](value, float(alarm.threshold))) for value in present)
    if missing == "breaching":
        breaching += len(values) - len(present)
    return "ALARM" if breaching >= int(alarm.datapoints_to_alarm or alarm.evaluation_periods) else "OK"


def _statistic(points: list[MetricDatumBase], statistic: str) -> float:
    whole = [point for point in points if isinstance(point, MetricAggregatedDatum)]
    single = [point.value for point in points if not isinstance(point, MetricAggregatedDatum)]
    total = sum(single) + sum(point.sum for point in whole)
    samples = len(single) + sum(point.sample_count for point in whole)
    results: dict[str, Callable[[], float]] = {
        "Sum": lambda: total,
        "SampleCount": lambda: samples,
        "Average": lambda: total / samples,
        "Minimum": lambda: min([*single, *(point.min for point in whole)]),
        "Maximum": lambda: max([*single, *(point.max for point in whole)]),
    }
    return float(results[statistic]())


def _key(point: MetricDatumBase) -> tuple[str, str, frozenset[tuple[str, str]]]:
    return point.namespace, point.name, frozenset((dimension.name, dimension.value) for dimension in point.dimensions)


def _moment(point: MetricDatumBase) -> float:
    stamp = point.timestamp
    if isinstance(stamp, str):
        stamp = datetime.fromisoformat(stamp)
    return float((stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp())


_stock_get_metric_statistics = CloudWatchBackend.get_metric_statistics


def _get_metric_statistics(
    backend: CloudWatchBackend, namespace: str, metric_name: str, *rest: Any, dimensions: Any, **more: Any
) -> Any:
    """Answer GetMetricStatistics from the metric with just these dimensions; moto takes those with more of them too."""
    wanted = (namespace, metric_name, frozenset((each["Name"], each["Value"]) for each in dimensions or ()))
    view = copy.copy(backend)
    view.metric_data = [point for point in backend.metric_data if _key(point) == wanted]
    return _stock_get_metric_statistics(view, namespace, metric_name, *rest, dimensions=dimensions, **more)


_stock_put_metric_alarm = CloudWatchBackend.put_metric_alarm


def _put_metric_alarm(backend: CloudWatchBackend, *, name: str, **more: Any) -> Alarm:
    """Answer PutMetricAlarm: a new alarm knows nothing yet, a changed one keeps its state; moto calls both OK."""
    before = backend.alarms.get(name)
    alarm = _stock_put_metric_alarm(backend, name=name, **more)
    kept = ("state_value", "state_reason", "state_reason_data", "state_updated_timestamp", "history")
    if before is not None:
        vars(alarm).update({member: getattr(before, member) for member in kept})
    else:
        alarm.state_value = "INSUFFICIENT_DATA"
    return alarm


def install() -> None:
    """Put it into moto."""
    # Every minute brings more points, and all of a service is saved with each of its calls: they end with the process.
    Pickler.cuts[CloudWatchBackend] = lambda backend: {**vars(backend), "metric_data": []}
    CloudWatchBackend.put_metric_alarm = _put_metric_alarm
    CloudWatchBackend.get_metric_statistics = _get_metric_statistics
