"""A model server of several processes: they are ready together, count together, and end together."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from model_process import ModelProcess
from processes import alive, await_end
from prometheus_client.parser import text_string_to_metric_families
from signs_drawn import NAMES, drawn, encoded

TWO = {"SAGEMAKER_EMBEDDED_ENGINE": "litert", "SAGEMAKER_GUNICORN_WORKERS": "2"}
STOP_SECONDS = 30

Serve = Callable[..., ModelProcess]

# Whichever process loads it second takes its time. It tells its number as the answer, after a moment for the other one.
TELLING = """
import os, time
from pathlib import Path
MARK = Path({folder!r})
try:
    os.close(os.open(MARK / "first", os.O_CREAT | os.O_EXCL))
except FileExistsError:
    time.sleep(1.5)
    (MARK / "second").touch()
def handler(data, context):
    {act}
    return str(os.getpid()), "text/plain"
"""


def asking(server: ModelProcess) -> httpx.Client:
    """A client with a connection of its own, so that either process may be the one that is asked."""
    # A default context of TLS, which nobody needs here, takes longer to make than to ask.
    return httpx.Client(base_url=server.client.base_url, timeout=60, verify=False)


def processes(server: ModelProcess) -> set[int]:
    """Ask over new connections until both processes have answered, and return their numbers."""
    found: set[int] = set()
    deadline = time.monotonic() + STOP_SECONDS
    while len(found) < 2 and time.monotonic() < deadline:
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda _: asking(server).post("/invocations"), range(8))
            found |= {int(answer.text) for answer in answers}
    return found


def until_refused(server: ModelProcess) -> None:
    """Ask over new connections until none is taken any more."""
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        try:
            asking(server).get("/ping")
        except httpx.ConnectError:
            return
        except httpx.TransportError:
            # It was in the queue of a socket that closed.
            pass
        time.sleep(0.05)


def test_it_is_ready_when_all_of_them_are(with_handler: Callable, serve: Serve, tmp_path: Path) -> None:
    archive = with_handler(TELLING.format(folder=str(tmp_path), act="time.sleep(0.05)"))
    server = serve(archive, **TWO)
    seen = set()
    while 200 not in seen:
        assert server.process.poll() is None, server.text()
        try:
            seen.add(asking(server).get("/ping").status_code)
        except httpx.TransportError:
            time.sleep(0.01)
    assert (tmp_path / "second").exists(), "the first one was ready before"
    assert seen == {503, 200}
    assert len(processes(server)) == 2
    assert server.process.pid not in processes(server)


def test_all_answer_alike_and_count_together(signs_archive: Path, serve: Serve, ask_graph: Callable) -> None:
    server = serve(signs_archive, **TWO).wait()
    pictures = [encoded(drawn(label, 70 + label, 40, 48)) for label in range(len(NAMES))] * 6
    expected = ask_graph(pictures)["class_id"].tolist()

    def ask(picture: bytes) -> int:
        answer = asking(server).post("/invocations", content=picture, headers={"Content-Type": "image/png"})
        return int(answer.json()["predictions"][0]["class_id"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, pictures)) == expected
    assert [entry["status"] for entry in server.access(len(pictures))] == [200] * len(pictures)
    for _ in range(8):
        page = asking(server).get("/metrics").text
        told = {sample.name: sample for family in text_string_to_metric_families(page) for sample in family.samples}
        assert told["model_requests_total"].labels == {"status": "200"}
        assert told["model_requests_total"].value == len(pictures)
        assert told["model_request_seconds_count"].value == len(pictures)
        assert (told["model_ready"].labels, told["model_ready"].value) == ({}, 1)


def test_sigterm_ends_all_when_what_they_accepted_is_answered(
    with_handler: Callable, serve: Serve, tmp_path: Path
) -> None:
    wait = "waits = data.read()\n    while waits and not (MARK / 'go').exists(): time.sleep(0.02)"
    server = serve(with_handler(TELLING.format(folder=str(tmp_path), act=wait)), **TWO).wait()
    pids = processes(server)
    clients = [asking(server) for _ in range(8)]
    for client in clients:
        client.get("/ping")  # So that its connection is accepted before.
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(client.post, "/invocations", content=b"wait") for client in clients]
        time.sleep(1)
        server.process.send_signal(signal.SIGTERM)
        until_refused(server)
        assert not any(each.done() for each in asked), "who comes meanwhile is refused at once, and does not wait"
        (tmp_path / "go").touch()
        assert {int(each.result().text) for each in asked} <= pids
    assert server.process.wait(STOP_SECONDS) == 0
    assert not any(map(alive, pids))


@pytest.mark.parametrize(
    ("act", "code", "reason"),
    [
        ("os.kill(os.getpid(), 9)", 70, "a process that served the model was killed by signal 9"),
        ("os._exit(9)", 9, ""),
        ("raise SystemExit(3)", 70, "the model's thread died"),
    ],
)
def test_all_end_with_one_of_them(
    act: str, code: int, reason: str, with_handler: Callable, serve: Serve, tmp_path: Path
) -> None:
    archive = with_handler(TELLING.format(folder=str(tmp_path), act=f"if data.read():\n        {act}"))
    server = serve(archive, **TWO).wait()
    pids = processes(server)
    try:
        assert server.post(b"end").status_code == 500
    except httpx.TransportError:
        assert "exit" in act or "kill" in act
    assert server.process.wait(STOP_SECONDS) == code
    assert reason in server.text()
    assert not any(map(alive, pids))


def test_no_process_outlives_the_one_that_started_it(with_handler: Callable, serve: Serve, tmp_path: Path) -> None:
    server = serve(with_handler(TELLING.format(folder=str(tmp_path), act="pass")), **TWO).wait()
    pids = processes(server)
    assert len(pids) == 2
    os.kill(server.process.pid, signal.SIGKILL)
    await_end(*pids, seconds=STOP_SECONDS)


def test_an_archive_that_cannot_be_served_ends_all_with_the_reason(with_handler: Callable, serve: Serve) -> None:
    server = serve(with_handler("x = 1"), **TWO)
    assert server.process.wait(STOP_SECONDS) == 1
    assert re.search("defines neither handler.data, context. nor", server.text().splitlines()[-1])


@pytest.mark.parametrize("number", ["0", "-1", "two", "1.5", ""])
def test_a_number_of_processes_that_is_none_is_refused(number: str, signs_archive: Path, serve: Serve) -> None:
    server = serve(signs_archive, **{**TWO, "SAGEMAKER_GUNICORN_WORKERS": number})
    assert server.process.wait(STOP_SECONDS) == 1
    assert f"is {number!r}: expected a whole number from 1" in server.text().splitlines()[-1]
