"""Where a model comes from, as far as the repository knows: its commit, and the last one that changed the steps."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from pipeline.code import digest, files_of, sources_of
from pipeline.settings import ROOT

UNKNOWN = "unknown"

MAKERS = ("preprocess.py", "validate.py", "train.py", "evaluate.py")
"""The scripts that make a model and judge it."""


def parameters(definition: str | None) -> dict[str, str]:
    """Return the lineage parameters for a start of the pipeline with this definition (JSON), those that it declares.

    ``Commit`` is the repository's, for the registry. ``StepsCommit`` is the last one that changed what the steps run:
    it is an argument of Evaluate, and so must stay the same where the code does, or no cache would ever answer. Both
    are unknown where the pipeline runs other code than this repository holds.
    """
    if definition is None:
        return {}
    here = all(f"/code/{Path(script).stem}/{digest(files_of(script))}" in definition for script in MAKERS)
    found = {"Commit": commit(), "StepsCommit": steps_commit()} if here else {}
    declared = {parameter["Name"] for parameter in json.loads(definition).get("Parameters", [])}
    return {name: found.get(name, UNKNOWN) for name in ("Commit", "StepsCommit") if name in declared}


def commit(root: Path = ROOT) -> str:
    """Return the repository's commit, marked when files differ from it, or ``unknown`` outside a repository."""
    return _git(root, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*") or UNKNOWN


def steps_commit(root: Path = ROOT) -> str:
    """Return the last commit that changed what the steps run, marked when that differs from it, or ``unknown``.

    In a shallow clone it may be the clone's oldest commit, which holds the same code.
    """
    steps = root / "steps"
    files = sorted({str(path) for script in MAKERS for path in sources_of(script, steps).values()})
    last = _git(root, "log", "-1", "--format=%h", "--abbrev=12", "--", *files)
    if not last:
        return UNKNOWN
    return f"{last}-dirty" if _git(root, "status", "--porcelain", "--", *files) else last


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
