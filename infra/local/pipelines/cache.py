"""Step caching: answers a step from an earlier execution whose job was given the same.

Source: developer guide, "Default cache key attributes by pipeline step type": for each step type some attributes of its
job count, within one pipeline; S3 addresses are compared, not contents; the latest success inside the expiry answers.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from infra.local.service import now
from infra.local.store import Record, Store

ATTRIBUTES = {
    "ProcessingJob": ("AppSpecification", "Environment", "ProcessingInputs"),
    "TrainingJob": (
        "AlgorithmSpecification",
        "CheckpointConfig",
        "DebugHookConfig",
        "DebugRuleConfigurations",
        "Environment",
        "HyperParameters",
        "InputDataConfig",
    ),
    "TransformJob": ("DataProcessing", "Environment", "ModelName", "TransformInput"),
}
"""What makes two jobs of a kind the same; instance types, counts and outputs do not."""

_DURATION = re.compile(
    r"P?(?:(?P<w>\d+)W)?(?:(?P<d>\d+)D)?(?:T(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+)S)?)?", re.IGNORECASE
)
_SECONDS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}


def seconds(duration: str) -> int:
    """Return the seconds of an ISO 8601 duration, with or without its ``P``, as definitions have it (``30d``, ``T5h``).

    Raises ``ValueError`` for a text that is none.
    """
    match = _DURATION.fullmatch(duration)
    if match is None or not any(match.groups()):
        raise ValueError(f"'{duration}' is no ISO 8601 duration such as P30D or PT5H")
    return sum(int(count) * _SECONDS[unit] for unit, count in match.groupdict().items() if count)


class StepCache:
    """The successes of one pipeline's steps."""

    def __init__(self, store: Store, pipeline: str) -> None:
        self._store, self._pipeline = store, pipeline

    def find(self, step: Record, kind: str, arguments: Record) -> Record | None:
        """Return the latest success of this very step with these arguments, if its cache is on and it is not too old.

        The record holds ``Arn``, the job's, and ``PipelineExecutionArn``.
        """
        config = step.get("CacheConfig", {})
        if not config.get("Enabled") or kind not in ATTRIBUTES:
            return None
        found = self._store.get("StepCache", self._key(step["Name"], kind, arguments))
        oldest = now() - seconds(config["ExpireAfter"]) if "ExpireAfter" in config else 0
        return found if found is not None and found["CreationTime"] >= oldest else None

    def keep(self, step: Record, kind: str, arguments: Record, arn: str, execution: str) -> None:
        """Remember a success, also where the cache is off: a later definition may turn it on."""
        if kind not in ATTRIBUTES:
            return
        key = self._key(step["Name"], kind, arguments)
        with self._store.exclusive():
            self._store.delete("StepCache", key)
            self._store.insert("StepCache", key, {"Arn": arn, "PipelineExecutionArn": execution, "CreationTime": now()})

    def _key(self, name: str, kind: str, arguments: Record) -> str:
        compared: dict[str, Any] = {attribute: arguments.get(attribute) for attribute in ATTRIBUTES[kind]}
        digest = hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()
        return f"{self._pipeline}/{name}/{digest}"
