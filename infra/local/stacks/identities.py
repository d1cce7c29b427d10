"""The resource types of IAM beside roles: policies that several roles share, and who else may say who somebody is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from moto.cloudformation.exceptions import ValidationError
from moto.core.common_models import CloudFormationModel
from moto.iam.models import iam_backends

from infra.local.stacks.resources import Kept, Place
from infra.local.store import Record


class ManagedPolicy(Kept, CloudFormationModel):  # type: ignore[misc]  # moto ships no types
    """A policy of its own, whose ``Ref`` is its ARN."""

    cfn_type, name_property = "AWS::IAM::ManagedPolicy", "ManagedPolicyName"
    properties, attributes = ("Description", "Path", "PolicyDocument"), ("PolicyArn",)

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Create the policy, or give it another version and forget the one before."""
        iam, path = iam_backends[place.account]["aws"], properties.get("Path", "/")
        described, document = properties.get("Description", ""), json.dumps(properties["PolicyDocument"])
        # moto's own books of this type know no property for the name, so that it makes one up.
        name = properties.get(cls.name_property, name)
        if new:
            arn = iam.create_policy(described, path, document, name, []).arn
            return {"Name": name, "PolicyArn": arn, "Ref": arn}
        arn = f"arn:aws:iam::{place.account}:policy{path}{name}"
        before = iam.get_policy(arn)
        if before.description != described:
            raise ValidationError(message=f"Description of {name} cannot be changed.")
        version = before.default_version_id
        iam.create_policy_version(arn, document, True)
        iam.delete_policy_version(arn, version)
        return {"PolicyArn": arn, "Ref": arn}

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Delete the policy."""
        iam_backends[place.account]["aws"].delete_policy(values["PolicyArn"])


class OIDCProvider(Kept, CloudFormationModel):  # type: ignore[misc]
    """Whose word about identities the account takes; named by its ARN, of which there is one a URL."""

    cfn_type, name_property = "AWS::IAM::OIDCProvider", ""
    properties = ("ClientIdList", "ThumbprintList", "Url")

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Create or change the provider."""
        iam, thumbprints = iam_backends[place.account]["aws"], properties.get("ThumbprintList", [])
        clients = properties.get("ClientIdList", [])
        if new:
            arn = iam.create_open_id_connect_provider(properties["Url"], thumbprints, clients, []).arn
            return {"Name": arn, "Arn": arn, "Ref": arn}
        provider: Any = iam.get_open_id_connect_provider(name)
        if provider.url.removeprefix("https://") != properties["Url"].removeprefix("https://"):
            raise ValidationError(message=f"Url of {name} cannot be changed.")
        provider.thumbprint_list, provider.client_id_list = thumbprints, clients
        return {"Arn": name, "Ref": name}

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Delete the provider."""
        iam_backends[place.account]["aws"].delete_open_id_connect_provider(name)
