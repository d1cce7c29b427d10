"""An embedded SageMaker for the tests, one for the whole session, and clients of it."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from infra.local import control


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[control.RunningServer]:
    """A server process with a state folder of its own; names in it are shared by all tests."""
    state = tmp_path_factory.mktemp("embedded")
    yield control.start(state, port=0, region="eu-central-1")
    control.stop(state)


@pytest.fixture(scope="session")
def client(embedded: control.RunningServer) -> Callable[[str], Any]:
    """Makes boto3 clients of it, for example ``client("sagemaker")``."""
    session = boto3.Session("local", "local", region_name=embedded.region)
    config = Config(retries={"total_max_attempts": 1}, proxies={})
    return functools.cache(lambda service: session.client(service, endpoint_url=embedded.url, config=config))


@pytest.fixture
def bucket(client: Callable[[str], Any]) -> str:
    """A bucket that no other test uses."""
    name = f"bucket-{secrets.token_hex(4)}"
    client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return name
