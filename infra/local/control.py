"""Starts, finds and stops the embedded SageMaker's process from outside. Imports nothing heavy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60
STOP_SECONDS = 150
"""A little more than a job may take to end after SIGTERM."""

_PATIENCE_SECONDS = 30
"""How long a server may take to tell that it lives. One that is gone refuses at once; a busy one must not be given up,
since a second one cannot start beside it."""

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens addresses without the machine's proxies, which are none of a loopback address's business."""


class ServerError(Exception):
    """The server cannot be started or stopped; the text is one line with the reason and the way out."""


@dataclass(frozen=True)
class RunningServer:
    """A server that answered."""

    pid: int
    url: str
    region: str
    state: Path


def find(state: Path) -> RunningServer | None:
    """Return the server that runs on a state folder, or ``None``."""
    try:
        described = json.loads((state / "server.json").read_text())
        with _direct.open(f"{described['url']}/_local/health", timeout=_PATIENCE_SECONDS) as answer:
            alive = json.load(answer)["pid"] == described["pid"]
    except (OSError, ValueError, KeyError):
        return None
    return RunningServer(described["pid"], described["url"], described["region"], state) if alive else None


def start(state: Path, port: int, region: str) -> RunningServer:
    """Start a server in the background, or return the one that already runs on this folder.

    ``port`` 0 takes any free one. Raises ``ServerError``.
    """
    if running := find(state):
        return running
    try:
        state.mkdir(parents=True, exist_ok=True)
        log = (state / "server.log").open("wb")
    except OSError as error:
        raise ServerError(
            f"cannot write to {state}: {error.strerror}; choose another folder for [local] state"
        ) from error
    command = [sys.executable, "-m", "infra.local.server", "--state", str(state)]
    with log:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--region", region],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # It outlives the command that started it, and Ctrl-C there does not reach it.
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if running := find(state):
            return running
        time.sleep(0.05)
    process.kill()
    process.wait()
    raise ServerError(_why(state / "server.log", port))


def _why(log: Path, port: int) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    if last.startswith(f"Port {port} is in use"):
        return (
            f"port {port} is in use by another program; choose another with --port or SIGNS_PORT (0 takes a free one)"
        )
    return f"the embedded SageMaker did not start: {last} (whole log: {log})"


def stop(state: Path) -> bool:
    """Stop the server on a state folder; answers whether there was one. Raises ``ServerError``."""
    running = find(state)
    if running is None:
        return False
    os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        if not _exists(running.pid):
            return True
        time.sleep(0.05)
    raise ServerError(f"the embedded SageMaker (process {running.pid}) did not stop within {STOP_SECONDS} s")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # A child of this process stays as a zombie until it is waited for; to everybody else it is simply gone.
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return True
    except ProcessLookupError:
        return False
