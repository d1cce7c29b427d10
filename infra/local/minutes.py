"""What happens once in each of AWS's minutes: metrics are sent, alarms judged, variants scaled."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from infra.local.clock import MINUTE, Clock

logger = logging.getLogger(__name__)

_LATE = 0.02
"""Seconds after a minute's end at which it is looked at, so that it is over for everybody."""


class Minutes:
    """Calls functions, one after the other, when each of AWS's minutes is over."""

    def __init__(self, clock: Clock, functions: Sequence[Callable[[], None]]) -> None:
        self._clock, self._functions = clock, functions
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Call nothing any more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        length = self._clock.here(MINUTE)
        while not self._ended.wait(self._clock.period(MINUTE) + length + _LATE - time.time()):
            for function in self._functions:
                try:
                    function()
                except Exception:
                    # The edge of a thread: what fails in one minute is tried again in the next.
                    logger.exception("a minute's work failed")
