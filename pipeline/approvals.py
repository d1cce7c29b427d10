"""Approving and rejecting versions: what speaks against it, who did it when and why, and what follows from it."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime

from pipeline import endpoints, gate, registry
from pipeline.clouds import Cloud
from pipeline.registry import RegistryError, Version
from pipeline.settings import ROOT, Settings

LENGTH = 1024
"""Characters of an approval description, SageMaker's limit."""

EARLIER = " | "
"""Stands between a decision and the one before it."""


def approve(settings: Settings, cloud: Cloud, found: Version, reason: str, force: bool = False) -> list[str]:
    """Approve a version and return what there is to say about it.

    Raises ``RegistryError`` that names each of today's bounds that it misses, with both numbers, unless ``force``.
    """
    against = objections(settings, cloud, found)
    if against and not force:
        raise RegistryError(
            f"version {found.number} would be turned down today: {'; '.join(against)}. "
            "Approve it with --force all the same"
        )
    decide(cloud, found, "Approved", f"{reason} (against today's bounds)" if against else reason)
    said = [f"against today's bounds: {each}" for each in against]
    newest = registry.newest_approved(cloud, settings.model_package_group)
    if newest is not None and newest.number > found.number:
        said.append(f"version {newest.number} is newer and approved too: that one serves")
    return said


def objections(settings: Settings, cloud: Cloud, found: Version) -> list[str]:
    """Return what speaks against a version: the bounds of the settings that it misses, or that it cannot be judged."""
    try:
        metrics = registry.evaluation(cloud, found)["metrics"]
    except RegistryError as error:
        return [str(error)]
    return [str(each) for each in gate.missed(gate.bounds(settings), metrics)]


def reject(settings: Settings, cloud: Cloud, found: Version, reason: str) -> list[str]:
    """Reject a version and return what there is to say: if it serves, which one will serve next."""
    decide(cloud, found, "Rejected", reason)
    try:
        live = endpoints.live(cloud, settings.endpoint)
    except endpoints.EndpointError:
        return []
    if live != found.arn:
        return []
    successor = registry.newest_approved(cloud, settings.model_package_group)
    if successor is None:
        return [
            f"version {found.number} serves, and none is approved: it serves on until one is, or until "
            "`signs endpoint delete`"
        ]
    return [
        f"version {found.number} serves now; version {successor.number} serves next, as soon as the approval rule, or "
        "`signs deploy`, has started the deployment"
    ]


def decide(cloud: Cloud, found: Version, status: str, reason: str) -> None:
    """Set a version's approval status, ``Approved`` or ``Rejected``, and keep who did it, when and why."""
    told = description(status, reason, who(cloud, os.environ), datetime.now(UTC), found.description)
    cloud.client("sagemaker").update_model_package(
        ModelPackageArn=found.arn, ModelApprovalStatus=status, ApprovalDescription=told
    )


def description(status: str, reason: str, person: str, when: datetime, before: str = "") -> str:
    """Write down a decision on one line: the reason, then the person and the time, then what was written ``before``.

    Where that is too long for SageMaker, the oldest gives way first, and a reason only when it alone is too long.
    """
    signature = f"{status} by {person}, {when:%Y-%m-%d %H:%M} UTC"
    why = " ".join(reason.split())
    latest = f"{_cut(why, LENGTH - len(signature) - 3)} ({signature})" if why else signature
    room = LENGTH - len(latest) - len(EARLIER)
    return f"{latest}{EARLIER}{_cut(before, room)}" if before and room > 0 else latest


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def who(cloud: Cloud, environment: Mapping[str, str]) -> str:
    """Return who decides: on AWS the caller's identity, and in a workflow of GitHub's who started that.

    At home it is git's user, or without one the user of this machine.
    """
    if cloud.kind == "aws":
        arn = str(cloud.client("sts").get_caller_identity()["Arn"])
        actor = environment.get("GITHUB_ACTOR")
        return f"{arn} for {actor}" if actor else arn
    command = ["git", "-C", str(ROOT), "var", "GIT_AUTHOR_IDENT"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return _user()
    # Behind the name and the address stand a time and a time zone.
    return done.stdout.rpartition(">")[0] + ">" if done.returncode == 0 else _user()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a number that has no name.
        return f"user {os.getuid()}"
