from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from infra.local.container import Container, JobLog
from infra.local.processes import inherited


class Logs:
    """A CloudWatch Logs client that keeps what it is sent."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def create_log_group(self, **_: Any) -> None: ...

    def create_log_stream(self, **_: Any) -> None: ...

    def put_log_events(self, logEvents: list[dict[str, Any]], **_: Any) -> None:
        self.events += logEvents


@pytest.fixture
def container(tmp_path: Path) -> Container:
    made = Container(tmp_path)
    made.opt_ml.mkdir(parents=True)
    return made


def log(logs: Logs) -> JobLog:
    return JobLog(logs, "group", "stream", lambda _: None)


@pytest.mark.parametrize(
    "text", ["/opt/ml", "--dir=/opt/ml/model", "a:/opt/ml:/opt/ml/x", "'/opt/ml/input'", "file:///opt/ml"]
)
def test_the_prefix_is_rewritten(container: Container, text: str) -> None:
    assert container.rewrite(text) == text.replace("/opt/ml", str(container.opt_ml))


@pytest.mark.parametrize(
    "text", ["/opt/mlflow", "/opt/ml-x", "s3://bucket/opt/ml/x", "/home/opt/ml", "./opt/ml", "opt/ml"]
)
def test_what_only_looks_like_it_stays(container: Container, text: str) -> None:
    assert container.rewrite(text) == text


def test_paths_lie_below_the_folder(container: Container) -> None:
    assert container.path("/opt/ml/model") == container.opt_ml / "model"
    for outside in ("/etc/passwd", "/opt/ml/../../etc", "model", "/opt/mlx"):
        with pytest.raises(ValueError, match="outside /opt/ml"):
            container.path(outside)


def test_text_files_are_rewritten_and_others_left(container: Container, tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("cd /opt/ml/code")
    (tmp_path / "b.bin").write_bytes(b"\xff/opt/ml")
    container.rewrite_files(tmp_path)
    assert (tmp_path / "a.sh").read_text() == f"cd {container.opt_ml}/code"
    assert (tmp_path / "b.bin").read_bytes() == b"\xff/opt/ml"


def test_a_process_sees_its_folder_and_its_lines_are_kept(container: Container) -> None:
    logs = Logs()
    script = "echo $WHERE; echo; echo err >&2; echo hello > /opt/ml/said; exit 3"
    assert container.run(["bash", "-c", script], {"WHERE": "/opt/ml/x"}, log(logs), 30) == 3
    assert [event["message"] for event in logs.events] == [f"{container.opt_ml}/x", " ", "err"]
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
    assert gone(int(logs.events[0]["message"]))


def test_too_long_is_an_error_and_ends_everything(container: Container) -> None:
    logs = Logs()
    with pytest.raises(TimeoutError):
        container.run(["bash", "-c", "echo $$; sleep 100"], {}, log(logs), 0.3)
    assert gone(int(logs.events[0]["message"]))


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


def test_the_tail_is_the_end_of_the_log() -> None:
    lines = log(Logs())
    for number in range(200):
        lines.write(str(number))
    assert lines.tail(2) == "198\n199"


def gone(pid: int) -> bool:
    """Whether a process is dead or dies within moments: a signal does not wait for its effect."""
    state = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return False
