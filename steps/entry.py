#!/usr/bin/env python3
"""Start a step: check what it needs, on AWS install what its image lacks, then run its script in this process.

    python entry.py SCRIPT [ARGUMENT ...]

Beside the script lies ``requirements.txt``, the step's locked requirements with hashes. On AWS's image, whatever of
them is missing or has another version is installed by hash, without dependencies, since the list is complete. A job
without a network finds them in the folder that ``WHEELS_DIR`` names. At home nothing is ever installed: the project's
own environment holds the same versions, and if it does not, this says so.
"""

from __future__ import annotations

import importlib
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from trafficsigns import failures
from trafficsigns.failures import StepError

LOCAL_MARK = "SAGEMAKER_EMBEDDED"
"""Set by the embedded SageMaker for every job: the environment belongs to somebody."""


def main(argv: Sequence[str]) -> int:
    """Run ``argv[0]`` with the rest as its arguments; returns its exit code, or 1 with one line on stderr."""
    if not argv:
        sys.stderr.write("usage: entry.py SCRIPT [ARGUMENT ...]\n")
        return 2
    script = Path(__file__).parent / argv[0]
    if status := failures.run(lambda: _prepare(script)):
        return status
    sys.argv = [str(script), *argv[1:]]
    runpy.run_path(str(script), run_name="__main__")
    return 0


def _prepare(script: Path) -> None:
    if not script.is_file():
        raise StepError(f"{script} does not exist: the step's code must hold it")
    lock = script.with_name("requirements.txt")
    missing = unmet(lock.read_text(encoding="utf-8")) if lock.is_file() else []
    listed = ", ".join(entry.split()[0] for entry in missing)
    if missing and LOCAL_MARK in os.environ:
        raise StepError(f"{script.name} needs {listed}, and this environment does not hold it: run make install")
    if missing:
        try:
            install(missing)
        except subprocess.CalledProcessError as error:
            raise StepError(f"pip could not install {listed} (exit code {error.returncode}): see its log") from error


def unmet(lock: str) -> list[str]:
    """Return the entries of a hash-locked list that are not installed in exactly that version.

    Each is a whole entry, ``name==version`` with marker and hashes, as it stands in the list.
    """
    text = lock.replace("\\\n", " ")
    # A line that starts with a dash is an option of pip's, one with # a comment.
    entries = [line.strip() for line in text.splitlines() if line.strip() and line.lstrip()[0] not in "#-"]
    return [entry for entry in entries if not _met(entry)]


def _met(entry: str) -> bool:
    requirement, _, marker = entry.partition(" --hash")[0].partition(";")
    if marker and not _applies(marker):
        return True
    name, _, version = requirement.strip().partition("==")
    try:
        # Of a package with extras, what these bring is listed on its own.
        return metadata.version(name.partition("[")[0]) == version
    except metadata.PackageNotFoundError:
        return False


def _applies(marker: str) -> bool:
    # Imported here: only a few entries carry a marker, and TensorFlow itself depends on this package.
    from packaging.markers import Marker

    return bool(Marker(marker.strip()).evaluate())


def install(entries: Sequence[str]) -> None:
    """Install entries by hash into this interpreter's environment. Raises ``CalledProcessError``."""
    # A job without a network must not even ask an index.
    folder = os.environ.get("WHEELS_DIR")
    source = ["--no-index", "--find-links", folder] if folder else []
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as lock:
        lock.write("\n".join(entries))
        lock.flush()
        options = ["--require-hashes", "--no-deps", "--no-input", *source, "--requirement", lock.name]
        subprocess.run([sys.executable, "-m", "pip", "install", *options], check=True)
    # The import system remembers what folders held.
    importlib.invalidate_caches()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
