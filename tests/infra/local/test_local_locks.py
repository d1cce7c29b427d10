"""Who waits for whom: the store is never held by a call that asks another service, whose calls may want the store."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from infra.local import clock
from infra.local.endpoints.calls import Endpoints
from infra.local.endpoints.hosting import EndpointContext
from infra.local.endpoints.rollouts import Traffic
from infra.local.resources import Resources
from infra.local.service import Service
from infra.local.store import Store

ROLE = "arn:aws:iam::123456789012:role/test"
ARN = "arn:aws:sagemaker:eu-central-1:123456789012"


def test_an_update_does_not_hold_the_store_while_it_asks_for_alarms_and_scaling(tmp_path: Path) -> None:
    store, service = Store(tmp_path / "records.sqlite"), Service()
    events: Any = SimpleNamespace(resource=lambda *_: None)
    asked: list[str] = []

    def others_get_through(what: str) -> None:
        """As a stack does that waits for CloudWatch and then makes something of SageMaker's."""
        other = threading.Thread(target=lambda: store.insert("Thing", what, {}))
        other.start()
        other.join(timeout=10)
        assert not other.is_alive(), f"the store is held while {what} are asked for"
        asked.append(what)

    def alarms(names: Iterable[str]) -> list[str]:
        others_get_through("alarms")
        return []

    def targets(**_: Any) -> dict[str, Any]:
        others_get_through("scalable targets")
        return {"ScalableTargets": []}

    client: Any = lambda _: SimpleNamespace(describe_scalable_targets=targets)  # noqa: E731
    context = EndpointContext(service, store, events, ARN, tmp_path / "endpoints", client, clock.chosen(), alarms)
    endpoints = Endpoints(context)
    service.register(Resources(service, store, events, "123456789012", "eu-central-1"))
    service.register(endpoints)
    service.call("CreateModel", {"ModelName": "model", "PrimaryContainer": {"Image": "any"}, "ExecutionRoleArn": ROLE})
    for name, machine in (("before", "ml.m5.large"), ("after", "ml.c5.large")):
        variant = {"VariantName": "v", "ModelName": "model", "InitialInstanceCount": 1, "InstanceType": machine}
        service.call("CreateEndpointConfig", {"EndpointConfigName": name, "ProductionVariants": [variant]})
    record = {
        "EndpointName": "e",
        "EndpointArn": f"{ARN}:endpoint/e",
        "EndpointConfigName": "before",
        "EndpointStatus": "InService",
    }
    store.insert("Endpoint", "e", record)
    serving = endpoints._hosting.fleet({"EndpointConfigName": "before"})
    endpoints._hosting._route("e", Traffic(serving))
    deployment = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
    }
    service.call(
        "UpdateEndpoint",
        {"EndpointName": "e", "EndpointConfigName": "after", "DeploymentConfig": deployment},
    )
    assert {"alarms", "scalable targets"} <= set(asked)
    endpoints.stop_all()
    store.close()
