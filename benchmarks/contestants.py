"""The same five steps on every tool's local runner: how each is started, and what one run of it took."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).parent / "peers"
VENVS = ROOT / ".venv-bench"

STEPS = 5
TIMEOUT_SECONDS = 180
SERVER_SECONDS = 60

QUIET = {
    "DO_NOT_TRACK": "1",
    "KEDRO_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "ZENML_ANALYTICS_OPT_IN": "false",
    "AUTO_OPEN_DASHBOARD": "false",
    "METAFLOW_DEFAULT_METADATA": "local",
    "METAFLOW_DEFAULT_DATASTORE": "local",
}
"""No account, no telemetry, no browser."""


class BenchmarkError(Exception):
    """A run that does not count; the text says why."""


@dataclass(frozen=True)
class Contestant:
    """One tool, one way to run the steps."""

    name: str
    command: tuple[str, ...]
    includes: str
    """What its figures hold, for the report."""
    folder: str = "."
    """Where it runs, below the copy of ``peers``."""
    venv: str | None = None
    """Its environment below ``.venv-bench``; without one it is ours."""
    environment: Mapping[str, str] = field(default_factory=dict)
    steps: int = STEPS
    """How many steps must run; none where a cache answers."""
    lacks: str | None = None
    """What it needs and does not have here."""

    @property
    def bin(self) -> Path:
        """Where its programs lie."""
        return VENVS / self.venv / "bin" if self.venv else Path(sys.executable).parent

    @property
    def missing(self) -> str | None:
        """Why it cannot run here, or ``None``."""
        if self.venv and not (VENVS / self.venv / "installed").exists():
            return "could not be installed here"
        return self.lacks


@dataclass(frozen=True)
class Run:
    """What one run took."""

    whole: float
    """Seconds from the command's start to its end: interpreter, imports and all."""
    inside: float
    """Seconds from the flow's start to its end, as its own process saw them."""
    processes: int
    """How many different processes ran the steps."""


def embedded(url: str, region: str, plain: str, cached: str) -> list[Contestant]:
    """Return the two of ours: the pipeline named ``plain``, and the one named ``cached``, which ran before."""
    environment = {
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    ours = "warm server; inside: StartPipelineExecution until the client sees the end"
    return [
        Contestant(
            "embedded SageMaker",
            ("python", "embedded_client.py", plain),
            f"{ours}; whole: also the interpreter and `import boto3`",
            environment=environment,
        ),
        Contestant(
            "embedded SageMaker, all cached",
            ("python", "embedded_client.py", cached),
            "the same",
            environment=environment,
            steps=0,
        ),
    ]


def peers(prefect_url: str | None) -> list[Contestant]:
    """Return the others. ``prefect_url`` is the API of Prefect's warm server, if it runs."""
    # Without the address Prefect would start a server of its own in every run, which is another measurement.
    served = {"PREFECT_API_URL": prefect_url or ""}
    lacks = None if prefect_url else "its server did not start here"
    return [
        Contestant(
            "Metaflow",
            ("python", "metaflow_flow.py", "run"),
            "no server; inside: its own log from `Workflow starting` to `Done!`",
            venv="metaflow",
        ),
        Contestant(
            "Kedro, SequentialRunner (default)",
            ("kedro", "run"),
            "no server and no record of runs; inside: between its pipeline-run hooks",
            "kedro_project",
            "kedro",
        ),
        Contestant(
            "Kedro, ParallelRunner",
            ("kedro", "run", "--runner=ParallelRunner"),
            "the same, nodes in a pool of processes",
            "kedro_project",
            "kedro",
        ),
        Contestant(
            "Prefect, ThreadPoolTaskRunner (default)",
            ("python", "prefect_flow.py"),
            "warm server; inside: the call of the flow",
            venv="prefect",
            environment=served,
            lacks=lacks,
        ),
        Contestant(
            "Prefect, ProcessPoolTaskRunner",
            ("python", "prefect_flow.py", "processes"),
            "the same, tasks in a pool of processes",
            venv="prefect",
            environment=served,
            lacks=lacks,
        ),
        Contestant(
            "ZenML, local orchestrator",
            ("python", "zenml_flow.py"),
            "no server, SQLite store made before; inside: the call of the pipeline, which compiles it and lists the "
            "installed packages",
            venv="zenml",
        ),
    ]


def environment(workspace: Path, contestant: Contestant) -> dict[str, str]:
    """Return all that a contestant sees of this machine: nothing of the caller's own settings, proxies or accounts."""
    return {
        **QUIET,
        "HOME": str(workspace / "home"),
        "USER": "bench",
        "PATH": f"{contestant.bin}:/usr/local/bin:/usr/bin:/bin",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(workspace / "metaflow"),
        "PREFECT_HOME": str(workspace / "prefect"),
        "ZENML_CONFIG_PATH": str(workspace / "zenml"),
        "BENCH_STEPS": str(workspace / "steps"),
        "BENCH_INSIDE": str(workspace / "inside"),
        **contestant.environment,
    }


def play(workspace: Path, contestant: Contestant) -> Run:
    """Run a contestant once. Raises ``BenchmarkError`` if it failed or not exactly the expected steps ran."""
    steps, inside = workspace / "steps", workspace / "inside"
    steps.write_text("")
    inside.unlink(missing_ok=True)
    start = time.perf_counter()
    try:
        ended = subprocess.run(
            [contestant.bin / contestant.command[0], *contestant.command[1:]],
            cwd=workspace / "peers" / contestant.folder,
            env=environment(workspace, contestant),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"{contestant.name}: {error}") from error
    whole = time.perf_counter() - start
    if ended.returncode:
        last = (ended.stderr.strip() or ended.stdout.strip() or "it said nothing").splitlines()[-1]
        raise BenchmarkError(f"{contestant.name} failed: {last}")
    processes = steps.read_text().split()
    if len(processes) != contestant.steps:
        raise BenchmarkError(f"{contestant.name} ran {len(processes)} steps instead of {contestant.steps}")
    told = float(inside.read_text()) if inside.exists() else _logged(ended.stdout)
    return Run(whole, told, len(set(processes)))


def _logged(output: str) -> float:
    """Return the seconds between the first and the last time in Metaflow's log of a run."""
    moments = [
        datetime.fromisoformat(text) for text in re.findall(r"^\d{4}-\d\d-\d\d [\d:.]{12}", output, re.MULTILINE)
    ]
    if not moments:
        raise BenchmarkError("a run told nothing about its time inside")
    return (moments[-1] - moments[0]).total_seconds()


@contextmanager
def prefect_server(workspace: Path) -> Iterator[str | None]:
    """Run Prefect's own local server, on a free port, until the block ends; yields its API's address if it started."""
    contestant = Contestant("Prefect's server", (), "", venv="prefect")
    if contestant.missing:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [contestant.bin / "prefect", "server", "start", "--no-ui", "--host", "127.0.0.1", "--port", str(port)],
        env=environment(workspace, contestant),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/api"
    try:
        yield url if _answers(url, server) else None
    finally:
        server.terminate()
        try:
            server.wait(SERVER_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    # A loopback address is none of the machine's proxies' business.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with opener.open(f"{url}/health", timeout=5):
                return True
        except OSError:
            time.sleep(0.1)
    return False
