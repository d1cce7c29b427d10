"""moto as one WSGI application whose state outlives the process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.exceptions import HTTPException

from infra.local.neighbours import cloudwatch, logs, policies, snapshots, storage, turns, units

_READS = ("Describe", "Get", "Head", "List")
"""How the names of actions begin that change nothing."""


def _reads_only(environ: dict[str, Any]) -> bool:
    # The query protocol names its action in the body; such a call is saved if what it touched has changed.
    action = str(environ.get("HTTP_X_AMZ_TARGET", "")).rpartition(".")[2]
    if action:
        return action.startswith(_READS)
    return environ["REQUEST_METHOD"] in ("GET", "HEAD", "OPTIONS") and "Action=" not in environ["QUERY_STRING"]


def _application(service: Any) -> Any:
    application = create_backend_app(service)
    if service == "s3":
        application.request_class = storage.Request
    return application


def in_use(service: str) -> bool:
    """Whether anybody has called one of moto's services, of this process or of the one whose state it took up."""
    return f"moto.{service}.models" in sys.modules


class DurableMoto:
    """Answers for every service but SageMaker, from and to a state folder."""

    def __init__(self, state: Path) -> None:
        """Load the state.

        Raises ``snapshots.Refused`` where the folder was written by another version.
        """
        for module in (turns, snapshots, units, logs, cloudwatch, policies):
            module.install()
        storage.install(state / "objects")
        self._snapshots = snapshots.Snapshots(state, units.KINDS)
        self._snapshots.load()
        self._dispatcher = DomainDispatcherApplication(_application)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one WSGI request: take in its body, let moto answer, and save what that changed."""
        try:
            with storage.received(environ, lambda shown: str(self._application(shown).service)) as complete:
                application = self._application(complete)
                with self._snapshots.call(_reads_only(complete)):
                    answer: Iterable[bytes] = application(complete, start_response)
                    return answer
        except HTTPException as error:
            # The body was not what its headers say.
            return error(environ, start_response)

    def _application(self, environ: dict[str, Any]) -> Any:
        # The first request to a service imports and fills it.
        with turns.turn():
            return self._dispatcher.get_application(environ)

    def reading(self) -> AbstractContextManager[None]:
        """Keep others out of moto for a block that reads its state."""
        return self._snapshots.call(reads_only=True)

    def close(self) -> None:
        """Close the files."""
        self._snapshots.close()
