"""What runs behind the endpoints' records: fleets, the updates that replace them, and their return after a restart."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.clock import Clock
from infra.local.endpoints.fleets import Fleet
from infra.local.endpoints.plans import planned
from infra.local.endpoints.rollouts import Alarms, RolledBack, Rollout, Traffic
from infra.local.endpoints.variants import STOP_SECONDS, ModelServer, UnservableModel, archive_of
from infra.local.events.delivery import Events
from infra.local.rights.actors import Actor, Free, Rights
from infra.local.service import Service, now
from infra.local.store import Record, Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EndpointContext:
    """What endpoints work with."""

    service: Service
    store: Store
    events: Events
    arn_prefix: str
    folder: Path
    client: Callable[[str], Any]
    clock: Clock
    alarms: Alarms
    rights: Rights | None = None
    """What roles mean; ``None``: nothing."""

    def actor(self, model_name: str) -> Actor:
        """Return who acts in the name of a model's role. Raises ``ServiceError`` where it cannot be taken on."""
        role = self.service.call("DescribeModel", {"ModelName": model_name}).get("ExecutionRoleArn")
        return (self.rights or Free(self.client, self.service.call)).actor(role)


class Hosting:
    """Fleets by endpoint. An endpoint's record says what is to run; this makes it so, and writes down how it went."""

    def __init__(self, context: EndpointContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._traffic: dict[str, Traffic] = {}
        self._threads: dict[threading.Thread, Fleet | None] = {}
        self._returning: dict[str, threading.Event] = {}
        self._closing = False

    def traffic(self, name: str, wait_seconds: float = 0.0) -> Traffic:
        """Return who answers an endpoint's requests; waits for one that comes back after the server's start."""
        if event := self._returning.get(name):
            event.wait(wait_seconds)
        with self._lock:
            return self._traffic.get(name, Traffic())

    def note(self, name: str, **changes: Any) -> Record:
        """Write changes of an endpoint's record down, and tell a change of its status."""
        with self._context.store.exclusive():
            record = self._context.store.update("Endpoint", name, LastModifiedTime=now(), **changes)
            if "EndpointStatus" in changes:
                self._context.events.resource("Endpoint", record)
        return record

    def fleet(self, update: Record) -> Fleet:
        """Return the fleet that an update is to bring, not yet started."""
        config = self._context.service.call(
            "DescribeEndpointConfig", {"EndpointConfigName": update["EndpointConfigName"]}
        )
        return Fleet(config, self._launch, update.get("Kept", {}))

    def _launch(self, variant: Record) -> ModelServer:
        archive, environment = archive_of(self._context.service, variant["ModelName"])
        s3 = self._context.actor(variant["ModelName"]).client("s3")
        return ModelServer(variant, archive, environment, self._context.folder, s3)

    def _start(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        def run() -> None:
            try:
                work(*arguments)
            finally:
                with self._lock:
                    del self._threads[threading.current_thread()]

        thread = threading.Thread(target=run, daemon=True)
        with self._lock:
            self._threads[thread] = None
        thread.start()
        return thread

    def _own(self, fleet: Fleet) -> None:
        """Remember the fleet that this thread starts, so that the server's end finds it."""
        with self._lock:
            self._threads[threading.current_thread()] = fleet

    # Updates

    def begin(self, name: str) -> None:
        """Carry the update of an endpoint's record out, in a thread of its own."""
        self._start(self._update, name)

    def _update(self, name: str) -> None:
        update = self._record(name)["_update"]
        fleet: Fleet | None = None
        old = self.traffic(name).serving
        try:
            fleet = self.fleet(update)
            self._own(fleet)
            plan = planned(update.get("DeploymentConfig"), fleet.size)
            context = self._context
            rollout = Rollout(
                old, fleet, plan, context.clock, context.alarms, lambda to: self._route(name, to), lambda: self._closing
            )
            for status in rollout.run():
                pending = {"EndpointConfigName": fleet.name, "StartTime": update["StartTime"]}
                summaries = fleet.summaries(status)
                self.note(name, PendingDeploymentSummary={**pending, "ProductionVariants": summaries})
        except Exception as error:
            # The edge of a thread: without this the endpoint would stay Updating for ever.
            expected = isinstance(error, UnservableModel | RolledBack)
            logger.error("endpoint %s: %s", name, error, exc_info=not expected)
            self._fail(name, fleet, error)
        else:
            if not self._closing:
                self._serve(name, fleet)
            if old is not None:
                old.stop(drain=not self._closing)

    def _route(self, name: str, traffic: Traffic) -> None:
        with self._lock:
            self._traffic[name] = traffic

    def _serve(self, name: str, fleet: Fleet) -> None:
        self.note(
            name,
            EndpointStatus="InService",
            EndpointConfigName=fleet.name,
            ProductionVariants=fleet.summaries(),
            DataCaptureConfig=_capture_summary(fleet.config.get("DataCaptureConfig")),
            FailureReason=None,
            PendingDeploymentSummary=None,
            _update=None,
        )

    def _fail(self, name: str, fleet: Fleet | None, error: Exception) -> None:
        """End an update that failed: what served before serves on."""
        # What ends with this server is no failure: the next one goes on with it.
        if not self._closing and isinstance(error, RolledBack):
            self.note(name, EndpointStatus="RollingBack")
        if fleet is not None:
            fleet.stop(drain=not self._closing)
        if not self._closing:
            serving = self.traffic(name).serving is not None
            self.note(
                name,
                EndpointStatus="InService" if serving else "Failed",
                FailureReason=str(error)[:1024],
                PendingDeploymentSummary=None,
                _update=None,
            )

    def _record(self, name: str) -> Record:
        record = self._context.store.get("Endpoint", name)
        assert record is not None, f"endpoint {name} has gone while it changed"
        return record

    # Scaling

    def scale(self, name: str) -> None:
        """Change weights and instance counts of the fleet that serves as its record wants, in a thread of its own."""
        self._start(self._scale, name)

    def _scale(self, name: str) -> None:
        fleet, reason = self.traffic(name).serving, None
        assert fleet is not None, f"endpoint {name} is scaled and does not serve"
        wanted: list[Record] = self._record(name)["_scale"]
        try:
            for each in wanted:
                if "DesiredWeight" in each:
                    fleet.variants[each["VariantName"]].weight = each["DesiredWeight"]
                if "DesiredInstanceCount" in each:
                    fleet.resize(each["VariantName"], each["DesiredInstanceCount"])
        except Exception as error:
            # The edge of a thread, as above.
            logger.error("endpoint %s: %s", name, error, exc_info=not isinstance(error, UnservableModel))
            reason = str(error)[:1024]
        if not self._closing:
            summaries = fleet.summaries()
            self.note(name, EndpointStatus="InService", FailureReason=reason, ProductionVariants=summaries, _scale=None)

    # From server to server

    def recover(self) -> None:
        """Bring back what an earlier server served, and go on with what it had begun to serve.

        An endpoint that comes back is Updating, and requests to it wait for its models instead of failing.
        """
        for record in self._context.store.list("Endpoint"):
            name = record["EndpointName"]
            if "ProductionVariants" in record:
                self._returning[name] = threading.Event()
                self.note(name, EndpointStatus="Updating")
                self._start(self._bring_back, name, record)
            elif record.get("_update"):
                self.begin(name)

    def _bring_back(self, name: str, record: Record) -> None:
        kept = {summary["VariantName"]: summary for summary in record["ProductionVariants"]}
        fleet: Fleet | None = None
        try:
            fleet = self.fleet({"EndpointConfigName": record["EndpointConfigName"], "Kept": kept})
            self._own(fleet)
            fleet.start()
            self._route(name, Traffic(fleet))
        except Exception as error:
            # The edge of a thread, as above.
            logger.exception("endpoint %s does not come back", name)
            self._fail(name, fleet, error)
        else:
            changing = record.get("_update") or record.get("_scale")
            if not changing and not self._closing:
                self.note(name, EndpointStatus="InService", ProductionVariants=fleet.summaries())
        finally:
            self._returning.pop(name).set()
        if record.get("_update") and not self._closing:
            self.note(name, EndpointStatus="Updating", _update=record["_update"])
            self.begin(name)
        elif record.get("_scale") and self.traffic(name).serving is not None and not self._closing:
            self.scale(name)

    def mend(self) -> None:
        """Start again the instances that died."""
        with self._lock:
            fleets = [fleet for each in self._traffic.values() for fleet in (each.serving, each.coming) if fleet]
        for fleet in fleets:
            fleet.mend()

    def forget(self, name: str) -> None:
        """End an endpoint's fleet."""
        with self._lock:
            traffic = self._traffic.pop(name, Traffic())
        if traffic.serving is not None:
            traffic.serving.stop()

    def stop_all(self) -> None:
        """End every process, those that only start too: called when the server stops."""
        self._closing = True
        with self._lock:
            threads = dict(self._threads)
        for thread, fleet in threads.items():
            if fleet is not None:
                fleet.kill()
            thread.join(STOP_SECONDS)
        with self._lock:
            fleets = [fleet for each in self._traffic.values() for fleet in (each.serving, each.coming) if fleet]
            self._traffic.clear()
        for fleet in fleets:
            fleet.stop(drain=False)


def _capture_summary(config: Record | None) -> Record | None:
    if not config:
        return None
    enabled = config.get("EnableCapture", True)
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),
    }
