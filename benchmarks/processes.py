"""Runs a command and says what it and all that it started took: seconds, processor seconds, memory."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PAUSE = 0.1


class CommandError(Exception):
    """A command that failed; the text is its last line."""


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    wall: float
    """Seconds from its start to its end; others who use the processors prolong it."""
    cpu: float
    """Seconds of processors, its own and those of all processes that it waited for."""
    megabytes: float
    """Largest sum over its processes of the memory that is theirs, shared pages counted by shares (PSS)."""
    output: str

    def __add__(self, other: Cost) -> Cost:
        """Put two commands one after the other."""
        peak = max(self.megabytes, other.megabytes)
        return Cost(self.wall + other.wall, self.cpu + other.cpu, peak, self.output + other.output)


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end. Raises ``CommandError`` if it fails."""
    begun = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    )
    with _watched(process.pid) as peak:
        gathered = _both(process)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise CommandError((gathered[1].strip().splitlines() or [f"exit code {process.returncode}"])[-1])
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak[0] / 1e6, gathered[0])


def _both(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Read both outputs to their ends without waiting for the process, whose usage wait4 must tell."""
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read() if process.stderr else ""))
    reader.start()
    output = process.stdout.read() if process.stdout else ""
    reader.join()
    return output, errors[0]


@contextmanager
def _watched(pid: int) -> Iterator[list[int]]:
    """Keep the largest memory of a process and its descendants, in bytes, while the block runs."""
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(_PAUSE):
            peak[0] = max(peak[0], sum(_proportional(each) for each in _descendants(pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from _descendants(int(child))


def _proportional(pid: int) -> int:
    with suppress(OSError, StopIteration, ValueError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return 0
