"""TensorFlow as an engine: a graph session over the SavedModel, the same graph and kernels as TensorFlow Serving's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from infra.local.endpoints.serving.engines import Array, BadRequest, Signature, Spec, UnservableArchive


class TensorFlowEngine:
    """A SavedModel in a graph session."""

    def __init__(self, folder: Path) -> None:
        # A second thread costs two to four times the processor time on single pictures. AWS's image has the same
        # variables.
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=int(os.environ.get("SAGEMAKER_TFS_INTRA_OP_PARALLELISM", "1")),
            inter_op_parallelism_threads=int(os.environ.get("SAGEMAKER_TFS_INTER_OP_PARALLELISM", "1")),
        )
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            with self._session.graph.as_default():
                loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
        except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
            raise UnservableArchive(f"{folder} holds no SavedModel that TensorFlow can load: {error}") from error
        definitions = {name: each for name, each in loaded.signature_def.items() if not name.startswith("__")}
        self.signatures: Mapping[str, Signature] = {
            name: Signature(_specs(definition.inputs), _specs(definition.outputs))
            for name, definition in definitions.items()
        }
        self._calls = {name: self._callable(definition) for name, definition in definitions.items()}

    def _callable(self, definition: Any) -> Any:
        fetched = [info.name for info in definition.outputs.values()]
        return self._session.make_callable(fetched, [info.name for info in definition.inputs.values()])

    def run(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Answer one call. Raises ``BadRequest`` for inputs that the graph refuses."""
        described = self.signatures[signature]
        try:
            values = self._calls[signature](*[inputs[name] for name in described.inputs])
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
            raise BadRequest(str(error.message)) from error
        return dict(zip(described.outputs, map(np.asarray, values), strict=True))


def _specs(tensors: Mapping[str, Any]) -> dict[str, Spec]:
    return {name: Spec(_dtype(info.dtype), _shape(info.tensor_shape)) for name, info in tensors.items()}


def _dtype(number: int) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(tf.dtypes.as_dtype(number).as_numpy_dtype)
    return dtype


def _shape(shape: Any) -> tuple[int | None, ...] | None:
    if shape.unknown_rank:
        return None
    return tuple(None if dimension.size < 0 else int(dimension.size) for dimension in shape.dim)
