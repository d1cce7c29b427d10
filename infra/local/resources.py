"""The calls that only keep books: models, endpoint configurations, model package groups, model packages, tags."""

from __future__ import annotations

from infra.local.events.delivery import Events
from infra.local.service import Service, now, page, refuse
from infra.local.store import Record, Store

APPROVAL_DEFAULT = "PendingManualApproval"


class Resources:
    """Names, ARNs and records of whatever does not run."""

    def __init__(self, service: Service, store: Store, events: Events, account: str, region: str) -> None:
        self._service, self._store, self._events = service, store, events
        self._prefix = f"arn:aws:sagemaker:{region}:{account}"

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a resource, for example of ``training-job`` and its name."""
        return f"{self._prefix}:{kind}/{name}"

    def _create(self, kind: str, name_key: str, arn_kind: str, request: Record) -> Record:
        name, arn = request[name_key], self.arn(arn_kind, request[name_key])
        record = {**request, f"{kind}Arn": arn, "CreationTime": now()}
        if not self._store.insert(kind, name, record):
            refuse(f'Cannot create already existing {arn_kind} "{arn}".')
        self._tag(arn, request.get("Tags", []))
        return {f"{kind}Arn": arn}

    def _describe(self, kind: str, name: str, arn_kind: str) -> Record:
        record = self._store.get(kind, name)
        if record is None:
            refuse(f'Could not find {arn_kind} "{self.arn(arn_kind, name)}".')
        return record

    def _delete(self, kind: str, name: str, arn_kind: str) -> None:
        self._describe(kind, name, arn_kind)
        self._store.delete(kind, name)
        self._store.delete("Tags", self.arn(arn_kind, name))

    # Models

    def create_model(self, request: Record) -> Record:
        """CreateModel: of one container, or of a version that somebody approved."""
        containers = [*request.get("Containers", []), *filter(None, [request.get("PrimaryContainer")])]
        if len(containers) > 1:
            refuse("An inference pipeline of several containers is not supported by the embedded SageMaker.")
        for container in containers:
            self._refuse_unserved(self._packaged(container))
        return self._create("Model", "ModelName", "model", request)

    def _packaged(self, container: Record) -> Record:
        """Return a container, or the one of the model package that it names."""
        if "ModelPackageName" not in container:
            return container
        package = self._package(container["ModelPackageName"])
        if (status := package["ModelApprovalStatus"]) != "Approved":
            refuse(f"Model package {package['ModelPackageArn']} cannot be deployed: its status is {status}.")
        packaged: list[Record] = package.get("InferenceSpecification", {}).get("Containers", [])
        if len(packaged) != 1:
            refuse("The embedded SageMaker serves model packages whose InferenceSpecification has one container.")
        return packaged[0]

    def _refuse_unserved(self, container: Record) -> None:
        if "ModelDataSource" in container or container.get("Mode") == "MultiModel":
            refuse("ModelDataSource and the mode MultiModel are not supported by the embedded SageMaker.")

    def describe_model(self, request: Record) -> Record:
        """DescribeModel."""
        return self._describe("Model", request["ModelName"], "model")

    def list_models(self, request: Record) -> Record:
        """ListModels."""
        return page(self._service.model, "ListModels", request, self._store.list("Model"))

    def delete_model(self, request: Record) -> None:
        """DeleteModel."""
        self._delete("Model", request["ModelName"], "model")

    # Endpoint configurations

    def create_endpoint_config(self, request: Record) -> Record:
        """CreateEndpointConfig; the models that it names must exist."""
        for variant in request["ProductionVariants"]:
            if "ModelName" in variant:
                self._describe("Model", variant["ModelName"], "model")
            if "ServerlessConfig" in variant and (len(request["ProductionVariants"]) > 1 or _captures(request)):
                refuse("Data capture and several variants are not supported for serverless endpoints.")
        return self._create("EndpointConfig", "EndpointConfigName", "endpoint-config", request)

    def describe_endpoint_config(self, request: Record) -> Record:
        """DescribeEndpointConfig."""
        return self._describe("EndpointConfig", request["EndpointConfigName"], "endpoint-config")

    def list_endpoint_configs(self, request: Record) -> Record:
        """ListEndpointConfigs."""
        return page(self._service.model, "ListEndpointConfigs", request, self._store.list("EndpointConfig"))

    def delete_endpoint_config(self, request: Record) -> None:
        """DeleteEndpointConfig."""
        self._delete("EndpointConfig", request["EndpointConfigName"], "endpoint-config")

    # Model package groups

    def create_model_package_group(self, request: Record) -> Record:
        """CreateModelPackageGroup."""
        name = request["ModelPackageGroupName"]
        arn = self.arn("model-package-group", name)
        record = {**request, "ModelPackageGroupArn": arn, "CreationTime": now(), "ModelPackageGroupStatus": "Completed"}
        if not self._store.insert("ModelPackageGroup", name, record):
            refuse(f"Model Package Group already exists: {arn}")
        self._tag(arn, request.get("Tags", []))
        return {"ModelPackageGroupArn": arn}

    def describe_model_package_group(self, request: Record) -> Record:
        """DescribeModelPackageGroup."""
        return self._group(request["ModelPackageGroupName"])

    def list_model_package_groups(self, request: Record) -> Record:
        """ListModelPackageGroups."""
        return page(self._service.model, "ListModelPackageGroups", request, self._store.list("ModelPackageGroup"))

    def delete_model_package_group(self, request: Record) -> None:
        """DeleteModelPackageGroup; refused while it holds packages, as on AWS."""
        group = self._group(request["ModelPackageGroupName"])
        name = group["ModelPackageGroupName"]
        with self._store.exclusive():
            if self._store.list("ModelPackage", prefix=self.arn("model-package", f"{name}/")):
                message = f"Model Package Group {name} cannot be deleted: it still contains model packages."
                refuse(message, "ConflictException")
            self._store.delete("ModelPackageGroup", name)
        self._store.delete("Tags", group["ModelPackageGroupArn"])

    def _group(self, name_or_arn: str) -> Record:
        name = name_or_arn.rpartition("/")[2]
        record = self._store.get("ModelPackageGroup", name)
        if record is None:
            refuse(f"ModelPackageGroup {self.arn('model-package-group', name)} does not exist.")
        return record

    # Model packages

    def create_model_package(self, request: Record) -> Record:
        """CreateModelPackage in a group: the next version, waiting for approval unless the request says otherwise."""
        if "ModelPackageGroupName" not in request:
            refuse("Only versioned model packages are supported here: set ModelPackageGroupName.")
        with self._store.exclusive():
            group = self._group(request["ModelPackageGroupName"])
            # Kept beside the group, so that the number of a deleted version is never given out again.
            version = int(group.get("_last_version", 0)) + 1
            arn = self.arn("model-package", f"{group['ModelPackageGroupName']}/{version}")
            record: Record = {
                "ModelApprovalStatus": APPROVAL_DEFAULT,
                **request,
                "ModelPackageGroupName": group["ModelPackageGroupName"],
                "ModelPackageVersion": version,
                "ModelPackageArn": arn,
                "ModelPackageStatus": "Completed",
                "ModelPackageStatusDetails": {"ValidationStatuses": []},
                "CreationTime": now(),
            }
            self._store.insert("ModelPackage", arn, record)
            self._events.resource("ModelPackage", record)
            self._store.update("ModelPackageGroup", group["ModelPackageGroupName"], _last_version=version)
        self._tag(arn, request.get("Tags", []))
        return {"ModelPackageArn": arn}

    def describe_model_package(self, request: Record) -> Record:
        """DescribeModelPackage."""
        return self._package(request["ModelPackageName"])

    def _package(self, arn: str) -> Record:
        record = self._store.get("ModelPackage", arn)
        if record is None:
            refuse(f"ModelPackage {arn} does not exist.")
        return record

    def list_model_packages(self, request: Record) -> Record:
        """ListModelPackages, of one group where the request names one."""
        prefix = ""
        if "ModelPackageGroupName" in request:
            group = self._group(request["ModelPackageGroupName"])["ModelPackageGroupName"]
            prefix = self.arn("model-package", f"{group}/")
        records = self._store.list("ModelPackage", prefix)
        return page(self._service.model, "ListModelPackages", request, records)

    def update_model_package(self, request: Record) -> Record:
        """UpdateModelPackage: changes what it names and keeps the rest; metadata properties are merged, as on AWS."""
        changes = dict(request)
        arn = changes.pop("ModelPackageArn")
        removed = changes.pop("CustomerMetadataPropertiesToRemove", [])
        if "AdditionalInferenceSpecificationsToAdd" in changes:
            refuse("AdditionalInferenceSpecificationsToAdd is not supported by the embedded SageMaker.")
        with self._store.exclusive():
            before = self._package(arn).get("CustomerMetadataProperties", {})
            properties = {**before, **changes.get("CustomerMetadataProperties", {})}
            changes["CustomerMetadataProperties"] = {k: v for k, v in properties.items() if k not in removed}
            record = self._store.update("ModelPackage", arn, **changes, LastModifiedTime=now())
            if "ModelApprovalStatus" in changes:
                self._events.resource("ModelPackage", record)
        return {"ModelPackageArn": arn}

    def delete_model_package(self, request: Record) -> None:
        """DeleteModelPackage."""
        arn = self._package(request["ModelPackageName"])["ModelPackageArn"]
        self._store.delete("ModelPackage", arn)
        self._store.delete("Tags", arn)

    # Tags

    def add_tags(self, request: Record) -> Record:
        """AddTags."""
        return {"Tags": self._tag(request["ResourceArn"], request["Tags"])}

    def list_tags(self, request: Record) -> Record:
        """ListTags."""
        record = self._store.get("Tags", request["ResourceArn"]) or {"Tags": {}}
        return {"Tags": [{"Key": key, "Value": value} for key, value in record["Tags"].items()]}

    def delete_tags(self, request: Record) -> None:
        """DeleteTags."""
        with self._store.exclusive():
            if record := self._store.get("Tags", request["ResourceArn"]):
                kept = {key: value for key, value in record["Tags"].items() if key not in request["TagKeys"]}
                self._store.update("Tags", request["ResourceArn"], Tags=kept)

    def _tag(self, arn: str, tags: list[dict[str, str]]) -> list[dict[str, str]]:
        added = {tag["Key"]: tag["Value"] for tag in tags}
        with self._store.exclusive():
            if added and not self._store.insert("Tags", arn, {"Tags": added}):
                before = (self._store.get("Tags", arn) or {"Tags": {}})["Tags"]
                self._store.update("Tags", arn, Tags={**before, **added})
        return tags


def _captures(config: Record) -> bool:
    capture = config.get("DataCaptureConfig", {})
    return bool(capture) and bool(capture.get("EnableCapture", True))
