"""What a stack keeps of a resource, and the resource types of SageMaker, which moto keeps books of its own about.

moto's CloudFormation keeps the very objects of the other services, which become copies when the state is written and
read again. Here it is the name and the attributes, plain values. A property that would have no effect is refused by its
name.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from moto.cloudformation.exceptions import UnformattedGetAttTemplateException, ValidationError
from moto.core.common_models import CloudFormationModel

from infra.local.service import Service
from infra.local.store import Record


class Place(NamedTuple):
    """Whose cloud a resource is in."""

    account: str
    region: str


class Kept:
    """One resource of a stack, and what its type can do; moto asks for the latter by class methods."""

    cfn_type: ClassVar[str]
    name_property: ClassVar[str]
    properties: ClassVar[Sequence[str]]
    """The properties that have an effect, besides the name."""
    attributes: ClassVar[Sequence[str]] = ("Arn",)
    """What ``Fn::GetAtt`` can ask for."""

    def __init__(self, name: str, values: Mapping[str, str], reference: str) -> None:
        self.name, self.values, self.physical_resource_id = name, dict(values), reference

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Make the resource be as the properties say, and return its attributes.

        Among them ``Name`` where the resource got another one, and ``Ref`` where that is not the name.
        """
        raise NotImplementedError

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Delete the resource."""
        raise NotImplementedError

    # What moto calls

    @classmethod
    def cloudformation_type(cls) -> str:
        """Return the type's name."""
        return cls.cfn_type

    @classmethod
    def cloudformation_name_type(cls) -> str:
        """Return the property that holds the name."""
        return cls.name_property

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        """Tell whether ``Fn::GetAtt`` can ask for an attribute."""
        return attr in cls.attributes

    def get_cfn_attribute(self, attribute_name: str) -> str:
        """Answer ``Fn::GetAtt``."""
        if attribute_name not in self.attributes:
            raise UnformattedGetAttTemplateException
        return self.values[attribute_name]

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Record, account_id: str, region_name: str, **_: Any
    ) -> Kept:
        """Create the resource."""
        return cls._put(resource_name, cloudformation_json["Properties"], Place(account_id, region_name), new=True)

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Kept,
        new_resource_name: str,
        cloudformation_json: Record,
        account_id: str,
        region_name: str,
    ) -> Kept:
        """Change the resource, or replace it where it gets another name."""
        properties, place = cloudformation_json["Properties"], Place(account_id, region_name)
        if properties.get(cls.name_property, original_resource.name) == original_resource.name:
            return cls._put(original_resource.name, properties, place, new=False)
        replacement = cls._put(new_resource_name, properties, place, new=True)
        cls.remove(original_resource.name, original_resource.values, place)
        return replacement

    @classmethod
    def _put(cls, name: str, properties: Record, place: Place, new: bool) -> Kept:
        known = (cls.name_property, *cls.properties)
        if unknown := [key for key in properties if key not in known]:
            raise ValidationError(message=f"{cls.cfn_type}: the embedded SageMaker has no {', '.join(unknown)}.")
        values = cls.put(name, _without_nothing(properties), place, new)
        # AWS gives some resources their name.
        name = values.pop("Name", name)
        return cls(name, values, values.pop("Ref", name))

    def delete(self, account_id: str, region_name: str) -> None:
        """Delete the resource."""
        self.remove(self.name, self.values, Place(account_id, region_name))

    def is_created(self) -> bool:
        """Tell whether the resource is there, which it always is."""
        return True


def _without_nothing(value: Any) -> Any:
    """Leave out what ``AWS::NoValue`` stood for, which moto leaves in lists."""
    if isinstance(value, list):
        return [_without_nothing(item) for item in value if item is not None]
    return {key: _without_nothing(item) for key, item in value.items()} if isinstance(value, dict) else value


class SageMakerType(Kept):
    """A resource of SageMaker, in the records that the embedded one keeps."""

    service: ClassVar[Service]
    """Set when the server is put together, since moto asks classes."""
    kind: ClassVar[str]

    @classmethod
    def request(cls, name: str, properties: Record) -> Record:
        """Return the members of the API's Create action but the tags."""
        return {**{key: value for key, value in properties.items() if key != "Tags"}, f"{cls.kind}Name": name}

    @classmethod
    def change(cls, request: Record, described: Record) -> None:
        """Make an existing resource be as the request says."""
        raise NotImplementedError

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Create or change the resource and its tags."""
        named, request = {f"{cls.kind}Name": name}, cls.request(name, properties)
        if new:
            cls.service.call(f"Create{cls.kind}", request)
        described = cls.service.call(f"Describe{cls.kind}", named)
        arn = described[f"{cls.kind}Arn"]
        if not new:
            cls.change(request, described)
        tagged = [tag["Key"] for tag in cls.service.call("ListTags", {"ResourceArn": arn})["Tags"]]
        if tagged:
            cls.service.call("DeleteTags", {"ResourceArn": arn, "TagKeys": tagged})
        if properties.get("Tags"):
            cls.service.call("AddTags", {"ResourceArn": arn, "Tags": properties["Tags"]})
        return {f"{cls.kind}Arn": arn, "Ref": arn}

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Delete the resource."""
        cls.service.call(f"Delete{cls.kind}", {f"{cls.kind}Name": name})


class ModelPackageGroup(SageMakerType, CloudFormationModel):  # type: ignore[misc]
    """A group of the model registry."""

    cfn_type, name_property = "AWS::SageMaker::ModelPackageGroup", "ModelPackageGroupName"
    properties, attributes = ("ModelPackageGroupDescription", "Tags"), ("ModelPackageGroupArn",)
    kind = "ModelPackageGroup"

    @classmethod
    def change(cls, request: Record, described: Record) -> None:
        """Refuse another description: on AWS too that would need another group."""
        key = "ModelPackageGroupDescription"
        if request.get(key) != described.get(key):
            raise ValidationError(message=f"{key} of {described['ModelPackageGroupName']} cannot be changed.")


class Pipeline(SageMakerType, CloudFormationModel):  # type: ignore[misc]
    """A pipeline with its definition."""

    cfn_type, name_property = "AWS::SageMaker::Pipeline", "PipelineName"
    properties, attributes = (
        (
            "ParallelismConfiguration",
            "PipelineDefinition",
            "PipelineDescription",
            "PipelineDisplayName",
            "RoleArn",
            "Tags",
        ),
        (),
    )
    kind = "Pipeline"

    @classmethod
    def request(cls, name: str, properties: Record) -> Record:
        """Return the members of CreatePipeline, which takes the definition in another shape."""
        request = super().request(name, properties)
        definition = request.pop("PipelineDefinition")
        if location := definition.get("PipelineDefinitionS3Location"):
            place = {"Bucket": location["Bucket"], "ObjectKey": location["Key"]}
            return {**request, "PipelineDefinitionS3Location": place, "ClientRequestToken": str(uuid.uuid4())}
        body = definition["PipelineDefinitionBody"]
        return {**request, "PipelineDefinition": body, "ClientRequestToken": str(uuid.uuid4())}

    @classmethod
    def change(cls, request: Record, described: Record) -> None:
        """Update the pipeline."""
        cls.service.call("UpdatePipeline", {key: request[key] for key in request if key != "ClientRequestToken"})

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Create or change the pipeline, whose ``Ref`` is its name."""
        return {**super().put(name, properties, place, new), "Ref": name}

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Delete the pipeline."""
        cls.service.call("DeletePipeline", {"PipelineName": name, "ClientRequestToken": str(uuid.uuid4())})
