"""Serves one model archive over HTTP, as SageMaker's TensorFlow image does: one port, one model.

The image runs nginx, gunicorn and TensorFlow Serving; the handler lies under gunicorn, which talks to TensorFlow
Serving over REST. Here one process does all of it: the same handler file, and TensorFlow Serving's REST rules,
re-implemented over the same SavedModel. SAGEMAKER_GUNICORN_WORKERS asks for several such processes. Source: TensorFlow
Serving, "RESTful API"; README of sagemaker-tensorflow-serving-container.

Exit codes: 0 after SIGTERM or SIGINT, when what was accepted is answered; 1 if the archive cannot be served; 70 if the
model's thread died (a handler that calls sys.exit, for example) or one of several processes was killed. Another
signal's number says what killed it.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from infra.local.endpoints.serving import workers
from infra.local.endpoints.serving.application import Application, Settings
from infra.local.endpoints.serving.engines import UnservableArchive
from infra.local.endpoints.serving.workers import Readiness, Workers

logger = logging.getLogger(__name__)

UNSERVABLE, DIED = 1, os.EX_SOFTWARE

GRACE_SECONDS = 60
"""How long accepted requests may take after SIGTERM, SageMaker's limit for one invocation."""

KEEP_ALIVE_SECONDS = 75
"""How long a connection may be idle. Clients must be the first to lose patience: one whose request meets the closing of
its connection cannot know whether it was heard. httpx, which asks here, keeps one for 5 seconds; in AWS's image nginx
closes after 3, as SageMaker's own proxy knows."""


class Server:
    """The web server around one application, and how it ended."""

    def __init__(self, archive: Path, listener: socket.socket, readiness: Readiness) -> None:
        self._listener = listener
        settings = Settings(archive, listener.getsockname()[1], _most_rows())
        application = Application(settings, readiness, sys.stdout.buffer, self._ended)
        # The access log is our own; the name and version of a server are nobody's business.
        config = uvicorn.Config(
            application.asgi,
            # uvicorn takes a method for the interface before this one.
            interface="asgi3",
            proxy_headers=False,
            log_config=None,
            # The last line of a log is taken for the reason of an end; that nothing special happened is none.
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._code = 0

    def run(self) -> int:
        """Serve until told to stop, and return the exit code."""
        # uvicorn has handlers of its own while it serves, and raises the signal once more afterwards: then these are
        # back, without which it would end the process a second time.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        self._server.run(sockets=[self._listener])
        return self._code

    def _stop(self) -> None:
        self._server.should_exit = True

    def _ended(self, error: BaseException) -> None:
        if isinstance(error, UnservableArchive):
            logger.error("%s", error)
            self._code = UNSERVABLE
        else:
            logger.critical("the model's thread died", exc_info=error)
            self._code = DIED
        self._stop()


def _most_rows() -> int:
    """Read how many rows one call may hold, from the variables by which AWS's image is told the same."""
    if os.environ.get("SAGEMAKER_TFS_ENABLE_BATCHING", "true").lower() == "false":
        return 1
    return int(os.environ.get("SAGEMAKER_TFS_MAX_BATCH_SIZE", "64"))


def main(argv: Sequence[str] | None = None) -> int:
    """Serve an archive on a socket until told to stop."""
    parser = argparse.ArgumentParser(prog="model_server", description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True, help="the unpacked model archive")
    parser.add_argument("--socket", type=int, required=True, help="file descriptor of a listening socket")
    own = parser.add_argument_group("for one of several processes, which the first of them starts")
    own.add_argument("--worker", type=int, help="its number")
    own.add_argument("--ready", type=int, default=-1, help="file descriptor of where each tells that it is ready")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        count = workers.count(os.environ)
    except UnservableArchive as error:
        logger.error("%s", error)
        return UNSERVABLE
    if arguments.worker is not None:
        workers.end_with_parent()
    elif count > 1:
        command = [sys.executable, "-m", "infra.local.endpoints.model_server", "--model-dir", str(arguments.model_dir)]
        return Workers([*command, "--socket", str(arguments.socket)], count, arguments.socket).run(DIED)
    readiness = Readiness(arguments.ready, arguments.worker or 0)
    return Server(arguments.model_dir, socket.socket(fileno=arguments.socket), readiness).run()


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    # Neither a library's threads nor a handler that does not come back may hold up the end, or change its code.
    os._exit(code)
