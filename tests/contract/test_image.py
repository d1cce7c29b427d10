"""The image of one's own: nobody builds it here, so what it says is read, and what lints it can fail."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import clouds, definitions, settings
from pipeline.settings import ROOT

FILE = ROOT / "infra" / "image" / "Dockerfile"
TEXT = FILE.read_text()
HADOLINT = Path(sys.executable).with_name("hadolint")


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, with their lines put together."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", TEXT)).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line)]


def test_it_begins_with_the_image_that_the_definition_names():
    loaded = settings.load()
    text = definitions.render(loaded, clouds.offline(loaded))[loaded.training_pipeline]
    (named,) = set(re.findall(r'"ImageUri": "(.*?tensorflow-training.*?)"', text))
    assert instructions()[:2] == [("ARG", f"BASE={named}"), ("FROM", "${BASE}")]


def test_it_installs_every_steps_list_by_hash_and_leaves_nothing_behind():
    (_, copied), (_, run) = instructions()[2:]
    source, target = copied.split()
    assert {path.name for path in ROOT.glob(source)} == {p.name for p in (ROOT / "steps/requirements").glob("*.txt")}
    assert f"for list in {target}*.txt" in run
    for option in ("--require-hashes", "--no-deps", "--no-cache-dir"):
        assert option in run
    assert run.rstrip().endswith(f"rm -r {target.rstrip('/')}")
    # Of the repository nothing else gets to the builder.
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored == ["*", f"!{source}"]


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HADOLINT, path], capture_output=True, text=True, check=False)


def test_the_linter_finds_nothing_and_make_lint_runs_it():
    done = lint(FILE)
    assert done.returncode == 0, done.stdout
    assert "@$(BIN)/hadolint infra/image/Dockerfile" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("FROM ${BASE}", "FROM ubuntu", "DL3006"),
        (" --no-cache-dir", "", "DL3042"),
        ("RUN set -e;", "RUN cd /tmp;", "DL3003"),
    ],
)
def test_the_linter_can_fail(right, wrong, rule, tmp_path):
    assert right in TEXT
    (tmp_path / "Dockerfile").write_text(TEXT.replace(right, wrong))
    done = lint(tmp_path / "Dockerfile")
    assert done.returncode != 0
    assert rule in done.stdout
