"""In whose name something is done: jobs, pipelines, rules and models act as their roles, if that is switched on.

By default whoever acts may do everything, as nobody on a laptop has policies. With
``SAGEMAKER_EMBEDDED_ROLES=enforced`` each of them gets credentials of its own role, and every call is held against the
role's policies.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from werkzeug.wrappers import Request, Response

from infra.local.store import Record

SWITCH = "SAGEMAKER_EMBEDDED_ROLES"
"""The server's environment variable for what roles mean: ``free`` (the default), nothing, or ``enforced``."""

SAGEMAKER, EVENTS = "sagemaker.amazonaws.com", "events.amazonaws.com"


@dataclass(frozen=True)
class Actor:
    """One who acts."""

    client: Callable[[str], Any]
    """Makes boto3 clients."""
    call: Callable[[str, Record], Record]
    """Calls an action of SageMaker."""
    environment: Mapping[str, str]
    """Credentials, as the variables of a process."""


class Rights(Protocol):
    """Who may do what."""

    def actor(self, role_arn: str | None, service: str = SAGEMAKER, context: Mapping[str, str] | None = None) -> Actor:
        """Return who acts in the name of a role that a service takes on.

        Raises ``ServiceError`` where the role does not exist, or does not trust the service.
        """

    def refusal(self, request: Request) -> Response | None:
        """Return the answer to a request that is not allowed, or ``None``."""


class Free:
    """Whoever acts may do everything."""

    def __init__(self, client: Callable[[str], Any], call: Callable[[str, Record], Record]) -> None:
        self._anyone = Actor(client, call, {})

    def actor(self, role_arn: str | None, service: str = SAGEMAKER, context: Mapping[str, str] | None = None) -> Actor:
        """Return the server itself."""
        return self._anyone

    def refusal(self, request: Request) -> Response | None:
        """Refuse nothing."""
        return None


def enforced() -> bool:
    """Tell whether roles mean something. Raises ``RuntimeError`` for a ``SWITCH`` that says neither."""
    said = os.environ.get(SWITCH, "free")
    if said not in ("free", "enforced"):
        raise RuntimeError(f"{SWITCH} is '{said}': expected 'free' or 'enforced'")
    return said == "enforced"
