"""The endpoint calls: variants as processes that serve their model archive, replaced only by ones that answer."""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from werkzeug.wrappers import Request, Response

from infra.local.endpoints.variants import STOP_SECONDS, ModelServer, UnservableModel, archive_of
from infra.local.events.delivery import Events
from infra.local.service import Service, now, page, refuse
from infra.local.store import Record, Store

logger = logging.getLogger(__name__)

INVOKE_SECONDS = 60
"""SageMaker's limit for one invocation."""


@dataclass(frozen=True)
class EndpointContext:
    """What endpoints work with."""

    service: Service
    store: Store
    events: Events
    arn_prefix: str
    folder: Path
    client: Callable[[str], Any]


class Endpoints:
    """Endpoints by name, and the calls on them."""

    def __init__(self, context: EndpointContext) -> None:
        self._context = context
        self._servers: dict[str, list[ModelServer]] = {}
        self._lock = threading.Lock()
        self._rollouts: dict[threading.Thread, list[ModelServer]] = {}
        self._returning: dict[str, threading.Event] = {}
        self._closing = False
        # The machine's proxies are none of a loopback address's business.
        self._http = httpx.Client(timeout=INVOKE_SECONDS, trust_env=False)

    # The calls

    def create_endpoint(self, request: Record) -> Record:
        """CreateEndpoint; answers at once, the endpoint is InService when its models answer."""
        name = request["EndpointName"]
        arn = f"{self._context.arn_prefix}:endpoint/{name}"
        self._describe_config(request["EndpointConfigName"])
        record = {
            "EndpointName": name,
            "EndpointArn": arn,
            "EndpointConfigName": request["EndpointConfigName"],
            "EndpointStatus": "Creating",
            "CreationTime": now(),
            "LastModifiedTime": now(),
        }
        with self._context.store.exclusive():
            if not self._context.store.insert("Endpoint", name, record):
                refuse(f'Cannot create already existing endpoint "{arn}".')
            if request.get("Tags"):
                self._context.service.call("AddTags", {"ResourceArn": arn, "Tags": request["Tags"]})
            self._context.events.resource("Endpoint", record)
        self._start_rollout(name, request["EndpointConfigName"])
        return {"EndpointArn": arn}

    def update_endpoint(self, request: Record) -> Record:
        """UpdateEndpoint: the new variants take over once all of them answer; until then the old ones serve."""
        for key in ("DeploymentConfig", "RetainAllVariantProperties"):
            if request.get(key):
                refuse(f"{key} is not supported by the embedded SageMaker.")
        self._describe_config(request["EndpointConfigName"])
        with self._context.store.exclusive():
            record = self._settled(request["EndpointName"])
            target = {"_target": request["EndpointConfigName"]}
            self._note(record["EndpointName"], EndpointStatus="Updating", FailureReason=None, **target)
        self._start_rollout(record["EndpointName"], request["EndpointConfigName"])
        return {"EndpointArn": record["EndpointArn"]}

    def describe_endpoint(self, request: Record) -> Record:
        """DescribeEndpoint."""
        return self._endpoint(request["EndpointName"])

    def list_endpoints(self, request: Record) -> Record:
        """ListEndpoints."""
        return page(self._context.service.model, "ListEndpoints", request, self._context.store.list("Endpoint"))

    def delete_endpoint(self, request: Record) -> None:
        """DeleteEndpoint and stop its processes; refused while it changes, as on AWS."""
        with self._context.store.exclusive():
            record = self._settled(request["EndpointName"])
            self._context.events.resource("Endpoint", {**record, "EndpointStatus": "Deleting"})
            self._context.store.delete("Endpoint", record["EndpointName"])
            self._context.store.delete("Tags", record["EndpointArn"])
        self._replace(record["EndpointName"], [])

    def _endpoint(self, name: str) -> Record:
        record = self._context.store.get("Endpoint", name)
        if record is None:
            refuse(f'Could not find endpoint "{self._context.arn_prefix}:endpoint/{name}".')
        return record

    def _settled(self, name: str) -> Record:
        record = self._endpoint(name)
        if record["EndpointStatus"] not in ("InService", "Failed"):
            refuse(f'Cannot update in-progress endpoint "{record["EndpointArn"]}".')
        return record

    def _describe_config(self, name: str) -> Record:
        return self._context.service.call("DescribeEndpointConfig", {"EndpointConfigName": name})

    def _note(self, name: str, **changes: Any) -> None:
        with self._context.store.exclusive():
            record = self._context.store.update("Endpoint", name, LastModifiedTime=now(), **changes)
            if "EndpointStatus" in changes:
                self._context.events.resource("Endpoint", record)

    # Rollouts

    def _start_rollout(self, name: str, config_name: str) -> threading.Thread:
        thread = threading.Thread(target=self._roll_out, args=(name, config_name), daemon=True)
        with self._lock:
            self._rollouts[thread] = []
        thread.start()
        return thread

    def _roll_out(self, name: str, config_name: str) -> None:
        with self._lock:
            servers = self._rollouts[threading.current_thread()]
        try:
            for variant in self._describe_config(config_name)["ProductionVariants"]:
                servers.append(self._serve(variant))
            for server in servers:
                server.wait()
        except Exception as error:
            # The edge of a thread: without this the endpoint would stay Creating for ever.
            logger.error("endpoint %s: %s", name, error, exc_info=not isinstance(error, UnservableModel))
            for server in servers:
                server.stop()
            # What ends with this server is no failure: the next one goes on with it.
            if not self._closing:
                self._fail(name, str(error))
        else:
            self._replace(name, servers)
            summaries = [_summary(server.variant) for server in servers]
            served = {"EndpointConfigName": config_name, "ProductionVariants": summaries, "_target": None}
            self._note(name, EndpointStatus="InService", FailureReason=None, **served)
        finally:
            with self._lock:
                del self._rollouts[threading.current_thread()]

    def recover(self) -> None:
        """Bring back what an earlier server served, and go on with what it had begun to serve.

        An endpoint that comes back is Updating, and requests to it wait for its models instead of failing.
        """
        for record in self._context.store.list("Endpoint"):
            name, served = record["EndpointName"], "ProductionVariants" in record
            configs = [record["EndpointConfigName"]] if served or record["EndpointStatus"] == "Creating" else []
            if record.get("_target"):
                configs.append(record["_target"])
            if not configs:
                continue
            if served:
                self._returning[name] = threading.Event()
                self._note(name, EndpointStatus="Updating")
            threading.Thread(target=self._bring_back, args=(name, configs), daemon=True).start()

    def _bring_back(self, name: str, configs: list[str]) -> None:
        for config in configs:
            if not self._closing:
                self._start_rollout(name, config).join()
            if event := self._returning.pop(name, None):
                event.set()

    def _fail(self, name: str, reason: str) -> None:
        """Write down a failed rollout: an endpoint that served before goes on with its old configuration."""
        with self._lock:
            serving = bool(self._servers.get(name))
        status = "InService" if serving else "Failed"
        self._note(name, EndpointStatus=status, FailureReason=reason[:1024], _target=None)

    def _serve(self, variant: Record) -> ModelServer:
        archive, environment = archive_of(self._context.service, variant["ModelName"])
        return ModelServer(variant, archive, environment, self._context.folder, self._context.client("s3"))

    def _replace(self, name: str, servers: list[ModelServer]) -> None:
        with self._lock:
            old = self._servers.pop(name, [])
            if servers:
                self._servers[name] = servers
        for server in old:
            server.stop()

    def stop_all(self) -> None:
        """End every variant's process, those that only start too: called when the server stops."""
        self._closing = True
        with self._lock:
            rollouts = dict(self._rollouts)
        for thread, servers in rollouts.items():
            for server in list(servers):
                server.child.stop(grace_seconds=0)
            thread.join(STOP_SECONDS)
        for name in list(self._servers):
            self._replace(name, [])

    # Invocations

    def invoke(self, name: str, request: Request) -> Response:
        """Answer ``POST /endpoints/<name>/invocations``, as the SageMaker runtime does."""
        if event := self._returning.get(name):
            event.wait(INVOKE_SECONDS)
        servers = self._servers_of(name)
        while servers:
            try:
                return self._ask(servers, request)
            except httpx.TransportError as error:
                successors = self._servers_of(name)
                if successors is servers:
                    return _error("ModelError", 424, f"Endpoint {name} did not answer: {error}")
                # An update took over between the look-up and the call: no caller may notice it.
                servers = successors
        account = self._context.arn_prefix.rpartition(":")[2]
        return _error("ValidationError", 400, f"Endpoint {name} of account {account} not found.")

    def _servers_of(self, name: str) -> list[ModelServer] | None:
        with self._lock:
            return self._servers.get(name)

    def _ask(self, servers: list[ModelServer], request: Request) -> Response:
        target = request.headers.get("X-Amzn-SageMaker-Target-Variant")
        chosen = [server for server in servers if target in (None, server.variant["VariantName"])]
        if not chosen:
            return _error("ValidationError", 400, f"Variant {target} not found for this endpoint.")
        weights = [each.variant.get("InitialVariantWeight", 1.0) for each in chosen]
        (server,) = random.choices(chosen, weights)  # noqa: S311  # It shares out traffic and guards no secret.
        passed = ("Content-Type", "Accept", "X-Amzn-SageMaker-Custom-Attributes")
        headers = {key: request.headers[key] for key in passed if key in request.headers}
        answer = self._http.post(f"{server.url}/invocations", content=request.get_data(), headers=headers)
        if answer.status_code != 200:
            return _model_error(answer)
        shown = {"x-Amzn-Invoked-Production-Variant": server.variant["VariantName"]}
        return Response(answer.content, 200, shown, content_type=answer.headers.get("content-type"))


def _summary(variant: Record) -> Record:
    count, weight = variant.get("InitialInstanceCount", 1), variant.get("InitialVariantWeight", 1.0)
    return {
        "VariantName": variant["VariantName"],
        "CurrentWeight": weight,
        "DesiredWeight": weight,
        "CurrentInstanceCount": count,
        "DesiredInstanceCount": count,
    }


def _error(code: str, status: int, message: str, **fields: Any) -> Response:
    body = json.dumps({"Message": message, "message": message, **fields})
    return Response(body, status, {"x-amzn-errortype": code}, content_type="application/json")


def _model_error(answer: httpx.Response) -> Response:
    """Wrap a model's refusal as the runtime does: ModelError, with the model's own status and words inside."""
    side = "client" if answer.status_code < 500 else "server"
    message = f'Received {side} error ({answer.status_code}) from primary with message "{answer.text[:500]}".'
    original = {"OriginalStatusCode": answer.status_code, "OriginalMessage": answer.text[:1000]}
    return _error("ModelError", 424, message, **original)
