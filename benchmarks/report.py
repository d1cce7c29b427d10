"""Figures as Markdown."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.contestants import VENVS


def spread(seconds: Sequence[float]) -> str:
    """Return minimum, median and maximum."""
    digits = 2 if min(seconds) >= 0.1 else 3
    return f"{min(seconds):.{digits}f} / **{statistics.median(seconds):.{digits}f}** / {max(seconds):.{digits}f}"


def ratio(seconds: Sequence[float], ours: Sequence[float]) -> str:
    """Return how many times our median another's is."""
    return f"{statistics.median(seconds) / statistics.median(ours):.2g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def load() -> str:
    """Return how busy the machine is, in processes that run or wait to (last minute's average)."""
    return f"{os.getloadavg()[0]:.1f}"


def machine(
    load_before: str,
    ours: Sequence[str] = ("moto", "boto3"),
    tools: Sequence[str] = ("metaflow", "kedro", "prefect", "zenml"),
) -> str:
    """Describe where and with what the figures were taken: packages of our environment, and of each tool's own."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    facts = {
        "Date": f"{datetime.now(UTC):%Y-%m-%d}",
        "Processor": f"{processor()}, {os.cpu_count()} cores",
        "Memory": f"{memory:.0f} GiB",
        "Load before the start": f"{load_before} (others' work on the machine makes every figure here worse)",
        "System": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
        "Versions": ", ".join(_versions(ours, tools)),
    }
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())


def processor() -> str:
    """Name the processor, as the system does."""
    info = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return match[1] if match else platform.processor() or platform.machine()


def _versions(packages: Sequence[str], tools: Sequence[str]) -> list[str]:
    ours = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    theirs = []
    for tool in tools:
        folders = [str(path) for path in (VENVS / tool).glob("lib/python3*/site-packages")]
        found = list(importlib.metadata.distributions(name=tool, path=folders)) if folders else []
        theirs += [f"{tool} {found[0].version}"] if found else []
    return ours + theirs
