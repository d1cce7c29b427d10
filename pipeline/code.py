"""Code channels: for each step its script and exactly what that script imports, under a content hash.

A step's cache key holds the address of its code and not the content, so the address must change when the content does,
and at no other time. Touching one module moves only the channels of the scripts that import it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import objects
from pipeline.settings import ROOT

STEPS = ROOT / "steps"

COMPANIONS: Mapping[str, tuple[str, ...]] = {
    "trafficsigns/card.py": ("trafficsigns/card.md.j2",),
    "trafficsigns/report.py": ("trafficsigns/report.html.j2",),
    "train.py": ("serving/inference.py",),
}
"""Files that a module reads at run time, which no import shows; relative to ``steps/``."""


def files_of(script: str, steps: Path = STEPS) -> dict[str, bytes]:
    """Return a script's channel: paths relative to ``steps/`` and contents, in order.

    It holds the script, every module of the steps' library that it imports, directly or not, and their companions; and
    where the step has locked requirements, those as ``requirements.txt`` with the entry script that sees to them.
    """
    return {name: path.read_bytes() for name, path in sources_of(script, steps).items()}


def sources_of(script: str, steps: Path = STEPS) -> dict[str, Path]:
    """Return which files a script's channel is made of, by their names in it, in order."""
    lock = steps / "requirements" / f"{Path(script).stem}.txt"
    found: set[str] = set()
    waiting = [script, "entry.py"] if lock.is_file() else [script]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if name.endswith(".py"):
            waiting += [*_imports(steps / name, steps), *COMPANIONS.get(name, ())]
    channel = {name: steps / name for name in found}
    if lock.is_file():
        channel["requirements.txt"] = lock
    return dict(sorted(channel.items()))


def _imports(module: Path, steps: Path) -> set[str]:
    """Return the files below ``steps`` that a module imports, with the packages that they lie in."""
    dotted: set[str] = set()
    for node in ast.walk(ast.parse(module.read_bytes(), module.name)):
        if isinstance(node, ast.Import):
            dotted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            dotted |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    names: set[str] = set()
    for name in dotted:
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            path = Path(*parts[:end])
            names |= {c.as_posix() for c in (path.with_suffix(".py"), path / "__init__.py") if (steps / c).is_file()}
    return names


def digest(files: Mapping[str, bytes]) -> str:
    """Return 16 hexadecimal digits that stand for names and contents."""
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()[:16]


class Staging:
    """Files that a definition refers to, gathered while it is built and uploaded when it is sent."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix
        self._objects: dict[str, bytes] = {}
        self.expected: set[str] = set()
        """Addresses at which something must lie already when the definition is sent."""

    def add(self, name: str, files: Mapping[str, bytes]) -> str:
        """Stage files under a prefix named by their content, and return its S3 address."""
        prefix = f"{self._prefix}/code/{name}/{digest(files)}"
        self._objects.update({f"{prefix}/{path}": content for path, content in files.items()})
        return f"s3://{self._bucket}/{prefix}"

    def expect(self, address: str) -> str:
        """Note an address at which something must lie already, and return it."""
        self.expected.add(address)
        return address

    def upload(self, s3: Any) -> int:
        """Upload what is not there yet and return how many objects that was."""
        there = objects.keys(s3, self._bucket, f"{self._prefix}/code/")
        missing = sorted(set(self._objects).difference(there))
        for key in missing:
            s3.put_object(Bucket=self._bucket, Key=key, Body=self._objects[key])
        return len(missing)


def read_folder(folder: Path) -> dict[str, bytes]:
    """Read a folder's files, without compiled ones."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
