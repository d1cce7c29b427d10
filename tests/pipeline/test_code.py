import shutil
import subprocess
import sys

import pytest

from pipeline.code import STEPS, digest, files_of

SCRIPTS = ("preprocess.py", "validate.py", "train.py", "evaluate.py", "deploy.py")


@pytest.fixture
def steps(tmp_path):
    copy = tmp_path / "steps"
    shutil.copytree(STEPS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def addresses(steps):
    return {script: digest(files_of(script, steps)) for script in SCRIPTS}


@pytest.mark.parametrize(
    ("touched", "moved"),
    [
        ("trafficsigns/report.py", {"evaluate.py"}),
        ("trafficsigns/report.html.j2", {"evaluate.py"}),
        ("trafficsigns/lenet.py", {"train.py"}),
        ("serving/inference.py", {"train.py"}),
        ("trafficsigns/expectations.py", {"validate.py"}),
        ("trafficsigns/sources/official.py", {"preprocess.py"}),
        ("trafficsigns/manifest.py", {"preprocess.py", "validate.py"}),
        ("trafficsigns/images.py", {"preprocess.py", "train.py", "evaluate.py"}),
        ("trafficsigns/failures.py", set(SCRIPTS)),
        ("deploy.py", {"deploy.py"}),
        ("requirements/validate.txt", {"validate.py"}),
        ("entry.py", {"preprocess.py", "validate.py", "evaluate.py", "deploy.py"}),
        ("trafficsigns/synthetic/tracks.py", set()),
    ],
)
def test_a_change_moves_the_channels_that_hold_it_and_no_other(steps, touched, moved):
    before = addresses(steps)
    with (steps / touched).open("a") as file:
        file.write("\n# touched\n")
    after = addresses(steps)
    assert {script for script in SCRIPTS if before[script] != after[script]} == moved


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_channel_holds_all_that_its_script_needs(tmp_path, script):
    """Run from nothing but its channel, isolated from the repository, a script can at least say what it does."""
    for name, content in files_of(script).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    command = [sys.executable, "-E", script, "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_the_digest_depends_on_names_and_contents_and_their_borders():
    same = {"a": b"1", "b": b"2"}
    assert digest(same) == digest(dict(reversed(same.items())))
    assert len({digest(files) for files in (same, {"a": b"2", "b": b"1"}, {"a": b"1b", "": b"2"}, {"ab": b"12"})}) == 4
