"""What runs a model: the engines, what they say of its signatures, and how one is chosen."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DEFAULT_SIGNATURE = "serving_default"

ENGINE_VARIABLE = "SAGEMAKER_EMBEDDED_ENGINE"
"""Names the engine; of the model's container, or of whoever starts the server."""


class BadRequest(Exception):
    """A request that TensorFlow Serving would answer with 400; the text is the reason."""


class UnservableArchive(Exception):
    """An archive that this server cannot serve; the text says what is missing, and the way out."""


@dataclass(frozen=True)
class Spec:
    """What a tensor must be like."""

    dtype: np.dtype[Any]
    """``object`` stands for strings, as bytes."""
    shape: tuple[int | None, ...] | None
    """``None`` for a length that may be any, and for a shape that may be any."""

    @property
    def rows(self) -> bool:
        """Whether its first length may be any."""
        return bool(self.shape) and self.shape is not None and self.shape[0] is None


@dataclass(frozen=True)
class Signature:
    """A model's function, by the names of what goes in and comes out."""

    inputs: Mapping[str, Spec]
    outputs: Mapping[str, Spec]

    @property
    def by_rows(self) -> bool:
        """Whether everything in it has rows: then several requests can be one call."""
        return bool(self.inputs) and all(spec.rows for spec in [*self.inputs.values(), *self.outputs.values()])


class Engine(Protocol):
    """A loaded model; called by one thread at a time."""

    signatures: Mapping[str, Signature]

    def run(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Answer one call. Raises ``BadRequest`` for inputs that the model refuses."""
        ...


def version_folder(archive: Path) -> Path:
    """Return the folder of an archive's newest version. Raises ``UnservableArchive`` if it has none."""
    versions = [path for path in archive.iterdir() if path.name.isdigit() and path.is_dir()]
    if not versions:
        raise UnservableArchive(
            f"{archive} holds no model version: expected a folder such as 1/ with saved_model.pb in it"
        )
    return max(versions, key=lambda path: int(path.name))


def open_engine(folder: Path, name: str = "") -> Engine:
    """Load a version's folder with the named engine, ``tensorflow`` or ``litert``.

    Each brings its own library, which is imported here and not before: TensorFlow alone takes seconds. Raises
    ``UnservableArchive``.
    """
    name = name or os.environ.get(ENGINE_VARIABLE, "tensorflow")
    if name == "tensorflow":
        from infra.local.endpoints.serving.tensorflow_engine import TensorFlowEngine

        return TensorFlowEngine(folder)
    if name == "litert":
        from infra.local.endpoints.serving.litert_engine import LiteRtEngine

        return LiteRtEngine(folder)
    raise UnservableArchive(f"{ENGINE_VARIABLE} is {name!r}: choose tensorflow or litert")
