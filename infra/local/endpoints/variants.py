"""Models as processes: an archive unpacked and served on a port of its own, for endpoints and for transform jobs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from infra.local.jobs import objects
from infra.local.processes import Child
from infra.local.service import Service
from infra.local.store import Record

START_SECONDS = 300
"""How long a model server may take until it answers /ping; SageMaker's own limit is eight minutes."""

PING_SECONDS = 5

STOP_SECONDS = 10
"""How long a model server may take to end its last requests."""


class UnservableModel(Exception):
    """A model archive that cannot be fetched or does not answer; the text is a ``FailureReason``."""


def archive_of(service: Service, model_name: str) -> tuple[str, dict[str, str]]:
    """Return where a model's archive lies in S3, and its container's environment; a model package's where it names one.

    Raises ``ServiceError`` when the model or its package does not exist.
    """
    model = service.call("DescribeModel", {"ModelName": model_name})
    container = model.get("PrimaryContainer") or model["Containers"][0]
    environment = container.get("Environment", {})
    if "ModelPackageName" in container:
        package = service.call("DescribeModelPackage", {"ModelPackageName": container["ModelPackageName"]})
        container = package["InferenceSpecification"]["Containers"][0]
    return container["ModelDataUrl"], {**container.get("Environment", {}), **environment}


class ModelServer:
    """One variant's process: a model archive, unpacked below ``folder`` and served at ``url``."""

    def __init__(self, variant: Record, archive: str, environment: dict[str, str], folder: Path, s3: Any) -> None:
        self.variant, self.s3 = variant, s3
        self.folder = folder / f"{variant['VariantName']}-{time.time_ns()}"
        self.log = self.folder / "server.log"
        try:
            objects.unpack(s3, archive, self.folder / "model")
        except Exception as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise UnservableModel(f"Failed to download or unpack model data {archive}: {error}") from error
        self._environment = environment
        self._start()

    def _start(self) -> None:
        # The socket is opened here and handed over, so that no other program can take the port in between.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            command = [
                sys.executable,
                "-m",
                "infra.local.endpoints.model_server",
                "--model-dir",
                str(self.folder / "model"),
            ]
            with self.log.open("ab") as log:
                self.child = Child(
                    [*command, "--socket", str(listener.fileno())],
                    {**self._environment, "PYTHONPATH": str(Path(__file__).parents[3])},
                    pass_fds=[listener.fileno()],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )

    def wait(self) -> None:
        """Wait until the server answers /ping with 200.

        Raises ``UnservableModel`` with the end of its log when it dies or takes too long.
        """
        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(timeout=PING_SECONDS, trust_env=False) as client:
            while time.monotonic() < deadline and self.child.running:
                with suppress(httpx.TransportError):
                    if client.get(f"{self.url}/ping").status_code == 200:
                        return
                time.sleep(0.1)
        end = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
        raise UnservableModel(
            f"The primary container for production variant {self.variant['VariantName']} did not pass the ping health "
            f"check. The end of its log: {end}"
        )

    def revive(self) -> None:
        """Start the process again after its death, at another address."""
        self.child.release()
        self._start()

    def stop(self) -> None:
        """End the process and remove its files."""
        self.child.stop(STOP_SECONDS)
        self.child.release()
        shutil.rmtree(self.folder, ignore_errors=True)
