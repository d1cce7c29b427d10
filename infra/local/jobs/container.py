"""One instance of a job: a folder that stands for ``/opt/ml``, a process in it, and its log.

There is no container engine. A job's process gets its own ``/opt/ml`` in one of two ways: by rewriting that prefix
wherever SageMaker hands paths over (entry point, arguments, environment, and the text files of the SDK's driver
channel), which works everywhere; or by a mount namespace of its own in which the folder really is ``/opt/ml``, which
needs Linux and its leave.

Instances find each other by the names ``algo-1`` to ``algo-N``, each on a loopback address of its own, through a hosts
file that only they see; that, too, needs a mount namespace. They share the machine's ports: a server that listens on
every address, as TensorFlow's does, needs another port on each instance.
Source: "How Amazon SageMaker AI Runs Your Training Image" and "... Your Processing Container Image", developer guide.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
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


_ENTER = """
[ -z "$1" ] || mount --bind "$1" /etc/hosts || exit
if [ -n "$2" ]; then
    # What else the machine keeps in /opt, perhaps this very Python, stays in its place.
    for entry in /opt/*; do
        if [ -d "$entry" ] && [ "$entry" != /opt/ml ]; then
            mkdir -p "$2/${entry##*/}" && mount --rbind "$entry" "$2/${entry##*/}" || exit
        fi
    done
    mount --rbind "$2" /opt && cd /opt/ml || exit
fi
shift 2
exec "$@"
"""
"""Runs in a new mount namespace: binds a hosts file ($1) and a folder for ``/opt`` ($2), then becomes the command."""

_UNSHARE = ("unshare", "--map-root-user", "--mount", "sh", "-c")

_ISOLATE = ("unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh")
"""Begins a command that sees no network but its own loopback."""


@functools.cache
def namespaces_refused() -> str:
    """Return why this machine gives no mount namespace to a program of this user, or an empty text if it does."""
    try:
        probe = subprocess.run([*_UNSHARE, "mount --bind /opt /opt"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if probe.returncode == 0 else probe.stderr.strip() or f"unshare exits with {probe.returncode}"


@functools.cache
def isolation_refused() -> str:
    """Return why this machine gives a program of this user no network namespace, or an empty text if it does."""
    try:
        probe = subprocess.run([*_ISOLATE, "true"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if probe.returncode == 0 else probe.stderr.strip() or f"unshare exits with {probe.returncode}"


class Container:
    """A folder that a process sees as its ``/opt/ml``, by rewritten paths."""

    def __init__(self, folder: Path, hosts: Sequence[str] = (), isolated: bool = False) -> None:
        """``isolated`` asks for no network. Several hosts share one, or they could not reach each other."""
        self.folder, self._isolated = folder, isolated and len(hosts) < 2 and not isolation_refused()
        self.opt_ml = folder / "opt" / "ml"
        self.opt_ml.mkdir(parents=True, exist_ok=True)
        self._hosts = hosts
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

    def write_json(self, inside: str, content: Any) -> None:
        """Write a configuration file."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    def read_text(self, inside: str) -> str:
        """Read a message that the script may have left, or an empty text."""
        path = self.path(inside)
        return path.read_text(errors="replace").strip() if path.is_file() else ""

    def rewrite(self, text: str) -> str:
        """Return a text as the process must be given it: ``/opt/ml`` replaced by this container's folder."""
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

    def command_line(self, command: Iterable[str]) -> list[str]:
        """Return what to start for a command to run in this container."""
        words = self._isolate([self.rewrite(word) for word in command])
        return self._entered(words, "") if self._hosts_file() else words

    def _isolate(self, words: list[str]) -> list[str]:
        return [*_ISOLATE, *words] if self._isolated else words

    def _entered(self, words: list[str], opt: str) -> list[str]:
        return [*_UNSHARE, _ENTER, "sh", self._hosts_file(), opt, *words]

    def _hosts_file(self) -> str:
        """Write the names that this instance knows and return where, or nothing where there is no way to use them."""
        if len(self._hosts) < 2 or namespaces_refused():
            return ""
        path = self.folder / "hosts"
        lines = [f"{address}\t{host}" for host, address in addresses(self._hosts, str(self.folder.parent)).items()]
        path.write_text("\n".join([Path("/etc/hosts").read_text().rstrip(), *lines, ""]))
        return str(path)

    def run(self, command: Iterable[str], environment: Mapping[str, str], log: JobLog, seconds: float) -> int:
        """Run a command to its end and return its exit code; its output goes to ``log``.

        Everything that it started is gone by then. Raises ``TimeoutError`` when it took longer than ``seconds`` and was
        stopped.
        """
        with self._lock:
            if self._stopped:
                return -signal.SIGTERM
            child = self._child = Child(
                self.command_line(command),
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


class NamespaceContainer(Container):
    """A folder that a process sees as its ``/opt/ml`` because it is mounted there, for this process and its children.

    The process is root in a user namespace, as it is in a container, and this program's user to everybody else.
    """

    def rewrite(self, text: str) -> str:
        """Return the text: the paths in it are right as they are."""
        return text

    def command_line(self, command: Iterable[str]) -> list[str]:
        """Return what to start for a command to run in this container."""
        return self._entered(self._isolate(list(command)), str(self.opt_ml.parent))


SWITCH = "SAGEMAKER_EMBEDDED_CONTAINERS"
"""The server's environment variable for how jobs get their ``/opt/ml``: ``rewrite`` (the default) or ``namespace``."""


def chosen() -> type[Container]:
    """Return the kind of container that ``SWITCH`` asks for.

    Raises ``RuntimeError`` for one that does not exist, or not on this machine.
    """
    name = os.environ.get(SWITCH, "rewrite")
    if name not in ("rewrite", "namespace"):
        raise RuntimeError(f"{SWITCH} is '{name}': expected 'rewrite' or 'namespace'")
    if name == "namespace" and namespaces_refused():
        raise RuntimeError(f"{SWITCH} is 'namespace', but this machine gives none: {namespaces_refused()}")
    return NamespaceContainer if name == "namespace" else Container


def addresses(hosts: Sequence[str], job: str) -> dict[str, str]:
    """Give each host of a job a loopback address; those of other jobs differ, so that both may use the same port."""
    first, second = hashlib.sha256(job.encode()).digest()[:2]
    return {host: f"127.{first}.{second}.{number}" for number, host in enumerate(hosts, start=1)}


def unresolved(hosts: Sequence[str]) -> str:
    """Return why a job's instances cannot find each other by name, and the way out, or an empty text if they can."""
    if len(hosts) < 2 or not namespaces_refused():
        return ""
    try:
        for host in hosts:
            socket.gethostbyname(host)
    except OSError:
        names = " ".join(hosts)
        return (
            f"The names {names} mean nothing on this machine, because it gives no mount namespaces "
            f"({namespaces_refused()}). If the instances talk to each other, add this line to /etc/hosts: "
            f"127.0.0.1 {names}"
        )
    return ""


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
