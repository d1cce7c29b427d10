"""The resource types of networks that moto's CloudFormation can make and not remove.

A network is kept and means nothing: jobs run on this machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from moto.cloudformation.exceptions import ValidationError
from moto.core.common_models import CloudFormationModel
from moto.ec2.models import ec2_backends

from infra.local.stacks.resources import Kept, Place
from infra.local.store import Record


def _ec2(place: Place) -> Any:
    return ec2_backends[place.account][place.region]


class Replaced(Kept):
    """A resource that is made anew when it is to be another one, which nothing here needs to see."""

    @classmethod
    def put(cls, name: str, properties: Record, place: Place, new: bool) -> dict[str, str]:
        """Create the resource; refuses to change one."""
        if not new:
            raise ValidationError(
                message=f"{cls.cfn_type}: the embedded SageMaker cannot change what exists of this type."
            )
        identifier = cls.make(properties, place)
        return {"Name": identifier, "Ref": identifier}

    @classmethod
    def make(cls, properties: Record, place: Place) -> str:
        """Create the resource and return its identifier."""
        raise NotImplementedError


class RouteTable(Replaced, CloudFormationModel):  # type: ignore[misc]  # moto ships no types
    """A route table, with no route of its own."""

    cfn_type, name_property = "AWS::EC2::RouteTable", ""
    properties, attributes = ("VpcId",), ()

    @classmethod
    def make(cls, properties: Record, place: Place) -> str:
        """Create it."""
        return str(_ec2(place).create_route_table(vpc_id=properties["VpcId"]).id)

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Delete it."""
        _ec2(place).delete_route_table(name)


class Association(Replaced, CloudFormationModel):  # type: ignore[misc]
    """A subnet's route table."""

    cfn_type, name_property = "AWS::EC2::SubnetRouteTableAssociation", ""
    properties, attributes = ("RouteTableId", "SubnetId"), ()

    @classmethod
    def make(cls, properties: Record, place: Place) -> str:
        """Associate the two."""
        return str(_ec2(place).associate_route_table(properties["RouteTableId"], subnet_id=properties["SubnetId"]))

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Give the subnet back the network's own table."""
        _ec2(place).disassociate_route_table(name)


class Endpoint(Replaced, CloudFormationModel):  # type: ignore[misc]
    """A way from a network to one service."""

    cfn_type, name_property = "AWS::EC2::VPCEndpoint", ""
    properties = (
        "PolicyDocument",
        "PrivateDnsEnabled",
        "RouteTableIds",
        "SecurityGroupIds",
        "ServiceName",
        "SubnetIds",
        "VpcEndpointType",
        "VpcId",
    )
    attributes = ()

    @classmethod
    def make(cls, properties: Record, place: Place) -> str:
        """Create it."""
        endpoint = _ec2(place).create_vpc_endpoint(
            vpc_id=properties["VpcId"],
            service_name=properties["ServiceName"],
            endpoint_type=properties.get("VpcEndpointType", "Gateway"),
            policy_document=json.dumps(properties["PolicyDocument"]) if "PolicyDocument" in properties else None,
            route_table_ids=properties.get("RouteTableIds", []),
            subnet_ids=properties.get("SubnetIds", []),
            security_group_ids=properties.get("SecurityGroupIds", []),
            private_dns_enabled=str(properties.get("PrivateDnsEnabled", False)).lower() == "true",
        )
        return str(endpoint.id)

    @classmethod
    def remove(cls, name: str, values: Mapping[str, str], place: Place) -> None:
        """Delete it."""
        _ec2(place).delete_vpc_endpoints([name])
