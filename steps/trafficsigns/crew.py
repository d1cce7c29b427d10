"""Processes that share the work on one archive; what they return does not show how many they were.

They are spawned, not forked: the caller may run threads (TensorFlow does), and a fork would copy their locks. What they
import is what the given functions need, so these live in modules without TensorFlow.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from trafficsigns.failures import StepError
from trafficsigns.sources import Archive, open_archive

Task = TypeVar("Task")
Result = TypeVar("Result")

CHUNK = 256
"""Images in one task: enough that handing it over costs nothing, few enough that waiting results stay small."""

_WAITING = 12
"""Tasks under way or done for each process; a slow reader must not let results pile up."""

_FEW = 4096
"""Images for which another process is not worth its start."""

_archive: list[Archive] = []


def size(images: int, most: int | None = None) -> int:
    """Say how many processes a number of images is worth: as many as there are processors, or ``most``."""
    return max(1, min(most or os.cpu_count() or 1, -(-images // _FEW)))


def chunks(items: Sequence[Task]) -> Iterator[Sequence[Task]]:
    """Cut a sequence into pieces of ``CHUNK``."""
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


class Crew:
    """Some processes, each with the archive open; use as a context."""

    def __init__(self, archive: Archive, place: tuple[Path, Path | None], processes: int) -> None:
        self._archive = archive
        self._width = processes * _WAITING
        self._pool: ProcessPoolExecutor | None = None
        if processes > 1:
            self._pool = ProcessPoolExecutor(processes, get_context("spawn"), _open, place)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what was not asked for any more and end the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Archive, Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Apply a function to the archive and each task, and return the results in the tasks' order.

        Work begins at once, before the first result is asked for. Raises what the function raises, and ``StepError``
        when a process died.
        """
        if self._pool is None:
            return (function(self._archive, task) for task in tasks)
        remaining = iter(tasks)
        return self._results(deque(self._begun(function, islice(remaining, self._width))), function, remaining)

    def _begun(self, function: Callable[..., Any], tasks: Iterable[Any]) -> list[Future[Any]]:
        assert self._pool is not None
        with _alive():
            return [self._pool.submit(_call, function, task) for task in tasks]

    def _results(
        self, waiting: deque[Future[Any]], function: Callable[..., Any], tasks: Iterator[Any]
    ) -> Iterator[Any]:
        while waiting:
            with _alive():
                result = waiting.popleft().result()
            waiting.extend(self._begun(function, islice(tasks, 1)))
            yield result


@contextmanager
def _alive() -> Iterator[None]:
    """Turn the death of a process into a ``StepError``."""
    try:
        yield
    except BrokenProcessPool as error:
        raise StepError("a worker process was killed, for want of memory perhaps: try fewer --workers") from error


def _open(folder: Path, images: Path | None) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _archive[:] = [open_archive(folder, images)]


def _end_with_the_parent() -> None:
    """Wait for the parent's end: whoever kills it would otherwise leave its workers waiting for tasks for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(function: Callable[[Archive, Task], Result], task: Task) -> Result:
    return function(_archive[0], task)
