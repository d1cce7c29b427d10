"""An update under way: the new fleet starts, takes over step by step, and gives way again if an alarm goes off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from infra.local.clock import Clock
from infra.local.endpoints.fleets import Fleet
from infra.local.endpoints.plans import Plan

POLL_SECONDS = 0.1

Alarms = Callable[[Iterable[str]], list[str]]
"""Answers which of the named alarms are in state ALARM."""


@dataclass(frozen=True)
class Traffic:
    """Who answers an endpoint's requests: the fleet that serves, and during an update the next one's share."""

    serving: Fleet | None = None
    coming: Fleet | None = None
    share: float = 0.0


class RolledBack(Exception):
    """An update whose traffic goes back to the old fleet; the text is a ``FailureReason``."""


@dataclass(frozen=True)
class Rollout:
    """What one update needs to move traffic from one fleet to the next."""

    old: Fleet | None
    new: Fleet
    plan: Plan
    clock: Clock
    alarms: Alarms
    route: Callable[[Traffic], None]
    closing: Callable[[], bool]
    """Whether the server ends, and with it every wait."""

    def run(self) -> Iterator[str]:
        """Carry the update out, and yield the variants' status whenever it changes.

        Raises ``UnservableModel`` when the new fleet does not start, and ``RolledBack`` when an alarm goes off or time
        runs out; the traffic is the old fleet's again before that.
        """
        started = time.monotonic()
        yield "Creating"
        self.new.start()
        if self.old is None:
            self.route(Traffic(self.new))
            return
        try:
            for share in self.plan.shares:
                self._check(started)
                yield "ActivatingTraffic"
                self.route(Traffic(self.old, self.new, share))
                yield "Baking"
                self._watch(self.plan.bake, started)
            self._watch(self.plan.linger, started)
        except BaseException:
            self.route(Traffic(self.old))
            raise
        self.route(Traffic(self.new))

    def _watch(self, seconds: float, started: float) -> None:
        """Look at the alarms for some of AWS's seconds."""
        end = time.monotonic() + self.clock.here(seconds)
        while (left := end - time.monotonic()) > 0 and not self.closing():
            time.sleep(min(POLL_SECONDS, left))
            self._check(started)

    def _check(self, started: float) -> None:
        if tripped := self.alarms(self.plan.alarms):
            raise RolledBack(
                f"One or more configured alarms are in ALARM state: {', '.join(tripped)}. "
                f"All traffic is back on endpoint configuration {self.old.name if self.old else 'none'}."
            )
        if self.plan.limit is not None and time.monotonic() - started > self.plan.limit:
            raise RolledBack(f"The deployment did not end within {self.plan.limit:.0f} seconds.")
