"""The endpoint calls: variants as processes that serve their model archives, replaced only by ones that answer."""

from __future__ import annotations

import threading

from werkzeug.wrappers import Request, Response

from infra.local.endpoints.capture import Captures
from infra.local.endpoints.hosting import EndpointContext, Hosting
from infra.local.endpoints.invocations import INVOKE_SECONDS, Invoker
from infra.local.endpoints.metrics import Metrics
from infra.local.endpoints.plans import planned
from infra.local.endpoints.rollouts import Traffic
from infra.local.endpoints.scaling import deregister, registered
from infra.local.service import now, page, refuse
from infra.local.store import Record

INSTANCES = 8
"""How many instances an endpoint may have: each is a process with a model in it."""

MEND_SECONDS = 0.25
"""How often dead instances are looked for."""


class Endpoints:
    """Endpoints by name, and the calls on them."""

    def __init__(self, context: EndpointContext) -> None:
        self._context = context
        self._hosting = Hosting(context)
        self._metrics = Metrics(context.client("cloudwatch"), context.clock)
        self._captures = Captures()
        account = context.arn_prefix.rpartition(":")[2]
        self._invoker = Invoker.create(self._answering, self._metrics, self._captures, account)
        self._ended = threading.Event()

    # The calls

    def create_endpoint(self, request: Record) -> Record:
        """CreateEndpoint; answers at once, the endpoint is InService when its models answer."""
        name = request["EndpointName"]
        arn = f"{self._context.arn_prefix}:endpoint/{name}"
        update = self._checked({"EndpointConfigName": request["EndpointConfigName"]}, request.get("DeploymentConfig"))
        record = {
            "EndpointName": name,
            "EndpointArn": arn,
            "EndpointConfigName": request["EndpointConfigName"],
            "EndpointStatus": "Creating",
            "CreationTime": now(),
            "LastModifiedTime": now(),
            "LastDeploymentConfig": request.get("DeploymentConfig"),
            "_update": update,
        }
        with self._context.store.exclusive():
            if not self._context.store.insert("Endpoint", name, record):
                refuse(f'Cannot create already existing endpoint "{arn}".')
            if request.get("Tags"):
                self._context.service.call("AddTags", {"ResourceArn": arn, "Tags": request["Tags"]})
            self._context.events.resource("Endpoint", record)
        self._hosting.begin(name)
        return {"EndpointArn": arn}

    def update_endpoint(self, request: Record) -> Record:
        """UpdateEndpoint: the new variants take over once all of them answer, and as the deployment configuration says.

        Until then the old ones serve, and they serve on if that fails.
        """
        record = self._serving(request["EndpointName"])
        name = record["EndpointName"]
        retained = record.get("LastDeploymentConfig") if request.get("RetainDeploymentConfig") else None
        deployment = request.get("DeploymentConfig") or retained
        kept = _kept(record, request) if request.get("RetainAllVariantProperties") else {}
        target = {"EndpointConfigName": request["EndpointConfigName"], "Kept": kept}
        # These ask other services, whose calls may be waiting for the store: it must not be held meanwhile.
        update = self._checked(target, deployment, record["EndpointConfigName"])
        self._refuse_scaled(name, target)
        with self._context.store.exclusive():
            if self._serving(name) != record:
                refuse(f'Cannot update in-progress endpoint "{record["EndpointArn"]}".')
            changes = {"LastDeploymentConfig": deployment} if deployment else {}
            self._hosting.note(name, EndpointStatus="Updating", FailureReason=None, _update=update, **changes)
        self._hosting.begin(name)
        return {"EndpointArn": record["EndpointArn"]}

    def update_endpoint_weights_and_capacities(self, request: Record) -> Record:
        """UpdateEndpointWeightsAndCapacities: other weights at once, more or fewer instances as they start and end."""
        with self._context.store.exclusive():
            record = self._serving(request["EndpointName"])
            variants = {variant["VariantName"] for variant in record.get("ProductionVariants", [])}
            for wanted in request["DesiredWeightsAndCapacities"]:
                if wanted["VariantName"] not in variants:
                    refuse(f"Variant {wanted['VariantName']} not found for endpoint {record['EndpointName']}.")
                _limited(wanted.get("DesiredInstanceCount", 0))
            wanted = request["DesiredWeightsAndCapacities"]
            self._hosting.note(record["EndpointName"], EndpointStatus="Updating", FailureReason=None, _scale=wanted)
        self._hosting.scale(record["EndpointName"])
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
        deregister(self._context.client, record["EndpointName"])
        self._hosting.forget(record["EndpointName"])

    def _endpoint(self, name: str) -> Record:
        record = self._context.store.get("Endpoint", name)
        if record is None:
            refuse(f'Could not find endpoint "{self._context.arn_prefix}:endpoint/{name}".')
        return record

    def _serving(self, name: str) -> Record:
        """Return an endpoint that serves: one that failed can only be deleted, as on AWS."""
        record = self._settled(name)
        if record["EndpointStatus"] == "Failed":
            refuse(f'Cannot update failed endpoint "{record["EndpointArn"]}": delete it.')
        return record

    def _settled(self, name: str) -> Record:
        record = self._endpoint(name)
        if record["EndpointStatus"] not in ("InService", "Failed"):
            refuse(f'Cannot update in-progress endpoint "{record["EndpointArn"]}".')
        return record

    def _checked(self, update: Record, deployment: Record | None, served: str | None = None) -> Record:
        """Hold an update against what SageMaker allows, and return it as an endpoint's record keeps it."""
        fleet = self._hosting.fleet(update)
        _limited(fleet.size)
        plan = planned(deployment, fleet.size)
        try:
            self._context.alarms(plan.alarms)
        except KeyError as error:
            refuse(f"CloudWatch alarm {error.args[0]} does not exist.")
        if _serverless(fleet.config):
            if deployment:
                refuse("DeploymentConfig is not supported for serverless endpoints.")
            if served and not _serverless(self._hosting.fleet({"EndpointConfigName": served}).config):
                refuse("An endpoint with instances cannot be updated to a serverless one.")
        return {**update, "DeploymentConfig": deployment, "StartTime": now()}

    # Scaling, by Application Auto Scaling

    def _refuse_scaled(self, endpoint: str, update: Record) -> None:
        """Refuse to change the machines of variants that are scaled, or to leave such variants out."""
        serving = self._hosting.traffic(endpoint).serving
        before = {} if serving is None else _machines(serving.config)
        after = _machines(self._hosting.fleet(update).config)
        changed = {name for name, machine in before.items() if after.get(name) != machine}
        if changed and (scaled := changed & registered(self._context.client, endpoint)):
            refuse(
                f"The variant(s) {sorted(scaled)} must be deregistered as scalable targets with AWS Auto Scaling "
                "before they can be removed or have their instance type updated."
            )

    def count(self, endpoint: str, variant: str) -> int | None:
        """Return how many instances a variant has; ``None`` while it cannot be scaled."""
        record = self._context.store.get("Endpoint", endpoint) or {}
        counts = {
            each["VariantName"]: each.get("CurrentInstanceCount") for each in record.get("ProductionVariants", [])
        }
        return counts.get(variant) if record.get("EndpointStatus") == "InService" else None

    def resize(self, endpoint: str, variant: str, count: int) -> None:
        """Begin to give a variant so many instances, or as many as an endpoint may have here."""
        wanted = {"VariantName": variant, "DesiredInstanceCount": min(count, INSTANCES)}
        request = {"EndpointName": endpoint, "DesiredWeightsAndCapacities": [wanted]}
        self._context.service.call("UpdateEndpointWeightsAndCapacities", request)

    # Invocations, and what goes on by itself

    def _answering(self, name: str) -> Traffic:
        return self._hosting.traffic(name, INVOKE_SECONDS)

    def invoke(self, name: str, request: Request) -> Response:
        """Answer ``POST /endpoints/<name>/invocations``, as the SageMaker runtime does."""
        return self._invoker.answer(name, request)

    def send(self) -> None:
        """Send what came in since the last time to CloudWatch and S3; called once in each of AWS's minutes."""
        self._metrics.send()
        self._captures.send()

    def recover(self) -> None:
        """Bring back what an earlier server served, and watch over the processes from now on."""
        self._hosting.recover()
        threading.Thread(target=self._mend, daemon=True).start()

    def _mend(self) -> None:
        while not self._ended.wait(MEND_SECONDS):
            self._hosting.mend()

    def stop_all(self) -> None:
        """End every process; called when the server stops."""
        self._ended.set()
        self._hosting.stop_all()
        self.send()


def _kept(record: Record, request: Record) -> Record:
    """Return the properties of an endpoint's variants that an update retains."""
    excluded = {each["VariantPropertyType"] for each in request.get("ExcludeRetainedVariantProperties", [])}
    members = {"DesiredInstanceCount", "DesiredWeight"} - excluded
    return {
        summary["VariantName"]: {key: value for key, value in summary.items() if key in members}
        for summary in record.get("ProductionVariants", [])
    }


def _limited(count: int) -> None:
    if count > INSTANCES:
        refuse(
            f"The account-level service limit for instances of an endpoint is {INSTANCES}: {count} were asked for.",
            "ResourceLimitExceeded",
        )


def _machines(config: Record) -> dict[str, str | None]:
    return {variant["VariantName"]: variant.get("InstanceType") for variant in config["ProductionVariants"]}


def _serverless(config: Record) -> bool:
    return any("ServerlessConfig" in variant for variant in config["ProductionVariants"])
