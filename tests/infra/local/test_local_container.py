from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from embedded_cloud import wait_until
from processes import await_end

from infra.local.jobs.container import (
    SWITCH,
    Container,
    JobLog,
    NamespaceContainer,
    addresses,
    chosen,
    namespaces_refused,
    unresolved,
)
from infra.local.processes import inherited


class Logs:
    """A CloudWatch Logs client that keeps what it is sent."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def create_log_group(self, **_: Any) -> None: ...

    def create_log_stream(self, **_: Any) -> None: ...

    def put_log_events(self, logEvents: list[dict[str, Any]], **_: Any) -> None:
        self.events += logEvents


def skip_without_namespaces() -> None:
    if namespaces_refused():
        pytest.skip(f"this machine gives no mount namespaces: {namespaces_refused()}")


@pytest.fixture(params=[Container, NamespaceContainer])
def container(request: pytest.FixtureRequest, tmp_path: Path) -> Container:
    """An instance of either kind: what a process is promised, both must keep."""
    if request.param is NamespaceContainer:
        skip_without_namespaces()
    made: Container = request.param(tmp_path)
    return made


@pytest.fixture
def rewriting(tmp_path: Path) -> Container:
    return Container(tmp_path)


def log(logs: Logs) -> JobLog:
    return JobLog(logs, "group", "stream", lambda _: None)


@pytest.mark.parametrize(
    "text", ["/opt/ml", "--dir=/opt/ml/model", "a:/opt/ml:/opt/ml/x", "'/opt/ml/input'", "file:///opt/ml"]
)
def test_the_prefix_is_rewritten(rewriting: Container, text: str) -> None:
    assert rewriting.rewrite(text) == text.replace("/opt/ml", str(rewriting.opt_ml))


@pytest.mark.parametrize(
    "text", ["/opt/mlflow", "/opt/ml-x", "s3://bucket/opt/ml/x", "/home/opt/ml", "./opt/ml", "opt/ml"]
)
def test_what_only_looks_like_it_stays(rewriting: Container, text: str) -> None:
    assert rewriting.rewrite(text) == text


def test_paths_lie_below_the_folder(container: Container) -> None:
    assert container.path("/opt/ml/model") == container.opt_ml / "model"
    for outside in ("/etc/passwd", "/opt/ml/../../etc", "model", "/opt/mlx"):
        with pytest.raises(ValueError, match="outside /opt/ml"):
            container.path(outside)


def test_text_files_are_rewritten_and_others_left(rewriting: Container, tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("cd /opt/ml/code")
    (tmp_path / "b.bin").write_bytes(b"\xff/opt/ml")
    rewriting.rewrite_files(tmp_path)
    assert (tmp_path / "a.sh").read_text() == f"cd {rewriting.opt_ml}/code"
    assert (tmp_path / "b.bin").read_bytes() == b"\xff/opt/ml"


def test_a_process_sees_its_folder_and_its_lines_are_kept(container: Container) -> None:
    logs = Logs()
    script = "pwd; echo $WHERE; echo; echo err >&2; echo hello > /opt/ml/said; exit 3"
    assert container.run(["bash", "-c", script], {"WHERE": "/opt/ml/x"}, log(logs), 30) == 3
    place = container.rewrite("/opt/ml")
    assert [event["message"] for event in logs.events] == [place, f"{place}/x", " ", "err"]
    assert (container.opt_ml / "said").read_text() == "hello\n"


def test_the_callers_aws_and_python_variables_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("PYTHONPATH", "/x")
    monkeypatch.setenv("LANG", "C.UTF-8")
    assert {"AWS_PROFILE", "PYTHONPATH"}.isdisjoint(inherited())
    assert inherited()["LANG"] == "C.UTF-8"


def test_what_a_script_leaves_in_the_background_ends_with_it(container: Container) -> None:
    logs = Logs()
    # The reader of the log waits for the pipe's last holder, so a background process that lived on would be noticed.
    assert container.run(["bash", "-c", "sleep 100 & echo $!"], {}, log(logs), 30) == 0
    await_end(int(logs.events[0]["message"]))


def test_too_long_is_an_error_and_ends_everything(container: Container) -> None:
    logs = Logs()
    with pytest.raises(TimeoutError):
        container.run(["bash", "-c", "echo $$; sleep 100"], {}, log(logs), 3)
    await_end(int(logs.events[0]["message"]))


def test_a_script_that_ignores_sigterm_is_killed_after_its_grace(container: Container) -> None:
    class Stopping(Logs):
        def put_log_events(self, logEvents: list[dict[str, Any]], **_: Any) -> None:
            super().put_log_events(logEvents)
            threading.Thread(target=container.stop, args=(0.2,)).start()

    assert (
        container.run(["bash", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], {}, log(Stopping()), 60) == -9
    )


def test_nothing_starts_after_a_stop(container: Container) -> None:
    container.stop(grace_seconds=1)
    assert container.run(["bash", "-c", "touch /opt/ml/ran"], {}, log(Logs()), 30) == -15
    assert not (container.opt_ml / "ran").exists()


def test_in_a_namespace_the_path_is_right_even_where_nobody_rewrites_it(tmp_path: Path) -> None:
    skip_without_namespaces()
    before = sorted(Path("/opt").iterdir())
    logs, container = Logs(), NamespaceContainer(tmp_path)
    script = "import os; open('/opt/' + 'ml/made', 'w').write(str(os.getuid())); print(*sorted(os.listdir('/opt')))"
    assert container.run([sys.executable, "-c", script], {}, log(logs), 30) == 0
    # A container's process is root, and what the machine keeps in /opt beside it stays in its place.
    assert (container.opt_ml / "made").read_text() == "0"
    assert set(logs.events[0]["message"].split()) >= {path.name for path in before if path.is_dir()} | {"ml"}
    assert sorted(Path("/opt").iterdir()) == before


def test_a_command_that_does_not_exist_is_named(container: Container) -> None:
    logs = Logs()
    try:
        assert container.run(["no-such-command"], {}, log(logs), 30) == 127
    except FileNotFoundError as error:
        assert error.filename == "no-such-command"
    else:
        assert "no-such-command" in logs.events[0]["message"]


TALK = """
import socket, sys, threading
own, *hosts = sys.argv[1:]
server = socket.create_server((own, 7777))
def call(host):
    while True:
        try:
            with socket.create_connection((host, 7777), timeout=20) as connection:
                return connection.makefile().readline()
        except ConnectionRefusedError:
            pass
def answer():
    for _ in hosts:
        connection, _ = server.accept()
        with connection:
            connection.sendall(f"I am {own}\\n".encode())
thread = threading.Thread(target=answer)
thread.start()
print(*[call(host).strip() for host in hosts], sep=", ")
thread.join()
"""


@pytest.mark.parametrize("kind", [Container, NamespaceContainer])
def test_instances_talk_to_each_other_by_name_beside_another_job_on_the_same_port(
    kind: type[Container], tmp_path: Path
) -> None:
    skip_without_namespaces()
    hosts = ["algo-1", "algo-2"]
    logs = {(job, host): Logs() for job in ("a", "b") for host in hosts}

    def run(job: str, host: str) -> int:
        command = [sys.executable, "-c", TALK, host, *hosts]
        return kind(tmp_path / job / host, hosts).run(command, {}, log(logs[job, host]), 60)

    with ThreadPoolExecutor(len(logs)) as pool:
        assert list(pool.map(lambda key: run(*key), logs)) == [0] * len(logs)
    said = {logs[key].events[0]["message"] for key in logs}
    assert said == {"I am algo-1, I am algo-2"}
    assert unresolved(hosts) == ""


def test_every_instance_has_an_address_of_its_own() -> None:
    assert len({*addresses(["algo-1", "algo-2"], "a").values(), *addresses(["algo-1"], "b").values()}) == 3


def test_names_that_do_not_resolve_come_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.local.jobs.container.namespaces_refused", lambda: "not permitted")
    assert "(not permitted)" in unresolved(["algo-1", "algo-2"])
    assert unresolved(["algo-1", "algo-2"]).endswith("127.0.0.1 algo-1 algo-2")
    assert unresolved(["algo-1"]) == unresolved(["localhost", "localhost"]) == ""


def test_the_kind_of_container_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    assert chosen() is Container
    monkeypatch.setenv(SWITCH, "docker")
    with pytest.raises(RuntimeError, match="'docker': expected 'rewrite' or 'namespace'"):
        chosen()
    monkeypatch.setenv(SWITCH, "namespace")
    monkeypatch.setattr("infra.local.jobs.container.namespaces_refused", lambda: "not permitted")
    with pytest.raises(RuntimeError, match="gives none: not permitted"):
        chosen()


def test_a_process_in_a_namespace_dies_with_this_program(tmp_path: Path) -> None:
    skip_without_namespaces()
    script = (
        "from pathlib import Path; from infra.local.processes import Child;"
        "from infra.local.jobs.container import NamespaceContainer; import time;"
        f"c = NamespaceContainer(Path({str(tmp_path)!r}));"
        "Child(c.command_line(['sh', '-c', 'echo $$ > /opt/ml/pid; sleep 100 & wait']), {}); time.sleep(100)"
    )
    program = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[3])
    pid_file = tmp_path / "opt" / "ml" / "pid"
    pid = int(wait_until(lambda: pid_file.exists() and pid_file.read_text(), bool))
    program.kill()
    program.wait()
    await_end(pid)


def test_the_tail_is_the_end_of_the_log() -> None:
    lines = log(Logs())
    for number in range(200):
        lines.write(str(number))
    assert lines.tail(2) == "198\n199"
