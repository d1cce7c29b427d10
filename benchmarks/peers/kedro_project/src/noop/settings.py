"""Kedro's settings: one hook that measures."""

import sys
import time
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl

sys.path.append(str(Path(__file__).parents[3]))

from evidence import note_seconds


class Clock:
    """Measures a run from the inside."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Start."""
        self._start = time.perf_counter()

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Stop."""
        note_seconds(time.perf_counter() - self._start)


HOOKS = (Clock(),)
