"""The model server as a process: how it begins, what it does with many, odd and hostile clients, and how it ends."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from contract_bodies import PNG
from model_process import ModelProcess
from prometheus_client.parser import text_string_to_metric_families
from signs_drawn import NAMES, drawn, encoded

from infra.local.endpoints.serving.application import BODY_LIMIT

LITE = {"SAGEMAKER_EMBEDDED_ENGINE": "litert"}
STOP_SECONDS = 30

Serve = Callable[..., ModelProcess]


def number(answer: httpx.Response) -> int:
    assert answer.status_code == 200, answer.text
    return int(answer.json()["predictions"][0]["class_id"])


def test_nothing_is_answered_before_the_model_is_warm(signs_archive: Path, serve: Serve) -> None:
    server = serve(signs_archive)
    seen: list[int] = []
    while not seen or seen[-1] == 503:
        assert server.process.poll() is None, server.text()
        try:
            seen.append(server.ping())
            if seen[-1] == 503:
                refused = server.post(PNG)
                assert (refused.status_code, refused.headers.get("retry-after")) in {(503, "1"), (200, None)}
        except httpx.TransportError:
            time.sleep(0.01)
    # TensorFlow alone takes longer to import than the first ping.
    assert seen[0] == 503
    assert seen[-1] == 200
    status = server.client.get("/v1/models/model").json()["model_version_status"][0]
    assert (status["version"], status["state"]) == ("1", "AVAILABLE")
    first, *rest = [server.post(PNG).elapsed.total_seconds() for _ in range(30)]
    # An unwarmed graph's first call takes a hundred times as long as the next; twenty leaves room for a busy machine.
    assert first < 20 * np.median(rest)


def test_many_at_once_get_each_its_own_answer(signs_archive: Path, serve: Serve, ask_graph: Callable) -> None:
    server = serve(signs_archive, **LITE).wait()
    pictures = [
        encoded(drawn(label, 70 + label, 20 + 7 * size, 48)) for label in range(len(NAMES)) for size in range(4)
    ]
    half = encoded(drawn(0, 1, 40, 40))[:500]
    expected = ask_graph(pictures)["class_id"].tolist()
    work = [*enumerate(pictures), *[(-1, half)] * 12] * 4
    random.Random(4).shuffle(work)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda job: server.post(job[1], "image/png"), work))
    for (index, _), answer in zip(work, answers, strict=True):
        if index < 0:
            assert answer.status_code == 400
            assert "cannot be decoded" in answer.json()["error"]
        else:
            assert number(answer) == expected[index]
    batches = [entry["batch"] for entry in server.access(len(work))]
    assert len(batches) == len(work)
    assert max(batches) > 1, "requests that come together are answered together"


def test_what_it_tells_of_itself(signs_archive: Path, serve: Serve) -> None:
    server = serve(signs_archive, **LITE).wait()
    for _ in range(3):
        answer = server.post(PNG, "image/png", Accept="text/csv")
        timing = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
        assert float(timing["model"]) > 0
        assert float(timing["queue"]) >= 0
    server.post(b"none", "image/png")
    page = server.client.get("/metrics").text
    found = {sample.name: sample for family in text_string_to_metric_families(page) for sample in family.samples}
    statuses = {
        sample.labels["status"]: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "model_requests_total"
    }
    assert statuses == {"200": 3, "400": 1}
    assert found["model_request_seconds_count"].value == 4
    assert found["model_engine_seconds_count"].value == 3
    assert found["model_ready"].value == 1
    entry, *_, last = server.access(4)
    assert (entry["method"], entry["path"], entry["status"]) == ("POST", "/invocations", 200)
    assert (entry["request_bytes"], entry["content_type"], entry["batch"]) == (len(PNG), "text/csv", 1)
    assert 0 < entry["model_seconds"] < entry["seconds"]
    assert (last["status"], last["batch"]) == (400, 0)


SLOW = """
import time
def input_handler(data, context):
    time.sleep(float(data.read()))
    return '{"instances": [{"b64": "%s"}]}'
def output_handler(response, context):
    return "done", "text/plain"
"""


def test_sigterm_ends_it_when_what_it_accepted_is_answered(with_handler: Callable, serve: Serve) -> None:
    server = serve(with_handler(SLOW % base64.b64encode(PNG).decode()), **LITE).wait()
    # One slow request makes the server use its thread, so that it notices the signal while the next ones run.
    assert server.post(b"0.2").text == "done"
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(server.post, b"2") for _ in range(3)]
        while server.client.get("/ping").status_code == 200 and server.text().count('"path"') < 1:
            time.sleep(0.01)
        time.sleep(1)
        server.process.send_signal(signal.SIGTERM)
        assert [each.result().text for each in asked] == ["done"] * 3
    assert server.process.wait(STOP_SECONDS) == 0
    assert [entry["status"] for entry in server.access(4)] == [200] * 4
    with pytest.raises(httpx.TransportError):
        server.ping()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -9)])
def test_how_it_ended_shows_in_its_exit_code(
    number: signal.Signals, code: int, signs_archive: Path, serve: Serve
) -> None:
    server = serve(signs_archive, **LITE).wait()
    server.process.send_signal(number)
    assert server.process.wait(STOP_SECONDS) == code


def test_a_signal_before_it_is_warm_ends_it_too(signs_archive: Path, serve: Serve) -> None:
    server = serve(signs_archive)
    status = 0
    while status != 503:
        assert server.process.poll() is None, server.text()
        with contextlib.suppress(httpx.TransportError):
            status = server.ping()
        time.sleep(0.01)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(STOP_SECONDS) == 0


DYING = """
import os, sys
def input_handler(data, context):
    {death}
def output_handler(response, context):
    return "", ""
"""


DYING_ALONE = """
import os, sys
def handler(data, context):
    {death}
"""


@pytest.mark.parametrize("handler", [DYING, DYING_ALONE], ids=["pair", "alone"])
@pytest.mark.parametrize(("death", "code"), [("sys.exit(3)", 70), ("os._exit(9)", 9), ("os.abort()", -6)])
def test_a_handler_that_kills_it_leaves_a_clear_exit_code(
    death: str, code: int, handler: str, with_handler: Callable, serve: Serve
) -> None:
    server = serve(with_handler(handler.format(death=death)), **LITE).wait()
    try:
        assert server.post(PNG).status_code == 500
    except httpx.TransportError:
        assert code != 70, "who still can, says something"
    assert server.process.wait(STOP_SECONDS) == code


@pytest.mark.parametrize(
    ("code", "environment", "reason"),
    [
        (None, {"SAGEMAKER_EMBEDDED_ENGINE": "onnx"}, "is 'onnx': choose tensorflow or litert"),
        ("import nothing_like_this", LITE, "cannot be imported: ModuleNotFoundError: No module named 'nothing_like"),
        ("x = 1", LITE, "defines neither handler(data, context) nor input_handler and output_handler"),
    ],
)
def test_an_archive_that_cannot_be_served_ends_it_with_the_reason(
    code: str | None, environment: dict[str, str], reason: str, with_handler: Callable, serve: Serve
) -> None:
    server = serve(with_handler(code), **environment)
    assert server.process.wait(STOP_SECONDS) == 1
    assert reason in server.text().splitlines()[-1]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("1", "holds no model version: expected a folder such as 1/"),
        ("1/assets.extra/model.tflite", "is missing, which the engine litert runs: use the engine tensorflow"),
        ("cut 1/assets.extra/model.tflite", "is no model that LiteRT can load"),
        ("cut 1/assets.extra/tf_serving_warmup_requests", "tf_serving_warmup_requests is cut off after"),
    ],
)
def test_a_damaged_archive_ends_it_with_the_reason(
    damage: str, reason: str, with_handler: Callable, serve: Serve
) -> None:
    folder = with_handler(None)
    cut, _, name = damage.rpartition(" ")
    if cut:
        (folder / name).write_bytes((folder / name).read_bytes()[:100])
    else:
        (folder / name).rename(folder / "elsewhere")
    server = serve(folder, **LITE)
    assert server.process.wait(STOP_SECONDS) == 1
    assert reason in server.text().splitlines()[-1]


WHOLE = """
import base64, json, requests
def handler(data, context):
    body = json.dumps({"instances": [{"b64": base64.b64encode(data.read()).decode()}]})
    answer = requests.post(context.rest_uri, data=body, proxies={"http": None})
    answer.raise_for_status()
    return str(answer.json()["predictions"][0]["class_id"]), "text/plain"
"""


def test_a_handler_may_call_tensorflow_serving_itself(
    with_handler: Callable, serve: Serve, ask_graph: Callable
) -> None:
    server = serve(with_handler(WHOLE), **LITE, NO_PROXY="127.0.0.1").wait()
    pictures = [encoded(drawn(label, 5, 40, 40)) for label in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(server.post, pictures))
    assert [answer.text for answer in answers] == [str(each) for each in ask_graph(pictures)["class_id"]]
    assert server.post(b"none").status_code == 500
    assert {entry["path"] for entry in server.access(18)} == {"/invocations", "/v1/models/model:predict"}


def test_an_archive_without_a_handler_speaks_tensorflow_servings_rest(
    with_handler: Callable, serve: Serve, ask_graph: Callable
) -> None:
    server = serve(with_handler(None), **LITE).wait()
    row = {"b64": base64.b64encode(PNG).decode()}
    truth = ask_graph([PNG])
    for path in ("/invocations", "/v1/models/model:predict", "/v1/models/model/versions/1:predict"):
        answer = server.client.post(path, json={"instances": [row]})
        assert answer.json()["predictions"][0]["class_id"] == truth["class_id"][0]
        columns = server.client.post(path, json={"inputs": {"image_bytes": [row]}}).json()["outputs"]
        assert columns["class_name"] == [truth["class_name"][0].decode()]
    assert server.post(json.dumps(row).encode(), "application/json").status_code == 200
    # A predict call may be longer than an invocation: handlers write JSON, which is longer than what they were sent.
    long = json.dumps({"instances": [row]}).encode().ljust(BODY_LIMIT + 1)
    assert server.client.post("/v1/models/model:predict", content=long).status_code == 200
    assert server.post(long, "application/json").status_code == 413
    refused = server.post(PNG, "image/png")
    assert (refused.status_code, refused.json()["title"]) == (415, "Unsupported Media Type: image/png")


def raw(port: int, *pieces: bytes, half_close: bool = False, read: bool = True, answers: int = 0) -> bytes:
    """Send bytes as they are, and return what comes back.

    That is until the other side closes or is silent for a while; first so many answers are waited for longer.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while read:
                connection.settimeout(30 if received.count(b"HTTP/1.1 ") < answers else 0.3)
                if not (piece := connection.recv(65536)):
                    break
                received += piece
        except OSError:
            pass
        return received if read else b""


HEAD = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


def test_odd_bytes_and_rude_clients_harm_nobody(signs_archive: Path, serve: Serve, ask_graph: Callable) -> None:
    server = serve(signs_archive, **LITE).wait()
    expected = ask_graph([PNG])["class_id"][0]
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(PNG) + PNG
    chance = random.Random(9)
    rude: list[tuple[bytes, ...]] = [
        (b"",),
        (b"\x00" * 100,),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),),
        (b"GET\r\n\r\n",),
        (b"POST /invocations HTTP/9.9\r\n\r\n",),
        (HEAD + b"Content-Length: nonsense\r\n\r\nabc",),
        (HEAD + b"Content-Length: -5\r\n\r\nabc",),
        (HEAD + b"Content-Length: 99999999999999999999\r\n\r\nabc",),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nabcde",),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nabc",),
        (HEAD + b"X: " + b"y" * 200_000 + b"\r\n\r\n",),
        (HEAD + b"Accept: \xff\xfe\r\nContent-Length: 0\r\n\r\n",),
        (HEAD + b"Content-Length: 1000\r\n\r\nabc",),
        (whole[:-1],),
        (whole[: len(whole) // 2],),
        (b"POST /%00%ff/../invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",),
        *((chance.randbytes(chance.randint(1, 3000)),) for _ in range(40)),
        *((HEAD + b"Content-Length: 400\r\n\r\n" + PNG[:8] + chance.randbytes(392),) for _ in range(20)),
    ]
    for pieces in rude:
        for read in (True, False):
            raw(server.port, *pieces, half_close=read, read=read)
    assert raw(server.port, *[bytes([byte]) for byte in whole[:300]], whole[300:], answers=1).startswith(
        b"HTTP/1.1 200"
    )
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(PNG), PNG)
    assert raw(server.port, chunked, answers=1).startswith(b"HTTP/1.1 200")
    long = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"600001\r\n" + bytes(0x600001) + b"\r\n0\r\n\r\n"
    assert raw(server.port, long, answers=1).startswith(b"HTTP/1.1 413")
    twice = raw(server.port, whole + whole, answers=2)
    assert twice.count(b"HTTP/1.1 200") == 2, "requests may follow each other without waiting"
    assert number(server.post(PNG, "image/png")) == expected
    assert server.process.poll() is None
    assert "Traceback" not in server.text()
    statuses = {entry["status"] for entry in server.access(1)}
    assert statuses == {200, 400, 404, 406, 413, 499}


def test_a_connection_may_be_idle_for_longer_than_who_asks_keeps_one(signs_archive: Path, serve: Serve) -> None:
    server = serve(signs_archive, **LITE).wait()
    patience = httpx.Limits().keepalive_expiry
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for pause in (patience + 1, 0):
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(pause)


def test_a_slow_client_does_not_hold_up_the_others(signs_archive: Path, serve: Serve) -> None:
    server = serve(signs_archive, **LITE).wait()
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    for connection in slow:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(PNG) + PNG[:10])
    assert server.post(PNG, "image/png").elapsed.total_seconds() < 5
    done: list[bytes] = []

    def finish(connection: socket.socket) -> None:
        connection.sendall(PNG[10:])
        done.append(connection.recv(12))

    threads = [threading.Thread(target=finish, args=(connection,)) for connection in slow[:10]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert done == [b"HTTP/1.1 200"] * 10
    # Those that never finish do not keep the server from ending.
    for connection in slow:
        connection.close()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(STOP_SECONDS) == 0
