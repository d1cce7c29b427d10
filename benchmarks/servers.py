"""Model servers side by side: how each is started, asked, paused, and what processor time it took."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.contestants import PEERS, ROOT, VENVS, BenchmarkError

START_SECONDS = 180
STOP_SECONDS = 10
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """One way to serve the model."""

    name: str
    engine: str
    command: tuple[str, ...]
    """``{port}`` stands for the port, ``{socket}`` for an open one's file descriptor, ``{archive}`` for the model."""
    includes: str
    """What is between the client and the engine, for the report."""
    venv: str | None = None
    """Its environment below ``.venv-bench``; without one it is ours."""
    path: str = "/invocations"
    form: str = "png"
    """The request: the picture itself, or one of the JSON forms of ``forms``."""
    packaged: bool = False
    """Whether it calls itself a model server."""
    workers: int = 1
    """Its processes, which divide the cores among their engines."""

    @property
    def missing(self) -> str | None:
        """Why it cannot run here, or ``None``."""
        there = self.venv is None or (VENVS / self.venv / "installed").exists()
        return None if there else "could not be installed here"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return VENVS / self.venv / "bin" / "python" if self.venv else Path(sys.executable)


OURS, LIMIT, FASTAPI = "model server", "bare ASGI", "FastAPI"
A_WORKER_A_CORE = ", a worker a core"
CORES = os.cpu_count() or 1


def servers() -> list[Server]:
    """Return all, ours and the limit first."""
    uvicorn = ("-m", "uvicorn", "--port", "{port}", "--log-level", "warning", "--no-access-log")
    ours = ("-m", "infra.local.endpoints.model_server", "--model-dir", "{archive}", "--socket", "{socket}")
    both = [
        server
        for engine in ("litert", "tensorflow")
        for server in (
            Server(OURS, engine, ours, "the handler, TensorFlow Serving's JSON, batching, metrics, its access log"),
            Server(LIMIT, engine, (*uvicorn, "serve_bare:app"), "uvicorn and one function; the engine is called in it"),
            Server(FASTAPI, engine, (*uvicorn, "serve_fastapi:app"), "the same with FastAPI, unbatched", "fastapi"),
        )
    ]
    # With a single core they would be the servers above once more.
    several = [
        Server(OURS + A_WORKER_A_CORE, "litert", ours, "the same in several processes", workers=CORES),
        Server(
            LIMIT + A_WORKER_A_CORE,
            "litert",
            (*uvicorn, "--workers", str(CORES), "serve_bare:app"),
            "the same in several processes",
            workers=CORES,
        ),
    ]
    bentoml = ("-m", "bentoml", "serve", "serve_bentoml:Signs", "--host", "127.0.0.1", "--port", "{port}")
    return [
        *both,
        *(several if CORES > 1 else ()),
        *(
            Server(
                name,
                "litert",
                ("serve_litserve.py", "{port}", str(workers)),
                f"{between}; base64 in JSON",
                "litserve",
                "/predict",
                "image",
                packaged=True,
                workers=workers,
            )
            for name, workers, between in (
                ("LitServe", 1, "its defaults, one worker process"),
                ("LitServe" + A_WORKER_A_CORE, CORES, "its defaults but for the workers"),
            )
        ),
        Server("BentoML", "litert", bentoml, "its defaults, one worker process", "bentoml", packaged=True),
        Server(
            "MLServer",
            "litert",
            ("serve_mlserver.py", "{port}"),
            "its defaults but for the model in the server's own process; base64 in V2 JSON",
            "mlserver",
            "/v2/models/signs/infer",
            "v2",
            packaged=True,
        ),
    ]


def forms(picture: bytes) -> dict[str, tuple[str, bytes]]:
    """Return a request's content type and body by the form's name."""
    text = base64.b64encode(picture).decode()
    v2 = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [text]}]}
    return {
        "png": ("image/png", picture),
        "image": ("application/json", json.dumps({"image": text}).encode()),
        "v2": ("application/json", json.dumps(v2).encode()),
    }


class Running:
    """A server's process and all that it started."""

    def __init__(self, server: Server, archive: Path, home: Path) -> None:
        self.server = server
        self.log = home / f"{server.name}-{server.engine}.log".replace(" ", "-")
        with socket.create_server(("127.0.0.1", 0)) as listener, self.log.open("wb") as log:
            self.port = listener.getsockname()[1]
            words = {"port": self.port, "socket": listener.fileno(), "archive": archive}
            inherits = any("{socket}" in word for word in server.command)
            if not inherits:
                # Whoever opens its own must find the port free.
                listener.close()
            self._process = subprocess.Popen(
                [server.python, *(word.format(**words) for word in server.command)],
                cwd=PEERS,
                env=_environment(server, archive, home),
                pass_fds=[words["socket"]] if inherits else [],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ask(self, content_type: str, body: bytes) -> Any:
        """Ask once, as soon as it answers, and return its prediction. Raises ``BenchmarkError``."""
        deadline = time.monotonic() + START_SECONDS
        url, answer = f"http://127.0.0.1:{self.port}{self.server.path}", None
        with httpx.Client(timeout=30, trust_env=False) as client:
            while time.monotonic() < deadline and self._process.poll() is None:
                with suppress(httpx.TransportError):
                    answer = client.post(url, content=body, headers={"Content-Type": content_type})
                    if answer.status_code == 200:
                        return _prediction(answer.json())
                time.sleep(0.2)
        end = self.log.read_text(errors="replace").strip().splitlines()[-1:]
        raise BenchmarkError(f"it did not answer: {answer.text[:200] if answer is not None else end}")

    def pause(self) -> None:
        """Take the processor from it, so that what it does when idle disturbs nobody."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Give the processor back."""
        self._signal(signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """Return the processor time of all its processes until now."""
        return sum(_cpu_ticks(pid) for pid in self._pids()) / TICKS

    def megabytes(self) -> float:
        """Return the memory that all its processes hold in RAM; what they share counts for each."""
        pages = 0
        for pid in self._pids():
            with suppress(OSError):
                pages += int(Path("/proc", str(pid), "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> None:
        """End it, and all that it started."""
        self.resume()
        pids = self._pids()
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pids(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                children.setdefault(int(_stat(folder.name)[1]), []).append(int(folder.name))
        found = [self._process.pid]
        for pid in found:
            found += children.get(pid, [])
        return found


def _stat(pid: str) -> list[str]:
    """Return what /proc tells of a process behind its name: state, parent, ... Raises ``OSError`` if it is gone."""
    return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()


def _cpu_ticks(pid: int) -> int:
    try:
        fields = _stat(str(pid))
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _environment(server: Server, archive: Path, home: Path) -> dict[str, str]:
    return {
        "PATH": f"{server.python.parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "DO_NOT_TRACK": "1",
        "BENTOML_DO_NOT_TRACK": "true",
        "BENCH_ARCHIVE": str(archive),
        "SAGEMAKER_EMBEDDED_ENGINE": server.engine,
        "SAGEMAKER_GUNICORN_WORKERS": str(server.workers),
    }


def _prediction(answer: Any) -> Any:
    # The V2 protocol has tensors only: there the answer is a string in one of them.
    told = json.loads(answer["outputs"][0]["data"][0]) if "outputs" in answer else answer
    return told["predictions"][0]


@contextmanager
def started(server: Server, archive: Path, home: Path) -> Iterator[Running]:
    """Run a server until the block ends."""
    running = Running(server, archive, home)
    try:
        yield running
    finally:
        running.stop()
