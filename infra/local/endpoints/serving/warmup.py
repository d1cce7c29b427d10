"""The first call of a model, made before anybody waits for it: a graph's first costs a hundred later ones.

An archive may bring the requests for it (``assets.extra/tf_serving_warmup_requests``, records of
``tensorflow.serving.PredictionLog``). For one that does not, each signature gets one made-up row.
Source: TensorFlow Serving, "SavedModel Warmup"; the messages' fields from its apis/prediction_log.proto,
apis/model.proto, apis/predict.proto, and TensorFlow's tensor.proto.
"""

from __future__ import annotations

import base64
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from infra.local.endpoints.serving.engines import (
    DEFAULT_SIGNATURE,
    Array,
    BadRequest,
    Engine,
    Signature,
    Spec,
    UnservableArchive,
)

logger = logging.getLogger(__name__)

REQUESTS = Path("assets.extra") / "tf_serving_warmup_requests"

ONE_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"
)
"""A PNG file of one black pixel."""

_MESSAGES = {
    "PredictionLog": [("predict_log", 6, "PredictLog")],
    "PredictLog": [("request", 1, "Request")],
    "Request": [("model_spec", 1, "ModelSpec"), ("inputs", 2, "*Input")],
    "ModelSpec": [("signature_name", 3, "string")],
    "Input": [("key", 1, "string"), ("value", 2, "Tensor")],
    "Tensor": [
        ("dtype", 1, "int32"), ("tensor_shape", 2, "Shape"), ("tensor_content", 4, "bytes"), ("float_val", 5, "*float"),
        ("double_val", 6, "*double"), ("int_val", 7, "*int32"), ("string_val", 8, "*bytes"),
        ("int64_val", 10, "*int64"), ("bool_val", 11, "*bool"),
    ],
    "Shape": [("dim", 2, "*Dim")],
    "Dim": [("size", 1, "int64")],
}  # fmt: skip  # one line a message
"""Name, number and type of the fields that matter here; a star for those that may come several times."""

_VALUES = ("float_val", "double_val", "int_val", "string_val", "int64_val", "bool_val")


def warm_up(engine: Engine, folder: Path) -> int:
    """Make the first calls and return how many were answered.

    Raises ``UnservableArchive`` if the model does not answer one that its archive brings.
    """
    path = folder / REQUESTS
    if path.is_file():
        return sum(_recorded(engine, path, record) for record in records(path))
    return sum(_made_up(engine, name, signature) for name, signature in engine.signatures.items())


def records(path: Path) -> Iterator[bytes]:
    """Yield a TFRecord file's records; their checksums are not looked at. Raises ``UnservableArchive`` if it is cut."""
    content, position = path.read_bytes(), 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content.ljust(position + 8), position)
        record = content[position + 12 : position + 12 + length]
        if len(record) < length:
            raise UnservableArchive(f"{path} is cut off after {len(content)} bytes")
        yield record
        position += length + 16


def _recorded(engine: Engine, path: Path, record: bytes) -> int:
    try:
        request = _message_class("PredictionLog").FromString(record).predict_log.request
    except DecodeError as error:
        raise UnservableArchive(f"{path} holds a record that is no PredictionLog: {error}") from error
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = engine.signatures.get(name)
    given = {each.key: each.value for each in request.inputs}
    if signature is None or given.keys() != signature.inputs.keys():
        raise UnservableArchive(f"{path} holds a request for {name}({', '.join(given)}), which the model does not have")
    try:
        engine.run(name, {key: _tensor(key, value, signature.inputs[key]) for key, value in given.items()})
    except BadRequest as error:
        raise UnservableArchive(f"the model does not answer a warm-up request of {path}: {error}") from error
    return 1


def _tensor(name: str, message: Any, spec: Spec) -> Array:
    shape = [dimension.size for dimension in message.tensor_shape.dim]
    if message.tensor_content and spec.dtype != object:
        values = np.frombuffer(message.tensor_content, spec.dtype)
    else:
        (values,) = [np.array(getattr(message, key), spec.dtype) for key in _VALUES if getattr(message, key)] or [
            np.zeros(0, spec.dtype)
        ]
    if not values.size or (values.size != np.prod(shape) and values.size != 1):
        raise BadRequest(f"{name} holds {values.size} values for the shape {shape}")
    # One value may stand for all of them.
    return np.broadcast_to(values.reshape(shape) if values.size == np.prod(shape) else values.reshape(()), shape)


def _made_up(engine: Engine, name: str, signature: Signature) -> int:
    inputs = {key: _row(spec) for key, spec in signature.inputs.items()}
    if any(value is None for value in inputs.values()):
        return 0
    try:
        engine.run(name, {key: value for key, value in inputs.items() if value is not None})
    except BadRequest as error:
        logger.info("the signature %s takes no made-up row, so it is not warmed up: %s", name, error)
        return 0
    return 1


def _row(spec: Spec) -> Array | None:
    """Make up a row: a picture where strings are wanted, else zeros. None fits a shape that may be any."""
    if spec.shape is None:
        return None
    shape = [1 if length is None else length for length in spec.shape]
    return np.full(shape, ONE_PIXEL, dtype=object) if spec.dtype == object else np.zeros(shape, spec.dtype)


def _message_class(name: str) -> Any:
    """Return a message's class, made from the table above: TensorFlow Serving's own classes are in no small package."""
    file = descriptor_pb2.FileDescriptorProto(name="prediction_log.proto", package="warmup", syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for key, number, kind in fields:
            _add_field(described, key, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"warmup.{name}"))


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    scalar = getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{kind.lstrip('*').upper()}", None)
    repeated = kind.startswith("*")
    message.field.add(
        name=name,
        number=number,
        label=3 if repeated else 1,
        type=scalar or descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
        type_name=None if scalar else f".warmup.{kind.lstrip('*')}",
    )
