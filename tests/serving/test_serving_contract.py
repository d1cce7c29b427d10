"""The contract's table in docs/serving.md, row by row, against the real model server with a real archive."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from contract_bodies import BODIES, Body
from model_process import ROOT, ModelProcess
from signs_drawn import NAMES

from infra.local.endpoints.serving import rest
from infra.local.endpoints.serving.engines import DEFAULT_SIGNATURE, BadRequest, open_engine
from infra.local.endpoints.serving.handlers import Context
from serving import inference

TOLERANCE = {"tensorflow": 1e-5, "litert": 1e-3}
"""How far a probability may be from the graph's; docs/serving.md says the same."""

FORMS = {"JSON": "application/json", "lines": "application/jsonlines", "CSV": "text/csv", "npy": "application/x-npy"}


@dataclass(frozen=True)
class Row:
    method: str
    path: str
    content_type: str
    accept: str
    body: str
    status: int
    answer: str


def table() -> Iterator[Row]:
    text = (ROOT / "docs" / "serving.md").read_text()
    for line in re.findall(r"^\| ((?:GET|POST|PUT|DELETE).*) \|$", text, re.MULTILINE):
        cells = [cell.strip().strip("`").replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)]
        request, content_type, accept, body, status, answer = cells
        method, _, path = request.partition(" ")
        yield Row(method, path or "/invocations", content_type, accept, body, int(status), answer)


ROWS = list(table())


@pytest.fixture(scope="module", params=["tensorflow", "litert"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(engine: str, signs_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelProcess]:
    log = tmp_path_factory.mktemp(engine) / "server.log"
    process = ModelProcess(signs_archive, log, {"SAGEMAKER_EMBEDDED_ENGINE": engine})
    yield process.wait()
    process.kill()


def test_the_table_is_long_enough_and_no_body_is_left_over() -> None:
    assert len(ROWS) >= 40
    assert len(set(ROWS)) == len(ROWS)
    assert {row.body for row in ROWS} == set(BODIES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.status}-{row.content_type}-{row.body}")
def test_a_row_of_the_contract(row: Row, server: ModelProcess, engine: str, ask_graph: Callable) -> None:
    body = BODIES[row.body]()
    request = server.client.build_request(row.method, row.path, content=body.content)
    # The client's own defaults are no part of the contract.
    for name, value in (("content-type", row.content_type), ("accept", row.accept)):
        request.headers.pop(name, None)
        if value:
            request.headers[name] = value
    answer = server.client.send(request)
    assert answer.status_code == row.status, answer.text
    if re.fullmatch(r"(JSON|lines|CSV|npy), \d+", row.answer):
        check(answer, row.answer, body, TOLERANCE[engine], ask_graph)
    else:
        told = " ".join(map(str, json.loads(answer.content).values())) if answer.content else ""
        assert row.answer in told
        assert bool(told) == (row.status != 200), "a refusal says why"


def check(answer: httpx.Response, expected: str, body: Body, tolerance: float, ask_graph: Callable) -> None:
    """Hold an answer against what the graph itself says of the same pictures."""
    form, _, count = expected.partition(", ")
    assert answer.headers["content-type"] == FORMS[form]
    assert len(body.pictures) == int(count)
    truth = ask_graph(list(body.pictures))
    if form == "npy":
        probabilities = np.load(io.BytesIO(answer.content), allow_pickle=False)
        assert (probabilities.dtype, probabilities.shape) == (np.float32, (int(count), len(NAMES)))
        np.testing.assert_allclose(probabilities, truth["probabilities"], atol=tolerance)
        return
    predictions = read(form, answer.content)
    assert len(predictions) == int(count)
    for index, top in enumerate(predictions):
        assert [name for _, name, _ in top] == [NAMES[number] for number, _, _ in top]
        assert top[0][0] == truth["class_id"][index]
        assert [p for _, _, p in top] == sorted((p for _, _, p in top), reverse=True)
        given = [truth["probabilities"][index][number] for number, _, _ in top]
        np.testing.assert_allclose([p for _, _, p in top], given, atol=tolerance)


def read(form: str, content: bytes) -> list[list[tuple[int, str, float]]]:
    """Read the ranks of every prediction."""
    if form == "CSV":
        rows = list(csv.reader(io.StringIO(content.decode())))
        return [[(int(row[at]), row[at + 1], float(row[at + 2])) for at in range(0, len(row), 3)] for row in rows]
    lines = content.splitlines() if form == "lines" else []
    predictions = [json.loads(line) for line in lines] or json.loads(content)["predictions"]
    for prediction in predictions:
        assert {key: prediction[key] for key in prediction if key != "top"} == prediction["top"][0]
    return [[tuple(rank.values()) for rank in prediction["top"]] for prediction in predictions]


def test_the_front_end_of_2_19_gives_the_same_answers_and_makes_500_of_refusals(signs_archive: Path) -> None:
    """That image asks the output handler whatever TensorFlow Serving said, and knows no HTTPError.

    Source: sagemaker-tensorflow-serving-container, python_service.py of the images up to 2.19.
    """
    engine = open_engine(signs_archive / "1", "litert")

    def front(row: Row) -> int:
        context = Context(*[None] * 7, row.content_type or None, row.accept or None, None, None)
        try:
            request = inference.input_handler(io.BytesIO(BODIES[row.body]().content), context)
            try:
                asked = rest.parse(request.encode(), engine.signatures)
                content = rest.body(engine.run(DEFAULT_SIGNATURE, asked.inputs), asked.by_rows)
                response = SimpleNamespace(status_code=200, content=content, reason="OK")
            except BadRequest as error:
                response = SimpleNamespace(status_code=400, content=rest.error(str(error)), reason="Bad Request")
            content, content_type = inference.output_handler(response, context)
        except Exception:  # noqa: BLE001  # as blind as the image
            return 500
        assert isinstance(content, bytes)
        assert content_type in FORMS.values()
        return 200

    # What is too long never reaches the container.
    rows = [row for row in ROWS if (row.method, row.path) == ("POST", "/invocations") and row.status != 413]
    assert [front(row) for row in rows] == [200 if row.status == 200 else 500 for row in rows]
