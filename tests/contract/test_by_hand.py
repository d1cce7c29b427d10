"""The README's commands for running each step by hand are taken by the scripts as they stand there."""

import importlib
import shlex

import pytest

from pipeline.settings import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line) for line in README.replace("\\\n", " ").splitlines() if line.startswith(".venv/bin/python steps/")
]


def test_every_step_is_shown():
    assert [command[1] for command in COMMANDS] == [
        f"steps/{name}.py" for name in ("synthesize", "preprocess", "validate", "train", "evaluate", "deploy")
    ]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1])
def test_a_command_is_taken_by_its_script(command):
    script = importlib.import_module(command[1].removeprefix("steps/").removesuffix(".py"))
    assert vars(script._parser().parse_args(command[2:]))
