"""Which of a job's machines this is.

SageMaker writes it to ``/opt/ml/config/resourceconfig.json``: ``current_host`` and ``hosts``. Source: developer guide,
"How Amazon SageMaker AI Configures Input and Output For Your Processing Container".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from trafficsigns.failures import StepError


@dataclass(frozen=True)
class Instance:
    """One of ``count`` machines, numbered from 0 in the order of their names."""

    number: int = 0
    count: int = 1


def own(config: Path) -> Instance:
    """Read which machine this is; where there is no such file, as by hand, it is the only one.

    Raises ``StepError`` for a file that does not tell.
    """
    if not config.is_file():
        return Instance()
    try:
        told = json.loads(config.read_text(encoding="utf-8"))
        # "algo-10" would come before "algo-2" by name alone; any order will do that all machines agree on.
        hosts = sorted(told["hosts"], key=lambda host: (len(host), host))
        return Instance(hosts.index(told["current_host"]), len(hosts))
    except (ValueError, KeyError, TypeError) as error:
        raise StepError(f"{config} does not tell which machine this is ({error!r})") from error
