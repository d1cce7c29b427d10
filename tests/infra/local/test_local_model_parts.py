"""The model server's parts that need no process: warm-up requests, archives without a handler, slow bodies."""

from __future__ import annotations

import asyncio
import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from infra.local.endpoints.serving import application, handlers, warmup
from infra.local.endpoints.serving.engines import (
    ENGINE_VARIABLE,
    Array,
    BadRequest,
    Signature,
    Spec,
    UnservableArchive,
    open_engine,
    version_folder,
)
from infra.local.processes import inherited


class Remembering:
    """An engine that takes everything but negative numbers."""

    def __init__(self, **inputs: Spec) -> None:
        self.signatures: Mapping[str, Signature] = {"serving_default": Signature(inputs, {})}
        self.seen: list[dict[str, Array]] = []

    def run(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.seen.append(dict(inputs))
        if any(value.dtype.kind == "f" and (value < 0).any() for value in inputs.values()):
            raise BadRequest("negative")
        return {}


def field(number: int, payload: bytes) -> bytes:
    assert len(payload) < 128 * 128
    length = bytes([len(payload) & 127 | 128, len(payload) >> 7])
    return bytes([number << 3 | 2]) + length + payload


def write_requests(folder: Path, *requests: dict[str, Any]) -> None:
    """Write warm-up requests with TensorFlow's own tensors and records."""
    path = folder / warmup.REQUESTS
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            entries = b"".join(
                field(2, field(1, name.encode()) + field(2, value.SerializeToString()))
                for name, value in request.items()
            )
            writer.write(field(6, field(1, entries)))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([[1.5, 2.5], [3.5, 4.5]], np.float32),
        ([[7.0, 7.0], [7.0, 7.0]], np.float32),
        ([1.5, 2.0], np.float64),
        ([[1], [2]], np.int32),
        ([1, -2], np.int64),
        ([3, 200], np.uint8),
        ([True, False], bool),
        ([b"a", b"bc"], object),
        (2.5, np.float32),
    ],
)
def test_a_recorded_request_reaches_the_model_as_it_was_written(values: Any, dtype: Any, tmp_path: Path) -> None:
    engine = Remembering(x=Spec(np.dtype(dtype), None))
    write_requests(tmp_path, {"x": tf.make_tensor_proto(values, tf.as_dtype(tf.string if dtype is object else dtype))})
    assert warmup.warm_up(engine, tmp_path) == 1
    (seen,) = engine.seen
    assert seen["x"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(seen["x"], np.array(values, dtype))


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        (
            [{"y": tf.make_tensor_proto([1.0])}],
            r"holds a request for serving_default\(y\), which the model does not have",
        ),
        ([{"x": tf.make_tensor_proto([-1.0])}], "does not answer a warm-up request .*: negative"),
        ([{"x": tf.make_tensor_proto(np.zeros((0,), np.float32))}], "holds 0 values for the shape"),
    ],
)
def test_a_recorded_request_that_is_not_answered_makes_the_archive_unservable(
    requests: list[dict[str, Any]], reason: str, tmp_path: Path
) -> None:
    write_requests(tmp_path, *requests)
    with pytest.raises(UnservableArchive, match=reason):
        warmup.warm_up(Remembering(x=Spec(np.dtype(np.float32), (None,))), tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x05", "is cut off"),
        (struct.pack("<Q", 10**15) + bytes(20), "is cut off"),
        (struct.pack("<QI", 3, 0) + b"\xff\xff\xff" + bytes(4), "is no PredictionLog"),
    ],
)
def test_a_damaged_file_of_requests_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / warmup.REQUESTS
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UnservableArchive, match=f"tf_serving_warmup_requests .*{reason}|{reason}"):
        warmup.warm_up(Remembering(x=Spec(np.dtype(np.float32), None)), tmp_path)


def test_without_requests_each_signature_gets_a_made_up_row(tmp_path: Path) -> None:
    engine = Remembering(p=Spec(np.dtype(np.uint8), (None, 2, 3)), s=Spec(np.dtype(object), (None,)))
    assert warmup.warm_up(engine, tmp_path) == 1
    (seen,) = engine.seen
    assert seen["p"].shape == (1, 2, 3)
    assert seen["s"].tolist() == [warmup.ONE_PIXEL]
    assert warmup.warm_up(Remembering(x=Spec(np.dtype(np.float32), None)), tmp_path) == 0


def test_a_model_from_elsewhere_is_warmed_and_served(model: Path) -> None:
    engine = open_engine(version_folder(model), "tensorflow")
    assert warmup.warm_up(engine, version_folder(model)) == 2
    assert engine.run("serving_default", {"x": np.array([1.5, 2.0], np.float32)})["y"].tolist() == [3.0, 4.0]
    assert {name: signature.by_rows for name, signature in engine.signatures.items()} == {
        "serving_default": True,
        "echo": True,
    }


@pytest.mark.parametrize("engine", ["tensorflow", "litert"])
def test_an_archive_without_a_model_is_named(engine: str, tmp_path: Path) -> None:
    with pytest.raises(UnservableArchive, match="holds no model version"):
        version_folder(tmp_path)
    (tmp_path / "1").mkdir()
    with pytest.raises(UnservableArchive, match=str(tmp_path)):
        open_engine(version_folder(tmp_path), engine)


def test_the_engine_is_a_setting_of_the_server_that_reaches_its_model_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENGINE_VARIABLE, "litert")
    monkeypatch.setenv("SAGEMAKER_REGION", "elsewhere")
    told = inherited()
    assert told[ENGINE_VARIABLE] == "litert"
    assert "SAGEMAKER_REGION" not in told


def test_the_newest_version_is_the_highest_number(tmp_path: Path) -> None:
    for name in ("9", "10", "code", "11.part"):
        (tmp_path / name).mkdir()
    assert version_folder(tmp_path).name == "10"


@pytest.mark.parametrize(
    ("content_type", "body", "asked"),
    [
        ("application/json", b'{"instances": [1]}', {"instances": [1]}),
        ("application/json; charset=utf-8", b'{"inputs": [1]}', {"inputs": [1]}),
        ("application/json", b"[[1], [2]]", {"instances": [[1], [2]]}),
        ("application/json", b"[1, 2]", {"instances": [[1, 2]]}),
        ("application/json", b'{"x": 1}', {"instances": [{"x": 1}]}),
        ("application/jsonlines", b'{"x": 1}\n{"x": 2}\n', {"instances": [{"x": 1}, {"x": 2}]}),
        ("application/jsons", b"[1]\n\n[2]", {"instances": [[1], [2]]}),
        ("text/csv", b"1,2.5\r\n3,4\n", {"instances": [[1, 2.5], [3, 4]]}),
        ("text/csv", b"1\n2\n", {"instances": [1, 2]}),
        ("text/csv", b'red, "green"\n', {"instances": [["red", "green"]]}),
    ],
)
def test_without_a_handler_bodies_are_read_as_the_image_reads_them(content_type: str, body: bytes, asked: Any) -> None:
    context = handlers.Context(*[None] * 7, content_type, None, None, None)
    assert json.loads(handlers.plain_request(io.BytesIO(body), context)) == asked


@pytest.mark.parametrize("content_type", [None, "", "image/png", "text/plain"])
def test_without_a_handler_other_types_are_refused(content_type: str | None) -> None:
    context = handlers.Context(*[None] * 7, content_type, None, None, None)
    with pytest.raises(handlers.Refused) as caught:
        handlers.plain_request(io.BytesIO(b"1"), context)
    assert handlers.failed(caught.value).status == 415


class Falcon(Exception):
    status, title, description = "429 Too Many Requests", "Slow down", "once a second"


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (Falcon(), 429, {"title": "Slow down", "description": "once a second"}),
        (ValueError("oh"), 500, {"error": "oh"}),
        (type("Odd", (Exception,), {"status": "fine"})("x"), 500, {"error": "x"}),
    ],
)
def test_what_a_handler_raises_becomes_an_answer(error: Exception, status: int, told: dict[str, str]) -> None:
    answer = handlers.failed(error)
    assert (answer.status, json.loads(answer.body)) == (status, told)


@pytest.mark.parametrize("returned", [(None, "a/b"), (1, "a/b"), (b"", "a/b\r\nSet-Cookie: x"), (b"", "ä"), (b"", 7)])
def test_what_a_handler_must_not_return(returned: tuple[Any, Any]) -> None:
    with pytest.raises(TypeError, match="handler"):
        handlers.answer(*returned)


def test_a_body_that_takes_too_long_is_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "BODY_SECONDS", 0.05)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    body, answer = asyncio.run(application._body({}, receive, 100))
    assert body == b""
    assert answer is not None
    assert answer.status == 408
