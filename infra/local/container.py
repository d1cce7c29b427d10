"""One instance of a job: a folder that stands for ``/opt/ml``, a process in it, and its log.

There is no container engine. A job's process gets its own ``/opt/ml`` by rewriting that prefix wherever SageMaker hands
paths over: entry point, arguments, environment, and the text files of the SDK's driver channel.
Source: "How Amazon SageMaker AI Runs Your Training Image" and "... Your Processing Container Image", developer guide.
"""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.local.processes import Child
from infra.local.service import now

logger = logging.getLogger(__name__)

_OPT_ML = re.compile(r"(?<![\w.-])(?<!\w/)/opt/ml(?![\w.-])")

STOP_GRACE_SECONDS = 120
"""Between SIGTERM and SIGKILL when a job is stopped, as on AWS."""

LOG_EVENTS = 10_000
"""Lines in one call, CloudWatch Logs' own limit."""

LOG_SECONDS = 0.5
"""How long a log line waits for company before both are sent."""


class Container:
    """A folder that a process sees as its ``/opt/ml``."""

    def __init__(self, folder: Path) -> None:
        self.opt_ml = folder / "opt" / "ml"
        self._child: Child | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def path(self, inside: str) -> Path:
        """Return where a path inside the container (``/opt/ml/...``) lies on this machine.

        Raises ``ValueError`` for a path outside ``/opt/ml``: nothing else of the machine belongs to the job.
        """
        parts = Path(inside).parts
        if parts[:3] != ("/", "opt", "ml") or ".." in parts:
            raise ValueError(f"'{inside}' is outside /opt/ml, which is all that a job owns here")
        return self.opt_ml.joinpath(*parts[3:])

    def rewrite(self, text: str) -> str:
        """Replace ``/opt/ml`` in a text by this container's folder."""
        return _OPT_ML.sub(lambda _: str(self.opt_ml), text)

    def rewrite_files(self, folder: Path) -> None:
        """Rewrite every text file below a folder; what is not UTF-8 text is left alone."""
        for path in folder.rglob("*"):
            if path.is_file():
                try:
                    text = path.read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    continue
                path.write_text(self.rewrite(text), encoding="utf-8")

    def run(self, command: Iterable[str], environment: Mapping[str, str], log: JobLog, seconds: float) -> int:
        """Run a command to its end and return its exit code; its output goes to ``log``.

        Everything that it started is gone by then. Raises ``TimeoutError`` when it took longer than ``seconds`` and was
        stopped.
        """
        with self._lock:
            if self._stopped:
                return -signal.SIGTERM
            child = self._child = Child(
                [self.rewrite(word) for word in command],
                {key: self.rewrite(value) for key, value in environment.items()},
                cwd=self.opt_ml,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        with log.following(child.process):
            try:
                return child.process.wait(seconds)
            except subprocess.TimeoutExpired:
                child.stop(STOP_GRACE_SECONDS)
                raise TimeoutError(f"the job ran longer than {seconds:.0f} s") from None
            finally:
                child.release()

    def stop(self, grace_seconds: float) -> None:
        """Ask the process to end (SIGTERM), and after the grace kill it; where none runs yet, none will."""
        with self._lock:
            self._stopped = True
        if self._child is not None:
            self._child.stop(grace_seconds)


class JobLog:
    """Sends a process's output to CloudWatch Logs, line by line, as the job writes it."""

    def __init__(self, client: Any, group: str, stream: str, on_line: Callable[[str], None]) -> None:
        self._client, self._group, self._stream, self._on_line = client, group, stream, on_line
        self._lines: list[dict[str, Any]] = []
        self._last: deque[str] = deque(maxlen=50)
        self._lock = threading.Lock()
        for create, names in (
            (client.create_log_group, {"logGroupName": group}),
            (client.create_log_stream, {"logGroupName": group, "logStreamName": stream}),
        ):
            try:
                create(**names)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
                    raise

    def following(self, process: subprocess.Popen[bytes]) -> _Following:
        """Follow a process's output until the block ends."""
        return _Following(self, process)

    def tail(self, lines: int) -> str:
        """Return the last lines that were written."""
        with self._lock:
            return "\n".join(list(self._last)[-lines:])

    def write(self, line: str) -> None:
        """Add one line."""
        with self._lock:
            # CloudWatch Logs refuses empty events and events above 256 KB; a character has up to four bytes.
            self._lines.append({"timestamp": int(now() * 1000), "message": line[:64_000] or " "})
            self._last.append(line)
        self._on_line(line)

    def send(self) -> None:
        """Send what has gathered."""
        with self._lock:
            events, self._lines = self._lines, []
        for start in range(0, len(events), LOG_EVENTS):
            batch = events[start : start + LOG_EVENTS]
            try:
                self._client.put_log_events(logGroupName=self._group, logStreamName=self._stream, logEvents=batch)
            except (ClientError, BotoCoreError):
                # A job does not fail because its log does.
                logger.exception("%d lines of %s are lost", len(batch), self._stream)


class _Following:
    """Reads a process's output in one thread and sends it from another, so that a chatty job costs few calls."""

    def __init__(self, log: JobLog, process: subprocess.Popen[bytes]) -> None:
        self._log, self._process = log, process
        self._done = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._sender = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> None:
        self._reader.start()
        self._sender.start()

    def __exit__(self, *_: object) -> None:
        # A child that outlives the script may hold the pipe open; the log does not wait for it for ever.
        self._reader.join(timeout=5)
        self._done.set()
        self._sender.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._log.write(line.decode("utf-8", "replace").rstrip())

    def _send(self) -> None:
        while not self._done.wait(LOG_SECONDS):
            self._log.send()
        self._log.send()
