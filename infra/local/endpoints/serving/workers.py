"""A model in several processes that answer at one socket, as the workers of gunicorn do in AWS's image."""

from __future__ import annotations

import logging
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence

from infra.local.endpoints.serving.engines import UnservableArchive

logger = logging.getLogger(__name__)

VARIABLE = "SAGEMAKER_GUNICORN_WORKERS"
"""Names how many processes serve the model; AWS's image has the same variable, and the same default."""

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which prometheus_client adds up what several processes count."""


def count(environment: Mapping[str, str]) -> int:
    """Return how many processes shall serve the model. Raises ``UnservableArchive`` if that is no whole number."""
    text = environment.get(VARIABLE, "1")
    if not text.isdecimal() or int(text) < 1:
        raise UnservableArchive(f"{VARIABLE} is {text!r}: expected a whole number from 1")
    return int(text)


class Readiness:
    """Which of several processes have a warm model: a byte each, in a file that all of them map into their memory.

    Without such a file there is one process.
    """

    def __init__(self, descriptor: int = -1, number: int = 0) -> None:
        self._bytes, self._number = mmap.mmap(descriptor, 1 if descriptor < 0 else 0), number

    def tell(self) -> None:
        """Say that this process is ready."""
        self._bytes[self._number] = 1

    @property
    def all(self) -> bool:
        """Whether every process is."""
        return 0 not in self._bytes[:]


class Workers:
    """The processes, and the program that waits for the first of them to end: then all end, and it tells why.

    ``listener`` is the file descriptor of the socket that they take over. A dead worker is not replaced here: whoever
    started the server sees its end, as that of a server of one process. (uvicorn's own supervisor would start it anew,
    for ever where the archive cannot be served, and tells no exit code.)
    """

    def __init__(self, command: Sequence[str], workers: int, listener: int) -> None:
        self._stopping = False
        with tempfile.TemporaryFile() as ready:
            ready.truncate(workers)
            self._metrics = tempfile.TemporaryDirectory(prefix="model-metrics-")
            self._processes = [
                subprocess.Popen(
                    [*command, "--worker", str(number), "--ready", str(ready.fileno())],
                    env={**os.environ, METRICS_VARIABLE: self._metrics.name},
                    pass_fds=[listener, ready.fileno()],
                    # Its end tells a worker that this program is gone, however it went.
                    stdin=subprocess.PIPE,
                )
                for number in range(workers)
            ]
        # Only theirs are left: when they stop to take connections, clients are to be refused and not to wait.
        os.close(listener)

    def run(self, killed: int) -> int:
        """Wait until all have ended; return the exit code of the first that did, or ``killed`` if a signal ended it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        code = 0
        for _ in self._processes:
            _, status = os.wait()
            ended = os.waitstatus_to_exitcode(status)
            if not self._stopping:
                if ended < 0:
                    logger.critical("a process that served the model was killed by signal %d", -ended)
                code = killed if ended < 0 else ended
                self._stop()
        self._metrics.cleanup()
        return code

    def _stop(self) -> None:
        self._stopping = True
        for process in self._processes:
            process.send_signal(signal.SIGTERM)


def end_with_parent() -> None:
    """Have this process end as soon as the one that started it is gone, with which its standard input closes."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
