"""How executions look on a terminal: a live table for people, a line a change where nobody watches."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from pipeline import executions, lifecycle
from pipeline.clouds import Cloud
from pipeline.executions import Snapshot, Step
from pipeline.registry import RegistryError

STYLES = {
    "Waiting": "dim",
    "Starting": "cyan",
    "Executing": "cyan",
    "Stopping": "yellow",
    "Stopped": "yellow",
    "Succeeded": "green",
    "Failed": "bold red",
}


class ExecutionView:
    """Shows an execution while it runs; use as a context and call it with each snapshot."""

    def __init__(self, cloud: Cloud, console: Console) -> None:
        self._cloud, self._console = cloud, console
        self._lines: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._live = Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state standing."""
        if self._live is not None:
            self._live.stop()

    def __call__(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        for step in snapshot.steps:
            if step.job and self._told.get(step.name) not in executions.FINAL:
                last = executions.log(self._cloud, step, last=1)
                self._lines[step.name] = last[-1].strip() if last else ""
        if self._live is not None:
            self._live.update(table(snapshot, self._lines), refresh=True)
        else:
            self._print_changes(snapshot)
        self._told = {step.name: step.status for step in snapshot.steps}

    def _print_changes(self, snapshot: Snapshot) -> None:
        for step in snapshot.steps:
            if step.status != self._told.get(step.name, "Waiting"):
                note = step.reason or step.detail or self._lines.get(step.name, "")
                self._console.print(
                    f"{step.name:<18} {step.status:<10} {duration(step):>7}  {note}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )


def table(snapshot: Snapshot, lines: dict[str, str]) -> Table:
    """Lay a snapshot out: one row a step with its state, its time and what it said last."""
    view = Table(title=f"execution {snapshot.identifier}: {snapshot.status}", title_justify="left", expand=True)
    view.add_column("step", no_wrap=True)
    view.add_column("state", no_wrap=True)
    view.add_column("time", justify="right", no_wrap=True)
    view.add_column("last word", ratio=1, no_wrap=True, overflow="ellipsis")
    for step in snapshot.steps:
        word = step.reason or step.detail or lines.get(step.name, "")
        state = f"{step.status}, cached" if step.cached else step.status
        view.add_row(step.name, f"[{STYLES.get(step.status, '')}]{state}[/]", duration(step), escape(word))
    return view


def tell_missed(cloud: Cloud, snapshot: Snapshot) -> None:
    """Say which of the gate's bounds an execution's model missed, with both numbers; on stderr, for people."""
    told = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        for each in lifecycle.missed(cloud, snapshot):
            told.print(f"[bold red]missed[/]: {escape(str(each))} ({each.name})")
    except RegistryError as error:
        # That the gate turned the model down is known without it.
        told.print(f"the missed bounds cannot be told: {escape(str(error))}")


def duration(step: Step) -> str:
    """Return how long a step took, such as ``1:04``, or nothing if it has not begun."""
    if step.seconds is None:
        return ""
    minutes, seconds = divmod(round(step.seconds), 60)
    return f"{minutes}:{seconds:02d}"


class Downloads:
    """Shows downloads as bars; use as a context and call it with a file's name, its bytes here, and all it has."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console)
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        """Begin to show; where nothing is downloaded, nothing is shown."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state standing."""
        self._progress.stop()

    def __call__(self, name: str, here: int, total: int | None) -> None:
        """Show how far a file has come."""
        if name not in self._bars:
            self._progress.start()
            self._bars[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._bars[name], completed=here, total=total)
