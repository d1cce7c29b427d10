#!/usr/bin/env python3
"""Start a step: check what it needs, on AWS install what its image lacks, then run its script in this process.

    python entry.py SCRIPT [ARGUMENT ...]

Beside the script lies ``requirements.txt``, the step's locked requirements with hashes. On AWS's image, whatever of
them is missing or has another version is installed by hash, without dependencies, since the list is complete. At home
nothing is ever installed: the project's own environment holds the same versions, and if it does not, this says so.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

LOCAL_MARK = "SAGEMAKER_EMBEDDED"
"""Set by the embedded SageMaker for every job: the environment belongs to somebody."""


def main(argv: Sequence[str]) -> int:
    """Run ``argv[0]`` with the rest as its arguments; returns its exit code, or 1 with one line on stderr."""
    if not argv:
        sys.stderr.write("usage: entry.py SCRIPT [ARGUMENT ...]\n")
        return 2
    script = Path(__file__).with_name(argv[0])
    lock = script.with_name("requirements.txt")
    missing = unmet(lock.read_text(encoding="utf-8")) if lock.is_file() else []
    if missing and LOCAL_MARK in os.environ:
        listed = ", ".join(entry.split()[0] for entry in missing)
        return _fail(f"{argv[0]} needs {listed}, and this environment does not hold it: run make install")
    if missing:
        install(missing)
    sys.argv = [str(script), *argv[1:]]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")
    return 0


def _fail(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    folder = Path(os.environ.get("SM_OUTPUT_DIR", "/opt/ml/output"))
    if folder.is_dir():
        (folder / "message").write_text(reason, encoding="utf-8")
    return 1


def unmet(lock: str) -> list[str]:
    """Return the entries of a hash-locked list that are not installed in exactly that version.

    Each is a whole entry, ``name==version`` with marker and hashes, as it stands in the list.
    """
    text = lock.replace("\\\n", " ")
    entries = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [entry for entry in entries if not _met(entry)]


def _met(entry: str) -> bool:
    requirement, _, marker = entry.partition(" --hash")[0].partition(";")
    if marker and not _applies(marker):
        return True
    name, _, version = requirement.strip().partition("==")
    try:
        return metadata.version(name) == version
    except metadata.PackageNotFoundError:
        return False


def _applies(marker: str) -> bool:
    # Imported here: only a few entries carry a marker, and TensorFlow itself depends on this package.
    from packaging.markers import Marker

    return bool(Marker(marker.strip()).evaluate())


def install(entries: Sequence[str]) -> None:
    """Install entries by hash into this interpreter's environment. Raises ``CalledProcessError``."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as lock:
        lock.write("\n".join(entries))
        lock.flush()
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--require-hashes",
            "--no-deps",
            "--no-input",
            "-r",
            lock.name,
        ]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
