"""The server's process from outside: one a folder, loopback only, and nothing of it left when it has gone."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from embedded_cloud import step, wait_until
from processes import alive, await_end

from infra.local import control
from infra.local.control import RunningServer, ServerError


def status(url: str, **headers: str) -> int:
    request = urllib.request.Request(url, headers={key.replace("_", "-"): value for key, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1234", "[::1]:80", "LOCALHOST"])
def test_this_machine_is_answered(embedded: RunningServer, host: str) -> None:
    assert status(f"{embedded.url}/_local/health", Host=host) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Host": "bucket.s3.amazonaws.com"},
        # A page on the web that calls this machine by its right name gives itself away by its origin.
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_other_hosts_and_pages_are_not(embedded: RunningServer, headers: dict[str, str]) -> None:
    assert status(f"{embedded.url}/_local/health", **headers) == 403
    assert status(f"{embedded.url}/", X_Amz_Target="SageMaker.ListPipelines", **headers) == 403


def test_an_answer_comes_in_one_piece(embedded: RunningServer) -> None:
    # A client of the SDK reads a head without its body, which a dying server left, as an answer without content.
    host, port = embedded.url.removeprefix("http://").split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"GET /_local/health HTTP/1.0\r\nHost: localhost\r\n\r\n")
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            assert int(head.lower().rpartition(b"content-length:")[2].split()[0]) == len(body) > 0


def test_a_client_that_goes_away_before_its_answer_is_no_error(embedded: RunningServer) -> None:
    host, port = embedded.url.removeprefix("http://").split(":")
    before = (embedded.state / "server.log").read_text().count("Traceback")
    for _ in range(20):
        connection = socket.create_connection((host, int(port)), timeout=10)
        connection.sendall(b"GET /_local/health HTTP/1.0\r\nHost: localhost\r\n\r\n")
        # Closed so, a connection is reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert status(f"{embedded.url}/_local/health") == 200
    assert (embedded.state / "server.log").read_text().count("Traceback") == before


def test_who_waits_for_leave_to_send_a_body_gets_it_at_once(embedded: RunningServer) -> None:
    # botocore asks for it with each object, and waits a second in vain before it sends the body all the same.
    host, port = embedded.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = "PUT /nobody/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(b"body")
        assert b"NoSuchBucket" in connection.recv(65536)


def test_a_page_of_this_machine_may_call(embedded: RunningServer) -> None:
    assert status(f"{embedded.url}/_local/health", Origin="http://localhost:8888") == 200


@pytest.mark.parametrize(
    ("target", "body", "code"),
    [
        ("SageMaker.MakeCoffee", b"{}", "UnknownOperationException"),
        ("SageMaker.ListPipelines", b"{", "SerializationException"),
        ("SageMaker.ListPipelines", b"[]", "ValidationException"),
        ("SageMaker.ListHubs", b"{}", "UnsupportedOperation"),
    ],
)
def test_malformed_calls_get_an_aws_answer(embedded: RunningServer, target: str, body: bytes, code: str) -> None:
    request = urllib.request.Request(f"{embedded.url}/", body, {"X-Amz-Target": target}, method="POST")
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=10)
    assert refusal.value.code == 400
    assert f'"__type": "{code}"' in refusal.value.read().decode()


def test_a_folder_has_one_server(embedded: RunningServer) -> None:
    assert control.start(embedded.state, port=0, region="eu-central-1") == embedded
    second = subprocess.run(
        [sys.executable, "-m", "infra.local.server", "--state", str(embedded.state)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert second.stderr == f"another embedded SageMaker already uses {embedded.state}\n"
    assert control.find(embedded.state) == embedded


def test_a_taken_port_is_named_with_a_way_out(embedded: RunningServer, tmp_path: Path) -> None:
    port = int(embedded.url.rpartition(":")[2])
    with pytest.raises(ServerError, match=f"^port {port} is in use by another program; choose another with [^\n]*$"):
        control.start(tmp_path / "state", port=port, region="eu-central-1")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match=f"^cannot write to {tmp_path}/file/state: [^\n]*$"):
        control.start(tmp_path / "file" / "state", port=0, region="eu-central-1")


@pytest.mark.parametrize("theirs", ["jobs/mine.txt", "endpoints/mine.txt", "objects/mine.txt"])
def test_somebody_elses_folder_is_refused_and_left_as_it_is(tmp_path: Path, theirs: str) -> None:
    file = tmp_path / theirs
    file.parent.mkdir()
    file.write_text("mine")
    with pytest.raises(ServerError, match="not by an embedded SageMaker: name an empty folder"):
        control.start(tmp_path, port=0, region="eu-central-1")
    assert file.read_text() == "mine"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningServer]:
    """A server that a test may end as it likes."""
    running = control.start(tmp_path / "state", port=0, region="eu-west-1")
    yield running
    control.stop(running.state)


def client(server: RunningServer, service: str) -> Any:
    return boto3.Session("local", "local", region_name=server.region).client(service, endpoint_url=server.url)


def start_job(server: RunningServer, folder: Path) -> int:
    """Start a job of ten minutes and return its process."""
    script = f"trap 'echo stopped; exit 1' TERM; echo $$ > {folder}/pid; sleep 600 & wait"
    arguments = step("job", script)["Arguments"]
    client(server, "sagemaker").create_processing_job(ProcessingJobName="job", **arguments)
    return int(wait_until(lambda: (folder / "pid").exists() and (folder / "pid").read_text(), bool))


def test_stopping_the_server_ends_its_jobs_first(own: RunningServer, tmp_path: Path) -> None:
    assert control.find(own.state) == own
    assert own.region == "eu-west-1"
    pid = start_job(own, tmp_path)
    assert control.stop(own.state)
    assert not alive(pid)
    assert control.find(own.state) is None
    assert not control.stop(own.state)
    assert "Traceback" not in (own.state / "server.log").read_text()


def test_a_killed_server_takes_its_jobs_along_and_is_not_found(own: RunningServer, tmp_path: Path) -> None:
    pid = start_job(own, tmp_path)
    os.kill(own.pid, signal.SIGKILL)
    wait_until(lambda: control.find(own.state), lambda found: found is None)
    again = control.start(own.state, port=0, region="eu-west-1")
    assert again.pid != own.pid
    # What watches over it is a process of its own, and may have to wait for its turn on a crowded machine.
    await_end(pid)
    described = client(again, "sagemaker").describe_processing_job(ProcessingJobName="job")
    assert described["ProcessingJobStatus"] == "Failed"
    assert "ended while this job ran" in described["FailureReason"]
