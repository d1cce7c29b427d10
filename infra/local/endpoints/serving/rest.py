"""TensorFlow Serving's REST rules, re-implemented: a predict call's JSON to tensors, and tensors to JSON.

Source: TensorFlow Serving, "RESTful API".
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from infra.local.endpoints.serving.engines import DEFAULT_SIGNATURE, Array, BadRequest, Signature, Spec


@dataclass(frozen=True)
class Predict:
    """A predict call."""

    signature: str
    inputs: dict[str, Array]
    by_rows: bool
    """Whether it came as rows (``instances``), and its answer must, or as columns (``inputs``)."""


def parse(body: bytes, signatures: Mapping[str, Signature]) -> Predict:
    """Read the body of a ``:predict`` call. Raises ``BadRequest`` with words close to TensorFlow Serving's."""
    given = _parsed(body)
    if not isinstance(given, dict):
        raise BadRequest("Expected a JSON object with the key 'instances' or 'inputs'")
    keys = [key for key in ("instances", "inputs") if key in given]
    if len(keys) != 1:
        raise BadRequest(f"Expected one of the keys 'instances' and 'inputs' in the request, found {len(keys)}")
    name = given.get("signature_name", DEFAULT_SIGNATURE)
    signature = signatures.get(name) if isinstance(name, str) else None
    if signature is None:
        raise BadRequest(f'Serving signature name: "{name}" not found in signature def')
    columns = (_rows if keys == ["instances"] else _columns)(given[keys[0]], signature.inputs)
    tensors = {key: tensor(key, values, signature.inputs[key]) for key, values in columns.items()}
    return Predict(name, tensors, keys == ["instances"])


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        # It knows no NaN, which TensorFlow Serving takes.
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"JSON Parse error: {error}") from error


def _rows(instances: Any, specs: Mapping[str, Spec]) -> dict[str, Any]:
    """Turn rows into columns: an only input may stay unnamed, several may not."""
    if not isinstance(instances, list) or not instances:
        raise BadRequest('"instances" must be a non-empty list')
    columns: dict[str, list[Any]] = {key: [] for key in specs}
    for row in instances:
        named = isinstance(row, dict) and row.keys() == specs.keys()
        if not named and len(specs) != 1:
            raise BadRequest(f"each instance must name the inputs {', '.join(specs)}")
        for key, column in columns.items():
            column.append(row[key] if named else row)
    return columns


def _columns(inputs: Any, specs: Mapping[str, Spec]) -> dict[str, Any]:
    if isinstance(inputs, dict) and inputs.keys() == specs.keys():
        return inputs
    if len(specs) != 1:
        raise BadRequest(f'"inputs" must name the inputs {", ".join(specs)}')
    return dict.fromkeys(specs, inputs)


def tensor(name: str, values: Any, spec: Spec) -> Array:
    """Turn nested lists into one tensor. Raises ``BadRequest`` where type or shape do not fit.

    An integer tensor takes no floats: a picture scaled to 0..1 would become a black one.
    """
    if spec.dtype == object:
        result = _strings(values)
    else:
        try:
            found = np.asarray(values)
        except ValueError as error:
            raise BadRequest(f"the values of {name} do not fit together: {error}") from error
        kinds = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}.get(spec.dtype.kind, "")
        # Custom float types, such as bfloat16, have a kind of their own.
        if found.size and found.dtype.kind not in (kinds or "iuf"):
            raise BadRequest(f"the values of {name} do not fit the model's input, which is {spec.dtype}")
        result = found.astype(spec.dtype)
        if spec.dtype.kind in "iu" and not np.array_equal(result, found):
            raise BadRequest(f"a value of {name} is out of the range of {spec.dtype}")
    if spec.shape is not None and not _fits(result.shape, spec.shape):
        expected = [-1 if length is None else length for length in spec.shape]
        raise BadRequest(f"{name} has the shape {list(result.shape)}, which does not fit the model's {expected}")
    return result


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        want in (None, length) for length, want in zip(shape, expected, strict=True)
    )


def _strings(values: Any) -> Array:
    decoded = _bytes(values)
    if not isinstance(decoded, list):
        return np.array(decoded, dtype=object)
    result = np.empty(len(decoded), dtype=object)
    if not any(isinstance(item, list) for item in decoded):
        result[:] = decoded
        return result
    try:
        nested = np.array(decoded, dtype=object)
    except ValueError as error:
        raise BadRequest(f"the lists of strings do not fit together: {error}") from error
    if any(isinstance(item, list) for item in nested.flat):
        raise BadRequest("the lists of strings do not fit together: they differ in length")
    return nested


def _bytes(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        try:
            return binascii.a2b_base64(value["b64"], strict_mode=True)
        except ValueError as error:
            raise BadRequest(f"a value is not base64: {error}") from error
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    raise BadRequest(f"a value of type {type(value).__name__} does not fit the model's input, which is string")


def body(outputs: Mapping[str, Array], by_rows: bool) -> bytes:
    """Write an answer: rows as ``predictions``, columns as ``outputs``; an only output is not named.

    Strings are text, or ``{"b64": ...}`` where the output's name ends in ``_bytes``. Raises ``BadRequest`` if rows were
    asked for and the outputs have none in common.
    """
    if by_rows and (
        {value.ndim for value in outputs.values()} & {0} or len({len(value) for value in outputs.values()}) != 1
    ):
        raise BadRequest("the model's outputs do not have a row for each instance: ask with 'inputs' instead")
    plain = {name: _plain(name, value) for name, value in outputs.items()}
    only = next(iter(plain.values())) if len(plain) == 1 else None
    if not by_rows:
        return _written({"outputs": plain if only is None else only})
    rows = (
        only if only is not None else [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]
    )
    return _written({"predictions": rows})


def _plain(name: str, value: Array) -> Any:
    if value.dtype.kind in "OS":
        return _texts(value.tolist(), name.endswith("_bytes"))
    if value.dtype == np.float32 and value.ndim:
        # Its rows are written with as many digits as float32 has, which is shorter than what Python's floats take.
        return list(value)
    return value.tolist()


def _written(answer: Any) -> bytes:
    written = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    # It writes null for what is no number, where TensorFlow Serving writes NaN or Infinity.
    return json.dumps(answer, default=lambda value: value.tolist()).encode() if b"null" in written else written


def _texts(value: Any, encoded: bool) -> Any:
    if isinstance(value, list):
        return [_texts(item, encoded) for item in value]
    if encoded:
        return {"b64": binascii.b2a_base64(value, newline=False).decode()}
    return value.decode("utf-8", "replace")


def error(text: str) -> bytes:
    """Write a refusal."""
    return json.dumps({"error": text}).encode()
