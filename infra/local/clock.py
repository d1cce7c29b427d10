"""The local clock scale: what AWS counts in minutes passes here in seconds.

Waiting is scaled: bake times, alarm periods, cool-downs, the minutes of metrics. Work is not: a model that takes eight
seconds to start takes eight seconds, so limits on work are kept as they are.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass

VARIABLE = "SAGEMAKER_EMBEDDED_CLOCK"
"""The environment variable that says how many of AWS's seconds pass in one of this machine's."""

MINUTE = 60.0
"""Seconds of AWS between two points of a metric."""


@dataclass(frozen=True)
class Clock:
    """How fast AWS's waits pass here: ``speed`` of its seconds in one of this machine's."""

    speed: float = 60.0

    def here(self, seconds: float) -> float:
        """Return how many of this machine's seconds a wait of AWS takes."""
        return seconds / self.speed

    def period(self, seconds: float, moment: float | None = None) -> float:
        """Return when the latest whole period of AWS seconds ended, as epoch seconds of this machine."""
        length = self.here(seconds)
        return math.floor((time.time() if moment is None else moment) / length) * length


def chosen() -> Clock:
    """Return the clock that the environment sets. Raises ``RuntimeError`` for a speed that is none."""
    text = os.environ.get(VARIABLE, "")
    try:
        speed = float(text or Clock.speed)
    except ValueError:
        speed = math.nan
    if not 1.0 <= speed <= 600.0:
        raise RuntimeError(f"{VARIABLE} is '{text}': expected a number from 1 (as on AWS) to 600")
    return Clock(speed)
