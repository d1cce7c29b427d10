"""Child processes that end when they should: with all that they started, and never later than this program."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

_WATCH = 'read -r _; kill -s KILL -- "-$0"'
"""Waits for the end of standard input, which comes with the death of the program at its other end, however it died."""


class Child:
    """A process in a session of its own, and a watcher that ends that session should this program die first."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], **options: Any) -> None:
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            env={**inherited(), **environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **options,
        )
        self._watcher = subprocess.Popen(
            ["sh", "-c", _WATCH, str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._released = False

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def stop(self, grace_seconds: float) -> None:
        """Ask the session to end (SIGTERM), and after the grace kill it."""
        if self.running:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self.process.wait()

    def release(self) -> None:
        """Kill what is left of the session, as when a container ends; every child must be released, once or more."""
        if self._released:
            return
        self._released = True
        self._watcher.kill()
        self._signal(signal.SIGKILL)
        self._watcher.communicate()

    def _signal(self, number: signal.Signals) -> None:
        # macOS answers "not permitted" for a session of which only the dead are left.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


def inherited() -> dict[str, str]:
    """Return what a job's environment takes over from the server's.

    Not the caller's AWS or SageMaker variables: a job must reach this cloud and no other, and be told so by its own.
    The model servers' engine is a setting of the server, which a container's own environment may override.
    """
    foreign = ("AWS_", "SAGEMAKER_", "SM_", "TRAINING_JOB_", "PYTHON")
    return {
        key: value
        for key, value in os.environ.items()
        if key == "SAGEMAKER_EMBEDDED_ENGINE" or not key.startswith(foreign)
    }
