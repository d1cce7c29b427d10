"""How tests ask about processes, their own and those of what they test."""

from __future__ import annotations

import os
import time
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and waits to be buried does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        # It ended just now; or this system tells nothing of the kind, and the unburied count as alive.
        return not Path("/proc/self").exists()
    # The name before the state is in parentheses and may hold any character, parentheses too.
    return stat.rpartition(")")[2].split()[0] != "Z"


def await_end(*pids: int, seconds: float = 10) -> None:
    """Fail unless these processes have ended within moments: a signal does not wait for its effect."""
    deadline = time.monotonic() + seconds
    while living := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < deadline, f"still alive after {seconds} s: {living}"
        time.sleep(0.01)
