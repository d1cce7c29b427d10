"""How traffic moves from one fleet to the next: a deployment configuration as steps. Pure.

Sources: developer guide, "Deployment guardrails for updating models in production"; API reference, DeploymentConfig.
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.local.service import refuse
from infra.local.store import Record

_LARGEST_STEP = 0.5
_SMALLEST_LINEAR_STEP = 0.1


@dataclass(frozen=True)
class Plan:
    """The steps of one update; times are AWS's seconds."""

    shares: tuple[float, ...] = (1.0,)
    """Of the traffic, what the new fleet gets after each step; the last is everything."""
    bake: float = 0.0
    """How long the alarms are watched after each step."""
    linger: float = 0.0
    """How long the old fleet stays after the last step, while the alarms are watched on."""
    alarms: tuple[str, ...] = ()
    """Names of CloudWatch alarms, any of which sends all traffic back."""
    limit: float | None = None
    """How long the whole may take."""


def planned(deployment: Record | None, instances: int) -> Plan:
    """Read a DeploymentConfig for a new fleet of so many instances.

    Raises ``ServiceError`` (ValidationException) for steps that SageMaker does not allow, and for rolling updates,
    which do not exist here.
    """
    if not deployment:
        return Plan()
    alarms = tuple(
        alarm["AlarmName"] for alarm in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", []) if alarm
    )
    if "RollingUpdatePolicy" in deployment:
        refuse("RollingUpdatePolicy is not supported by the embedded SageMaker: use BlueGreenUpdatePolicy.")
    policy = deployment.get("BlueGreenUpdatePolicy")
    if policy is None:
        return Plan(alarms=alarms)
    routing = policy["TrafficRoutingConfiguration"]
    return Plan(
        _shares(routing, instances),
        routing["WaitIntervalInSeconds"],
        policy.get("TerminationWaitInSeconds", 0),
        alarms,
        policy.get("MaximumExecutionTimeoutInSeconds"),
    )


def _shares(routing: Record, instances: int) -> tuple[float, ...]:
    if routing["Type"] == "ALL_AT_ONCE":
        return (1.0,)
    member = "CanarySize" if routing["Type"] == "CANARY" else "LinearStepSize"
    if member not in routing:
        refuse(f"{member} is required for traffic routing type {routing['Type']}.")
    step = _part(routing[member], instances)
    if step > _LARGEST_STEP:
        refuse(f"{member} of {step:.0%} is more than 50% of the new fleet's capacity ({instances} instances).")
    if member == "CanarySize":
        return (step, 1.0)
    if step < _SMALLEST_LINEAR_STEP:
        refuse(f"LinearStepSize of {step:.0%} is less than 10% of the new fleet's capacity ({instances} instances).")
    whole = int(1.0 / step + 1e-9)
    shares = [round(step * number, 6) for number in range(1, whole + 1)]
    return tuple(shares if shares[-1] == 1.0 else [*shares, 1.0])


def _part(size: Record, instances: int) -> float:
    """Return the part of a fleet that a capacity size stands for: whole instances, at least one."""
    if size["Type"] == "INSTANCE_COUNT":
        return float(size["Value"]) / instances
    part: int = max(1, round(instances * size["Value"] / 100))
    return part / instances
