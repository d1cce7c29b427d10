"""The embedded SageMaker in the words of ``embedded_cloud``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from embedded_cloud import Cloud
from stack_parts import Deployer


@pytest.fixture
def cloud(client: Callable[[str], Any], bucket: str) -> Cloud:
    """The session's server, with a bucket of the test's own."""
    return Cloud(client, bucket)


@pytest.fixture
def stack(cloud: Cloud) -> Deployer:
    """A stack of the test's own."""
    return Deployer(cloud)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with version 1 of a model that doubles numbers, another signature that adds, and no handler."""
    import tensorflow as tf

    class Doubler(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def double(self, x: Any) -> Any:
            return {"y": 2.0 * x}

        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.float32, name="a"), tf.TensorSpec([None], tf.string, name="b")]
        )
        def echo(self, a: Any, b: Any) -> Any:
            return {"a": a, "b": b}

    folder, module = tmp_path_factory.mktemp("model"), Doubler()
    signatures = {"serving_default": module.double, "echo": module.echo}
    tf.saved_model.save(module, str(folder / "1"), signatures=signatures)
    return folder
