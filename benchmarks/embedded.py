"""What the embedded SageMaker is measured by, besides the five steps: its start, its S3, its memory."""

from __future__ import annotations

import hashlib
import json
import random
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.contestants import STEPS, BenchmarkError
from infra.local import control

REGION = "eu-central-1"
BUCKET = "benchmark"
ARCHIVES = {"train.tar.gz": 100_000_000, "test.tar.gz": 34_000_000}
"""134 MB that cannot be compressed further."""

NOOP = "import os; open(os.environ['BENCH_STEPS'], 'a').write(f'{os.getpid()}\\n')"
"""What ``peers/evidence.py`` does, as one line for ``python3 -c``."""


@contextmanager
def server(state: Path) -> Iterator[tuple[control.RunningServer, float]]:
    """Run a server until the block ends; yields it and the seconds until it was ready."""
    start = time.perf_counter()
    running = control.start(state, port=0, region=REGION)
    seconds = time.perf_counter() - start
    try:
        yield running, seconds
    finally:
        control.stop(state)


def client(running: control.RunningServer, service: str) -> Any:
    """Make a boto3 client of the server."""
    session = boto3.Session("local", "local", region_name=running.region)
    return session.client(service, endpoint_url=running.url, config=Config(proxies={}))


def create_pipeline(running: control.RunningServer, workspace: Path, cached: bool) -> str:
    """Create a pipeline of five chained Processing steps, each one Python process, and return its name."""
    arguments = {
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
        },
        "AppSpecification": {"ImageUri": "any", "ContainerEntrypoint": ["python3", "-c", NOOP]},
        "Environment": {"BENCH_STEPS": str(workspace / "steps")},
        "RoleArn": "arn:aws:iam::123456789012:role/benchmark",
    }
    steps = [
        {
            "Name": f"Step{number}",
            "Type": "Processing",
            "Arguments": arguments,
            "CacheConfig": {"Enabled": cached, "ExpireAfter": "P1D"},
            "DependsOn": [f"Step{number - 1}"] if number > 1 else [],
        }
        for number in range(1, STEPS + 1)
    ]
    name = f"noop-{secrets.token_hex(4)}"
    client(running, "sagemaker").create_pipeline(
        PipelineName=name,
        PipelineDefinition=json.dumps({"Version": "2020-12-01", "Steps": steps}),
        RoleArn=arguments["RoleArn"],
    )
    return name


def make_archives(folder: Path) -> None:
    """Write the archives' stand-ins, the same bytes every time."""
    folder.mkdir()
    for name, size in ARCHIVES.items():
        (folder / name).write_bytes(random.Random(name).randbytes(size))  # noqa: S311 - bytes to carry, not a secret


@dataclass(frozen=True)
class Transfer:
    """Seconds for all archives, one after the other."""

    up: float
    down: float


def transfer(running: control.RunningServer, archives: Path, target: Path) -> Transfer:
    """Upload the archives under a new prefix and download them again. Raises ``BenchmarkError`` if they changed."""
    s3, prefix = client(running, "s3"), secrets.token_hex(4)
    if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    target.mkdir(exist_ok=True)
    start = time.perf_counter()
    for name in ARCHIVES:
        s3.upload_file(str(archives / name), BUCKET, f"{prefix}/{name}")
    middle = time.perf_counter()
    for name in ARCHIVES:
        s3.download_file(BUCKET, f"{prefix}/{name}", str(target / name))
    end = time.perf_counter()
    for name in ARCHIVES:
        if _digest(archives / name) != _digest(target / name):
            raise BenchmarkError(f"{name} came back changed")
    return Transfer(middle - start, end - middle)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def peak_megabytes(running: control.RunningServer) -> float | None:
    """Return the most memory that the server ever held (``VmHWM``), or ``None`` where the kernel does not tell."""
    status = Path(f"/proc/{running.pid}/status")
    match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(match[1]) * 1024 / 1e6 if match else None
