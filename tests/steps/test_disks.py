"""Disks that are full or read-only: real ones, mounted for one process where the system gives mount namespaces."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["three_signs"]

STEPS = Path(__file__).parents[2] / "steps"
MOUNT = """
mount -t tmpfs -o "$1" none "$2" || exit 99
place=$2; shift 2
"$@"
code=$?
find "$place" -type f
exit $code
"""


def on(options: str, place: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a disk of its own at a place; prints the files that are there afterwards."""
    place.mkdir()
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh", options, str(place), *command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("this system has no unshare")
    if "unshare" in done.stderr or done.returncode == 99:
        pytest.skip(f"this system gives no mount namespaces: {done.stderr}")
    return done


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("size=40k", "No space left"),
        ("size=600k", "No space left"),
        ("size=900k", "No space left"),
        ("ro", "Read-only"),
    ],
)
def test_a_disk_that_takes_nothing_more_is_named_and_left_empty(options, reason, synthetic, tmp_path):
    """With the sizes, it is full in the first shard, in a later one, and almost at the end."""
    place = tmp_path / "disk"
    words = ["--input-dir", str(synthetic), "--output-dir", str(place)]
    done = on(options, place, sys.executable, str(STEPS / "preprocess.py"), *words)
    assert done.returncode == 1
    # TensorFlow's own first words come before.
    line = done.stderr.strip().splitlines()[-1]
    assert str(place) in line
    assert reason.lower() in line.lower()
    assert "Traceback" not in done.stderr
    assert str(place) not in done.stdout


def test_validation_on_a_full_disk_says_so(synthetic, tmp_path):
    output = tmp_path / "prepared"
    words = ["--input-dir", str(synthetic), "--output-dir", str(output)]
    subprocess.run([sys.executable, str(STEPS / "preprocess.py"), *words], check=True, capture_output=True)
    place = tmp_path / "disk"
    words = ["--manifest-dir", str(output / "manifest"), "--output-dir", str(place)]
    done = on("size=200k", place, sys.executable, str(STEPS / "validate.py"), *words)
    assert done.returncode == 1
    assert f"{place} cannot be written: No space left" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "baseline.json" not in done.stdout
    assert "validation.json" not in done.stdout


@pytest.mark.parametrize(("options", "reason", "epochs"), [("size=200k", "No space left", 1), ("ro", "Read-only", 0)])
def test_a_disk_that_takes_no_archive_is_named_and_left_empty(options, reason, epochs, channels, tmp_path):
    """One that takes nothing at all is noticed before training, and a full one as soon as it is full."""
    place = tmp_path / "disk"
    words = ["--preset", "lenet5", "--epochs", "1", "--batch-size", "16", "--model-dir", str(place)]
    done = on(options, place, sys.executable, str(STEPS / "train.py"), *words)
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert str(place) in line
    assert reason in line
    assert "Traceback" not in done.stderr
    assert done.stdout.count("epoch 1/1") == epochs
    assert str(place) not in done.stdout
