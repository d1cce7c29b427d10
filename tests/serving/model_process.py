"""The model server as a process of its own, started as the embedded SageMaker starts it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
START_SECONDS = 120
LOG_SECONDS = 10


class ModelProcess:
    """A model server, its log, and a client of it."""

    def __init__(self, archive: Path, log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as stream:
            self.port = listener.getsockname()[1]
            number = str(listener.fileno())
            module = "infra.local.endpoints.model_server"
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "--model-dir", str(archive), "--socket", number],
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                pass_fds=[listener.fileno()],
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False)

    def ping(self) -> int:
        """Return the status of /ping."""
        return self.client.get("/ping").status_code

    def wait(self) -> ModelProcess:
        """Wait until the model is warm."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.ping() == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"the server is not ready: {self.text()}")

    def post(self, body: bytes, content_type: str | None = None, **headers: str) -> httpx.Response:
        """Send an invocation."""
        told = {"Content-Type": content_type} if content_type is not None else {}
        return self.client.post("/invocations", content=body, headers={**told, **headers})

    def text(self) -> str:
        """Return the log."""
        return self.log.read_text(errors="replace")

    def access(self, count: int) -> list[dict[str, Any]]:
        """Return the access log's entries, once there are so many: a request's is written just after its answer."""
        deadline = time.monotonic() + LOG_SECONDS
        while True:
            found = [json.loads(line) for line in self.text().splitlines() if line.startswith("{") and line[-1] == "}"]
            if len(found) >= count or time.monotonic() > deadline:
                return found
            time.sleep(0.01)

    def kill(self) -> None:
        """End it, whatever it does."""
        self.client.close()
        self.process.kill()
        self.process.wait()
