"""What follows from a deployment configuration, a scaling policy and the local clock: pure rules from both sides."""

from __future__ import annotations

from typing import Any

import pytest

from infra.local import clock
from infra.local.clock import Clock
from infra.local.endpoints.plans import Plan, planned
from infra.local.endpoints.scaling import IN_MINUTES, Target, desired
from infra.local.service import ServiceError


def blue_green(kind: str, size: dict[str, Any] | None = None, **policy: Any) -> dict[str, Any]:
    routing: dict[str, Any] = {"Type": kind, "WaitIntervalInSeconds": 300}
    if size:
        routing["CanarySize" if kind == "CANARY" else "LinearStepSize"] = size
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, **policy}}


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def count(value: int) -> dict[str, Any]:
    return {"Type": "INSTANCE_COUNT", "Value": value}


@pytest.mark.parametrize(
    ("deployment", "instances", "shares"),
    [
        (None, 1, (1.0,)),
        ({}, 3, (1.0,)),
        ({"AutoRollbackConfiguration": {"Alarms": []}}, 1, (1.0,)),
        (blue_green("ALL_AT_ONCE"), 1, (1.0,)),
        (blue_green("CANARY", percent(50)), 2, (0.5, 1.0)),
        (blue_green("CANARY", percent(10)), 10, (0.1, 1.0)),
        (blue_green("CANARY", percent(1)), 4, (0.25, 1.0)),
        (blue_green("CANARY", count(2)), 4, (0.5, 1.0)),
        (blue_green("LINEAR", percent(25)), 4, (0.25, 0.5, 0.75, 1.0)),
        (blue_green("LINEAR", count(1)), 3, (0.333333, 0.666667, 1.0)),
        (blue_green("LINEAR", percent(40)), 5, (0.4, 0.8, 1.0)),
    ],
)
def test_shares_of_the_traffic(deployment: dict[str, Any] | None, instances: int, shares: tuple[float, ...]) -> None:
    assert planned(deployment, instances).shares == pytest.approx(shares, abs=1e-5)


@pytest.mark.parametrize(
    ("deployment", "instances", "words"),
    [
        (blue_green("CANARY", percent(10)), 1, "CanarySize of 100% is more than 50%"),
        (blue_green("CANARY", count(2)), 3, "more than 50%"),
        (blue_green("CANARY", percent(51)), 100, "more than 50%"),
        (blue_green("CANARY"), 2, "CanarySize is required"),
        (blue_green("LINEAR", percent(9)), 100, "less than 10%"),
        (blue_green("LINEAR"), 2, "LinearStepSize is required"),
        ({"RollingUpdatePolicy": {}}, 2, "not supported by the embedded SageMaker"),
    ],
)
def test_steps_that_sagemaker_does_not_allow(deployment: dict[str, Any], instances: int, words: str) -> None:
    with pytest.raises(ServiceError, match=words):
        planned(deployment, instances)


def test_a_plan_has_all_that_the_configuration_says() -> None:
    deployment = blue_green(
        "CANARY", percent(50), TerminationWaitInSeconds=120, MaximumExecutionTimeoutInSeconds=900
    ) | {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "one"}, {"AlarmName": "two"}]}}
    assert planned(deployment, 2) == Plan((0.5, 1.0), 300, 120, ("one", "two"), 900)


TARGET = Target("e", "v", minimum=1, maximum=4, invocations=100, cooldown_out=60, cooldown_in=300)


@pytest.mark.parametrize(
    ("instances", "minutes", "since", "wanted"),
    [
        (1, [0] * 12 + [101, 101, 101], 60, 2),
        (1, [0] * 12 + [101, 101, 101], 59, 1),
        (1, [0] * 12 + [500, 99, 500], 60, 1),
        (1, [0] * 12 + [500, 500, 500], 60, 4),
        (2, [0] * 12 + [120, 120, 120], 60, 3),
        (3, [30] * 15, 300, 1),
        (3, [60] * 15, 300, 2),
        (3, [60] * 15, 299, 3),
        (3, [60] * 14 + [90], 300, 3),
        (3, [60] * 14, 300, 3),
        (5, [90] * 15, 0, 4),
        (0, [0] * 15, 0, 1),
        (1, [0] * 15, 300, 1),
    ],
)
def test_how_many_instances_a_policy_asks_for(instances: int, minutes: list[float], since: float, wanted: int) -> None:
    assert len(minutes) <= IN_MINUTES
    assert desired(TARGET, instances, minutes, since) == wanted


def test_the_clock_scales_waits() -> None:
    assert Clock().here(300) == 5
    assert Clock(1).here(300) == 300
    assert Clock(60).period(60, moment=12.9) == 12
    assert Clock(120).period(60, moment=12.6) == 12.5


@pytest.mark.parametrize(("text", "speed"), [("", 60.0), ("1", 1.0), ("2.5", 2.5), ("600", 600.0)])
def test_the_environment_sets_the_clock(monkeypatch: pytest.MonkeyPatch, text: str, speed: float) -> None:
    monkeypatch.setenv(clock.VARIABLE, text)
    assert clock.chosen().speed == speed


@pytest.mark.parametrize("text", ["0", "-1", "fast", "nan", "601", "inf"])
def test_a_clock_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(clock.VARIABLE, text)
    with pytest.raises(RuntimeError, match=f"{clock.VARIABLE} is '{text}'"):
        clock.chosen()
