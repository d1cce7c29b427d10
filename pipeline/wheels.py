"""Wheel folders: what a step needs beyond AWS's image, laid into the bucket for jobs that reach no package index.

A folder's address is named by the step's lock, which names each wheel by its hash: it is known before anything is
downloaded, and changes when the lock does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import Requirement

from pipeline import objects
from pipeline.clouds import Cloud
from pipeline.code import STEPS, digest
from pipeline.settings import Settings

NEWEST_GLIBC = 34
"""Minor version of the newest C library that wheels may be built for: AWS's images have a newer one."""

PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in range(NEWEST_GLIBC, 4, -1)), "manylinux2014_x86_64")


class WheelsError(Exception):
    """Wheels that cannot be had, or are not where a job will look for them; the text is one line."""


def _lock(step: str) -> Path:
    return STEPS / "requirements" / f"{step}.txt"


def needed(step: str) -> bool:
    """Tell whether a step, by its script's name, needs anything beyond the image."""
    return _lock(step).is_file()


def address(step: str, settings: Settings, cloud: Cloud) -> str:
    """Return where a step's wheels lie."""
    name = digest({"requirements.txt": _lock(step).read_bytes(), "python": settings.images.python.encode()})
    return f"s3://{cloud.bucket}/{settings.name}/code/wheels/{step}/{name}"


def download(step: str, python: str, folder: Path, environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Download a step's locked wheels for AWS's machines and return them; ``python`` is such as ``py312``.

    Raises ``WheelsError`` with pip's own words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    version = f"{python.removeprefix('py')[0]}.{python.removeprefix('py')[1:]}"
    wanted = folder / "requirements.txt"
    wanted.write_text(for_python(_lock(step).read_text(encoding="utf-8"), version), encoding="utf-8")
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    options = ["--require-hashes", "--no-deps", "--only-binary=:all:", "--python-version", version, *platforms]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *options]
    done = subprocess.run(
        [*command, "--dest", str(folder), "--requirement", str(wanted)],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"pip ended with exit code {done.returncode}"]
        raise WheelsError(f"the wheels of {_lock(step)} cannot be had: {lines[-1]}")
    return sorted(folder.glob("*.whl"))


def for_python(lock: str, version: str) -> str:
    """Return what of a lock is meant for a version of Python on AWS's machines, such as ``3.12``, without conditions.

    pip looks for wheels of the version that it is told, but holds conditions against the Python that it runs on.
    """
    machine = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}
    target = {**machine, "python_version": version, "python_full_version": f"{version}.0"}
    kept = []
    for line in lock.replace("\\\n", " ").splitlines():
        text, *hashes = line.split(" --hash=")
        if not text.strip() or text.startswith("#"):
            continue
        requirement = Requirement(text.strip())
        if requirement.marker is None or requirement.marker.evaluate(target):
            requirement.marker = None
            kept.append(" --hash=".join([str(requirement), *(each.strip() for each in hashes)]))
    return "".join(f"{line}\n" for line in kept)


def upload(cloud: Cloud, place: str, wheels: Iterable[Path]) -> int:
    """Lay wheels at an S3 address, and return how many were not there yet."""
    s3, (bucket, prefix) = cloud.client("s3"), objects.split(place)
    there = set(objects.keys(s3, bucket, f"{prefix}/"))
    new = [wheel for wheel in wheels if f"{prefix}/{wheel.name}" not in there]
    for wheel in new:
        s3.upload_file(str(wheel), bucket, f"{prefix}/{wheel.name}")
    return len(new)


def require(cloud: Cloud, places: Iterable[str]) -> None:
    """Raise ``WheelsError`` if nothing lies at one of the addresses."""
    for place in sorted(places):
        bucket, prefix = objects.split(place)
        if next(objects.keys(cloud.client("s3"), bucket, f"{prefix}/"), None) is None:
            raise WheelsError(
                f"a job without a network needs wheels at {place}, and there are none: run `signs wheels`"
            )
