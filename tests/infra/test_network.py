"""The network without a way out, on the embedded SageMaker: deployed, unchanged the second time, removed."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra import stacks

TEXT = (Path(stacks.__file__).with_name("aws") / "network.yaml").read_text()


@pytest.fixture(scope="module")
def name() -> str:
    return f"signs-{secrets.token_hex(3)}"


@pytest.fixture(scope="module")
def outputs(client: Callable[[str], Any], name: str) -> dict[str, str]:
    planned = stacks.plan(client("cloudformation"), name, TEXT, {"Name": name, "BucketName": f"{name}-bucket"})
    return stacks.apply(client("cloudformation"), planned)


def test_two_subnets_in_two_zones_have_no_way_out(client: Callable[[str], Any], outputs: dict[str, str]) -> None:
    ec2 = client("ec2")
    subnets = ec2.describe_subnets(SubnetIds=outputs["Subnets"].split(","))["Subnets"]
    assert len({each["AvailabilityZone"] for each in subnets}) == len(subnets) == 2
    (network,) = {each["VpcId"] for each in subnets}
    here = [{"Name": "vpc-id", "Values": [network]}]
    routes = [route for table in ec2.describe_route_tables(Filters=here)["RouteTables"] for route in table["Routes"]]
    ways = {route.get("GatewayId", "") for route in routes} - {"local"}
    assert all(way.startswith("vpce-") for way in ways)
    gateways = ec2.describe_internet_gateways(Filters=[{"Name": "attachment.vpc-id", "Values": [network]}])
    assert gateways["InternetGateways"] == []


def test_what_the_deployment_calls_has_an_endpoint_and_s3_only_the_projects_bucket(
    client: Callable[[str], Any], name: str, outputs: dict[str, str]
) -> None:
    ec2 = client("ec2")
    network = ec2.describe_subnets(SubnetIds=outputs["Subnets"].split(","))["Subnets"][0]["VpcId"]
    found = ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [network]}])["VpcEndpoints"]
    services = {each["ServiceName"].partition("eu-central-1.")[2]: each for each in found}
    # steps/deploy.py has clients of these.
    called = {"sagemaker": "sagemaker.api", "sagemaker-runtime": "sagemaker.runtime", "cloudwatch": "monitoring"}
    source = (Path(stacks.__file__).parents[1] / "steps" / "deploy.py").read_text()
    clients = {
        line.partition('session.client("')[2].partition('"')[0] for line in source.splitlines() if ".client(" in line
    }
    assert set(services) == {called.get(each, each) for each in clients}
    policy = json.loads(services["s3"]["PolicyDocument"])
    (statement,) = policy["Statement"]
    assert statement["Resource"] == [f"arn:aws:s3:::{name}-bucket", f"arn:aws:s3:::{name}-bucket/*"]


def test_it_is_as_the_template_says_and_can_be_removed(
    client: Callable[[str], Any], name: str, outputs: dict[str, str]
) -> None:
    cloudformation = client("cloudformation")
    assert stacks.plan(cloudformation, name, TEXT, {}).changes == ()
    stacks.destroy(cloudformation, name)
    with pytest.raises(stacks.StackError, match="there is no stack"):
        stacks.outputs(cloudformation, name)
    left = client("ec2").describe_subnets()["Subnets"]
    assert not {each["SubnetId"] for each in left} & set(outputs["Subnets"].split(","))
