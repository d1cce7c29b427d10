"""TensorFlow Serving's REST rules, and calls that are put together, on an engine that records what it is given."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from infra.local.endpoints.serving import rest
from infra.local.endpoints.serving.batching import predict_all
from infra.local.endpoints.serving.engines import Array, BadRequest, Signature, Spec

FLOAT, TEXT = np.dtype(np.float32), np.dtype(object)
DOUBLE = Signature({"x": Spec(FLOAT, (None,))}, {"y": Spec(FLOAT, (None,))})
SIGNATURES = {
    "serving_default": DOUBLE,
    "echo": Signature(
        {"a": Spec(FLOAT, (None,)), "b": Spec(TEXT, (None,))}, {"a": Spec(FLOAT, (None,)), "b": Spec(TEXT, (None,))}
    ),
    "bytes": Signature({"b": Spec(TEXT, (None,))}, {"b_bytes": Spec(TEXT, (None,))}),
    "pixels": Signature({"p": Spec(np.dtype(np.uint8), (None, 2, 2))}, {"sum": Spec(np.dtype(np.int64), (None,))}),
    "flags": Signature({"f": Spec(np.dtype(bool), None)}, {"f": Spec(np.dtype(bool), None)}),
    "whole": Signature({"x": Spec(FLOAT, (None,))}, {"mean": Spec(FLOAT, ())}),
}


class Recorder:
    """An engine of the signatures above; 13 it refuses, 66 breaks it."""

    signatures: Mapping[str, Signature] = SIGNATURES

    def __init__(self) -> None:
        self.rows: list[int] = []

    def run(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        first = next(iter(inputs.values()))
        self.rows.append(len(first) if first.ndim else 1)
        if signature == "serving_default":
            if 13 in first:
                raise BadRequest("unlucky")
            if 66 in first:
                raise RuntimeError("broken")
            return {"y": 2 * first}
        if signature == "pixels":
            return {"sum": first.astype(np.int64).sum(axis=(1, 2))}
        if signature == "whole":
            return {"mean": first.mean()}
        return {"b_bytes": first} if signature == "bytes" else dict(inputs)


def ask(value: Any) -> Any:
    """Send a body through the rules and the engine."""
    call = rest.parse(value if isinstance(value, bytes) else json.dumps(value).encode(), SIGNATURES)
    return json.loads(rest.body(Recorder().run(call.signature, call.inputs), call.by_rows))


@pytest.mark.parametrize(
    ("request_body", "answer"),
    [
        ({"instances": [1.5, 2]}, {"predictions": [3.0, 4.0]}),
        ({"instances": [{"x": 1}]}, {"predictions": [2.0]}),
        ({"inputs": [1.5, 2]}, {"outputs": [3.0, 4.0]}),
        ({"inputs": {"x": [1]}}, {"outputs": [2.0]}),
        (
            {"signature_name": "echo", "instances": [{"a": 1, "b": {"b64": "aGk="}}, {"b": "yo", "a": 2}]},
            {"predictions": [{"a": 1.0, "b": "hi"}, {"a": 2.0, "b": "yo"}]},
        ),
        (
            {"signature_name": "echo", "inputs": {"a": [1, 2], "b": ["hi", {"b64": "eW8="}]}},
            {"outputs": {"a": [1.0, 2.0], "b": ["hi", "yo"]}},
        ),
        ({"signature_name": "bytes", "instances": ["hi"]}, {"predictions": [{"b64": "aGk="}]}),
        ({"signature_name": "pixels", "instances": [[[1, 2], [3, 4]]]}, {"predictions": [10]}),
        ({"signature_name": "flags", "inputs": True}, {"outputs": True}),
        ({"signature_name": "whole", "inputs": [1, 3]}, {"outputs": 2.0}),
    ],
)
def test_rows_and_columns_in_and_out(request_body: Any, answer: Any) -> None:
    assert ask(request_body) == answer


@pytest.mark.parametrize(
    ("request_body", "message"),
    [
        (b"no json", "JSON Parse error"),
        (b"\xff\xfe", "JSON Parse error"),
        (b"[" * 100_000, "JSON Parse error"),
        ([1], "Expected a JSON object"),
        ({}, "found 0"),
        ({"inputs": [1], "instances": [1]}, "found 2"),
        ({"instances": []}, "non-empty list"),
        ({"instances": {"x": 1}}, "non-empty list"),
        ({"instances": ["word"]}, "do not fit"),
        ({"instances": [True]}, "do not fit"),
        ({"instances": [None]}, "do not fit"),
        ({"instances": [{"b64": "aGk="}]}, "do not fit"),
        ({"instances": [1, [2, 3]]}, "do not fit together"),
        ({"instances": [[1], [2]]}, r"shape \[2, 1\], which does not fit the model's \[-1\]"),
        ({"inputs": 1}, r"shape \[\]"),
        ({"instances": [1], "signature_name": "none"}, 'signature name: "none" not found'),
        ({"instances": [1], "signature_name": ["none"]}, "not found"),
        ({"instances": [{"a": 1}], "signature_name": "echo"}, "must name the inputs a, b"),
        ({"inputs": [1], "signature_name": "echo"}, "must name the inputs a, b"),
        ({"instances": [{"b64": "not base64!"}], "signature_name": "bytes"}, "not base64"),
        ({"instances": [7], "signature_name": "bytes"}, "type int"),
        ({"instances": [["a"], ["b", "c"]], "signature_name": "bytes"}, "do not fit together"),
        ({"instances": [["a"], "b"], "signature_name": "bytes"}, "do not fit together"),
        ({"instances": [[[0.5, 0], [0, 0]]], "signature_name": "pixels"}, "which is uint8"),
        ({"instances": [[[256, 0], [0, 0]]], "signature_name": "pixels"}, "out of the range of uint8"),
        ({"instances": [[[-1, 0], [0, 0]]], "signature_name": "pixels"}, "out of the range of uint8"),
        ({"instances": [[[10**30, 0], [0, 0]]], "signature_name": "pixels"}, "which is uint8"),
        ({"inputs": 1, "signature_name": "flags"}, "which is bool"),
        ({"instances": [1], "signature_name": "whole"}, "do not have a row for each instance"),
    ],
)
def test_what_does_not_fit_is_refused_and_says_why(request_body: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        ask(request_body)


def test_numbers_that_are_none_are_written_as_tensorflow_serving_does() -> None:
    body = rest.body({"y": np.array([np.nan, np.inf, -np.inf], np.float32)}, by_rows=True)
    assert body == b'{"predictions": [NaN, Infinity, -Infinity]}'


def calls(*bodies: Any) -> list[rest.Predict]:
    return [rest.parse(json.dumps(body).encode(), SIGNATURES) for body in bodies]


def test_calls_that_fit_become_one_and_each_gets_its_own_rows() -> None:
    engine = Recorder()
    asked = calls({"instances": [1, 2]}, {"inputs": [3]}, {"signature_name": "bytes", "inputs": ["a"]}, {"inputs": [4]})
    outcomes = predict_all(engine, asked, most_rows=64)
    assert engine.rows == [4, 1]
    assert [each.batch for each in outcomes] == [3, 3, 1, 3]
    answers = [outcome for outcome, *_ in outcomes if not isinstance(outcome, Exception)]
    assert [next(iter(answer.values())).tolist() for answer in answers] == [[2, 4], [6], [b"a"], [8]]


def test_no_call_holds_more_rows_than_allowed() -> None:
    engine = Recorder()
    sizes = [random.Random(5).randint(1, 9) for _ in range(60)]
    outcomes = predict_all(engine, calls(*[{"inputs": [size] * size} for size in sizes]), most_rows=10)
    assert sum(engine.rows) == sum(sizes)
    assert max(engine.rows) <= 10
    assert len(engine.rows) < len(sizes) * 0.9
    for size, (outcome, *_) in zip(sizes, outcomes, strict=True):
        assert not isinstance(outcome, Exception)
        assert outcome["y"].tolist() == [2 * size] * size


def test_one_row_a_call_puts_nothing_together() -> None:
    engine = Recorder()
    assert [each.batch for each in predict_all(engine, calls(*[{"inputs": [1]}] * 3), most_rows=1)] == [1, 1, 1]


@pytest.mark.parametrize(("number", "kind"), [(13, BadRequest), (66, RuntimeError)])
def test_a_bad_neighbour_spoils_nobody_elses_answer(number: int, kind: type[Exception]) -> None:
    outcomes = predict_all(Recorder(), calls({"inputs": [1]}, {"inputs": [number]}, {"inputs": [2]}), most_rows=64)
    first, second, third = (outcome for outcome, *_ in outcomes)
    assert isinstance(second, kind)
    assert not isinstance(first, Exception)
    assert not isinstance(third, Exception)
    assert (first["y"].tolist(), third["y"].tolist()) == ([2], [4])


def test_a_signature_without_rows_is_asked_one_by_one() -> None:
    engine = Recorder()
    outcomes = predict_all(engine, calls(*[{"signature_name": "whole", "inputs": [1, 3]}] * 2), most_rows=64)
    assert engine.rows == [2, 2]
    assert [outcome["mean"] for outcome, *_ in outcomes if not isinstance(outcome, Exception)] == [2, 2]


def test_an_answer_with_fewer_rows_than_were_asked_is_asked_for_again_alone() -> None:
    class Short(Recorder):
        def run(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
            return {name: value[:1] for name, value in super().run(signature, inputs).items()}

    outcomes = predict_all(Short(), calls({"inputs": [1]}, {"inputs": [2]}), most_rows=64)
    assert [each.batch for each in outcomes] == [1, 1]
    assert [outcome["y"].tolist() for outcome, *_ in outcomes if not isinstance(outcome, Exception)] == [[2], [4]]
