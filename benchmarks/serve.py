"""Measures the model server, and beside it other model servers with the same engine: ``make bench-serve``."""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import report, servers
from benchmarks.contestants import ROOT, BenchmarkError
from benchmarks.servers import A_WORKER_A_CORE, FASTAPI, LIMIT, OURS, Running, Server

RESULTS = Path(__file__).parent / "results" / "serve.md"

NETWORKS = {
    "multiscale": "the network that this project trains, 832 thousand parameters: the engine is most of the work",
    "lenet5": "LeNet-5, 65 thousand parameters: what lies around the engine shows",
}
CONNECTIONS = (1, 16)
TOLERANCE = 1e-3
"""How far a probability may be from ours: LiteRT's resizing may round a tie otherwise."""

EXPLANATION = """\
Every server gets the same PNG of 48x48 pixels, one a request, over connections that are kept alive; a load generator in
a process of its own sends the next request of a connection when it has the answer. The servers take turns within each
round, in an order that changes, after one round that does not count; whoever is not asked is stopped (SIGSTOP), so that
its idle work disturbs nobody. A server takes part only if it gives our server's answer. Access logs are off, but for
ours. Figures are minimum / **median** / maximum over the rounds; *to the limit* is the median of the rounds' own ratios
to the bare ASGI application with the same engine, for requests above 1 is faster, for processor time (all processes of
a server, user and system) below 1 is cheaper. A machine that others use makes requests/s swing between rounds;
processor time swings less."""

Key = tuple[str, str, int]
"""Name, engine, connections."""


@dataclass(frozen=True)
class Load:
    """What one round of one server was like."""

    rate: float
    """Requests a second."""
    p50: float
    p99: float
    """Milliseconds."""
    cpu: float
    """Microseconds of processor time a request."""


def picture() -> bytes:
    """Return the PNG that all are sent: coarse coloured squares with a little noise, as a photograph has."""
    chance = np.random.default_rng(0)
    squares = Image.fromarray(chance.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((48, 48))
    noisy = np.asarray(squares, np.int16) + chance.integers(-5, 6, (48, 48, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_archive(network: str, folder: Path) -> None:
    """Write a network's archive. Raises ``BenchmarkError``."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "steps"), "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-m", "benchmarks.serve_archive", network, str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"the archive of {network} cannot be written: {done.stderr[-500:]}")


def load(running: Running, content_type: str, body: Path, connections: int, seconds: float) -> Load:
    """Measure one server once. Raises ``BenchmarkError`` if a request failed."""
    words = [running.port, running.server.path, content_type, body, connections, seconds]
    before = running.cpu_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve_load", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    used = running.cpu_seconds() - before
    told = json.loads(done.stdout) if done.returncode == 0 else {"failures": done.stderr[-300:], "requests": 0}
    if told["failures"] or not told["requests"]:
        raise BenchmarkError(f"requests failed: {told['failures']}")
    count = told["requests"]
    return Load(count / seconds, told["p50"] * 1e3, told["p99"] * 1e3, used / count * 1e6)


class Comparison:
    """All servers with one network."""

    def __init__(self, players: Sequence[Server], archive: Path, home: Path, seconds: float) -> None:
        self.players, self._archive, self._home, self._seconds = players, archive, home, seconds
        self.failed = {(player.name, player.engine): player.missing for player in players if player.missing}
        self.loads: dict[Key, list[Load]] = {}
        self.ready: dict[tuple[str, str], float] = {}
        """Seconds from the start of each server to its first answer."""
        self.megabytes: dict[tuple[str, str], float] = {}
        """What each held after the last round."""
        self._running: list[Running] = []
        self._bodies: dict[str, tuple[str, Path]] = {}
        for form, (content_type, body) in servers.forms(picture()).items():
            (home / form).write_bytes(body)
            self._bodies[form] = (content_type, home / form)

    def run(self, rounds: int) -> None:
        """Start everybody, and let all take turns."""
        with ExitStack() as stack:
            self._start(stack)
            for number in range(rounds + 1):
                for running in random.Random(number).sample(self._running, len(self._running)):  # noqa: S311  # an order, no secret
                    self._turn(running, number, rounds)
            for running in self._running:
                self.megabytes[running.server.name, running.server.engine] = running.megabytes()

    def _start(self, stack: ExitStack) -> None:
        expected: Any = None
        for player in self.players:
            if player.missing:
                continue
            _say(f"starting {player.name}, {player.engine}")
            begun = time.perf_counter()
            running = stack.enter_context(servers.started(player, self._archive, self._home))
            content_type, body = self._bodies[player.form]
            try:
                answer = running.ask(content_type, body.read_bytes())
                self.ready[player.name, player.engine] = time.perf_counter() - begun
                expected = expected or answer
                _compare(answer, expected)
            except BenchmarkError as error:
                self.failed[player.name, player.engine] = str(error)
                running.stop()
                continue
            running.pause()
            self._running.append(running)

    def _turn(self, running: Running, number: int, rounds: int) -> None:
        player = running.server
        running.resume()
        for connections in CONNECTIONS:
            if (player.name, player.engine) in self.failed:
                break
            _say(f"round {number} of {rounds}: {player.name}, {player.engine}, {connections}")
            content_type, body = self._bodies[player.form]
            try:
                measured = load(running, content_type, body, connections, self._seconds)
            except BenchmarkError as error:
                self.failed[player.name, player.engine] = str(error)
                break
            if number:
                self.loads.setdefault((player.name, player.engine, connections), []).append(measured)
        running.pause()

    def ratio(self, field: str, one: str, other: str, engine: str, connections: int) -> float | None:
        """Return the median over the rounds of one server's figure to another's in the same round."""
        pairs = [self.loads.get((name, engine, connections), []) for name in (one, other)]
        if not all(pairs) or len(pairs[0]) != len(pairs[1]):
            return None
        ratios = [getattr(a, field) / getattr(b, field) for a, b in zip(*pairs, strict=True)]
        return statistics.median(ratios)

    def next_packaged(self, engine: str, connections: int) -> str | None:
        """Return the name of the fastest of the others that are model servers."""
        rates = {
            player.name: statistics.median(each.rate for each in loads)
            for player in self.players
            if player.packaged and (loads := self.loads.get((player.name, engine, connections)))
        }
        return max(rates, key=lambda name: rates[name]) if rates else None


def _compare(answer: Any, expected: Any) -> None:
    close = abs(answer["probability"] - expected["probability"]) <= TOLERANCE
    if answer["class_id"] != expected["class_id"] or not close or len(answer["top"]) != len(expected["top"]):
        raise BenchmarkError(f"it answered {answer}, not {expected}")


def _targets(done: dict[str, Comparison]) -> str:
    rows = []
    for network, comparison in done.items():
        packaged = comparison.next_packaged("litert", 16)
        several = OURS + A_WORKER_A_CORE
        wanted = [
            ("litert", OURS, LIMIT, 0.9, "one process against the limit"),
            ("litert", several, LIMIT + A_WORKER_A_CORE, 0.9, "a worker a core against the limit with as many"),
            ("litert", OURS, packaged or "", 2.0, f"one process against the next packaged server ({packaged})"),
            ("litert", several, packaged or "", 2.0, f"a worker a core against the next packaged server ({packaged})"),
            ("tensorflow", OURS, FASTAPI, 2.0, "one process against FastAPI, unbatched"),
        ]
        for engine, ours, other, target, text in wanted:
            rate = comparison.ratio("rate", ours, other, engine, 16)
            cpu = comparison.ratio("cpu", other, ours, engine, 16)
            told = [_judged(value, target) for value in (rate, cpu)]
            rows.append((network, f"`{engine}`, {text}", f"{target:g}", *told))
    head = ("network", "at 16 connections", "target", "requests/s", "work per processor second")
    return "## Targets\n\n" + report.table(head, rows)


def _judged(value: float | None, target: float) -> str:
    if value is None:
        return "not measured"
    return f"{value:.2f}" if value >= target else f"{value:.2f}, missed"


def _table(comparison: Comparison, engine: str, connections: int) -> str:
    rows = []
    for player in (each for each in comparison.players if each.engine == engine):
        loads = comparison.loads.get((player.name, engine, connections), [])
        failure = comparison.failed.get((player.name, engine))
        if failure or not loads:
            rows.append((player.name, failure or "not measured", "", "", "", "", "", player.includes))
            continue
        ratios = [comparison.ratio(field, player.name, LIMIT, engine, connections) for field in ("rate", "cpu")]
        rate, cpu = ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        spread = {field: _spread([getattr(each, field) for each in loads]) for field in ("rate", "p50", "p99", "cpu")}
        figures = (spread["rate"], rate, spread["p50"], spread["p99"], spread["cpu"], cpu)
        rows.append((player.name, *figures, player.includes))
    head = ("server", "requests/s", "to the limit", "p50 ms", "p99 ms", "CPU us/request", "to the limit", "between")
    title = f"### `{engine}`, {connections} connection{'s' if connections > 1 else ''}"
    return f"{title}\n\n{report.table(head, rows)}"


def _starts(comparison: Comparison) -> str:
    rows = [
        (name, engine, f"{seconds:.1f}", f"{comparison.megabytes[name, engine]:.0f}")
        for (name, engine), seconds in comparison.ready.items()
        if (name, engine) in comparison.megabytes
    ]
    head = ("server", "engine", "seconds to the first answer, once", "MB after the last round")
    return f"### Start and memory\n\n{report.table(head, rows)}"


def _spread(values: Sequence[float]) -> str:
    digits = 0 if statistics.median(values) >= 100 else 1
    return f"{min(values):.{digits}f} / **{statistics.median(values):.{digits}f}** / {max(values):.{digits}f}"


def measure(rounds: int, seconds: float) -> str:
    """Measure everything and return the report."""
    before = report.load()
    done: dict[str, Comparison] = {}
    for network in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "archive"
            write_archive(network, archive)
            done[network] = Comparison(servers.servers(), archive, Path(folder), seconds)
            done[network].run(rounds)
    parts = [
        "# The model server, measured",
        f"Written by `make bench-serve`: {rounds} rounds of {seconds:g} seconds a server and number of connections.",
        report.machine(before, ("ai-edge-litert", "tensorflow-cpu", "uvicorn", "starlette"), servers_installed()),
        _targets(done),
        "## Side by side\n\n" + EXPLANATION,
    ]
    for network, comparison in done.items():
        parts.append(f"## {network}\n\n{NETWORKS[network][0].upper()}{NETWORKS[network][1:]}.")
        parts += [_table(comparison, engine, count) for engine in ("litert", "tensorflow") for count in (16, 1)]
        parts.append(_starts(comparison))
    return "\n\n".join(parts)


def servers_installed() -> list[str]:
    """Return the environments of the other servers."""
    return sorted({server.venv for server in servers.servers() if server.venv})


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the report and write it beside the code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often everybody is asked (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each time (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1 or arguments.seconds <= 0:
        parser.error("--rounds must be 1 or more, --seconds above 0")
    # Whoever ends this early should not be left with the servers that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        text = measure(arguments.rounds, arguments.seconds)
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{text}\n")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.with_suffix(".new").write_text(f"{text}\n")
    RESULTS.with_suffix(".new").replace(RESULTS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
