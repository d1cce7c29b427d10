"""The embedded SageMaker in the words of ``embedded_cloud``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from embedded_cloud import Cloud


@pytest.fixture
def cloud(client: Callable[[str], Any], bucket: str) -> Cloud:
    """The session's server, with a bucket of the test's own."""
    return Cloud(client, bucket)
