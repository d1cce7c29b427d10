"""The README's commands for running each step by hand do what it says, as they stand there."""

import importlib
import shlex
import subprocess
import sys

import pytest

from pipeline.settings import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = {
    line.split()[1].removeprefix("steps/").removesuffix(".py"): shlex.split(line)[2:]
    for line in README.replace("\\\n", " ").splitlines()
    if line.startswith(".venv/bin/python steps/")
}
SMALLER = {
    "synthesize": ["--tracks-per-class", "3", "--frames-per-track", "2", "--test-per-class", "1"],
    "train": ["--preset", "lenet5", "--epochs", "1"],
}
"""Given last, these win: the test is about the commands, and not about what is learned."""


def test_every_step_is_shown():
    assert list(COMMANDS) == ["synthesize", "preprocess", "validate", "train", "evaluate", "deploy"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_taken_by_its_script(name):
    assert vars(importlib.import_module(name)._parser().parse_args(COMMANDS[name]))


@pytest.mark.integration
def test_one_after_the_other_they_lead_from_nothing_to_a_report(tmp_path):
    """All but the last, which talks to AWS."""
    for name in [each for each in COMMANDS if each != "deploy"]:
        command = [sys.executable, str(ROOT / "steps" / f"{name}.py"), *COMMANDS[name], *SMALLER.get(name, [])]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr}"
    written = {path.name for path in (tmp_path / "out" / "evaluation").iterdir()}
    assert {"evaluation.json", "report.html", "model-card.md", "model-card.json", "golden", "explainability"} <= written
    assert (tmp_path / "out" / "validation" / "data-quality" / "statistics.json").is_file()
