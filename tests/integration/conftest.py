"""A command line of its own: settings with small data and its own embedded SageMaker, started once."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.local import control
from pipeline.settings import DEFAULT_FILE, ROOT

SMALL = {"tracks_per_class = 16": "tracks_per_class = 4", "frames_per_track = 6": "frames_per_track = 5"}


@dataclass(frozen=True)
class Signs:
    """``signs``, as a person runs it."""

    settings: Path
    state: Path

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run a command, require its exit code, and return what it printed."""
        done = self.start(*words)
        output, errors = done.communicate(timeout=500)
        assert done.returncode == code, f"signs {' '.join(words)}: exit code {done.returncode}\n{output}\n{errors}"
        return output + errors

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command without waiting for it."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "SIGNS_", "GITHUB_"))}
        # Wide enough that no line of a table is cut.
        environment = {**clean, "SIGNS_SETTINGS": str(self.settings), "SIGNS_PORT": "0", "COLUMNS": "400"}
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", *words],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def json(self, *words: str, code: int = 0):
        """Run a command with --json and parse what it printed."""
        return json.loads(self(*words, "--json", code=code))


@pytest.fixture(scope="session")
def make_signs(tmp_path_factory):
    made = []

    def make(name: str) -> Signs:
        folder = tmp_path_factory.mktemp(name)
        text = DEFAULT_FILE.read_text().replace('state = ".signs"', f'state = "{folder / "state"}"')
        for old, new in SMALL.items():
            assert old in text
            text = text.replace(old, new)
        (folder / "settings.toml").write_text(text)
        made.append(Signs(folder / "settings.toml", folder / "state"))
        return made[-1]

    yield make
    for signs in made:
        control.stop(signs.state)


@pytest.fixture(scope="session")
def signs(make_signs) -> Signs:
    return make_signs("signs")
