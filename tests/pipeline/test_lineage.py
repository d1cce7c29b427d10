"""Two commits: the repository's, and the last one that changed what the steps run."""

import json
import shutil
import subprocess

import pytest

from pipeline import lineage
from pipeline.code import STEPS, digest, files_of


@pytest.fixture
def repository(tmp_path):
    """A repository with the steps and something else in it, both committed."""
    shutil.copytree(STEPS, tmp_path / "steps", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "README.md").write_text("read me")
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def git(root, *words):
    named = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", root, *named, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(root):
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--no-verify", "--message", "more")
    return git(root, "rev-parse", "--short=12", "HEAD")


def touch(root, name):
    with (root / name).open("a") as file:
        file.write("\n# touched\n")


def test_only_what_makes_or_judges_a_model_moves_the_steps_commit(repository):
    first = lineage.steps_commit(repository)
    assert first == lineage.commit(repository) == git(repository, "rev-parse", "--short=12", "HEAD")
    for name in ("README.md", "steps/deploy.py", "steps/trafficsigns/hosting/golden.py", "steps/synthesize.py"):
        touch(repository, name)
        assert commit(repository) == lineage.commit(repository) != first
        assert lineage.steps_commit(repository) == first, name
    for name in ("steps/trafficsigns/report.html.j2", "steps/train.py", "steps/requirements/evaluate.txt"):
        touch(repository, name)
        assert commit(repository) == lineage.steps_commit(repository)


def test_what_is_not_committed_is_marked(repository):
    touch(repository, "README.md")
    clean = lineage.steps_commit(repository)
    assert lineage.commit(repository) == f"{clean}-dirty"
    assert not clean.endswith("-dirty")
    touch(repository, "steps/evaluate.py")
    assert lineage.steps_commit(repository) == f"{clean}-dirty"


def test_without_a_repository_nothing_is_known(tmp_path):
    shutil.copytree(STEPS, tmp_path / "steps", ignore=shutil.ignore_patterns("__pycache__"))
    assert lineage.commit(tmp_path) == lineage.steps_commit(tmp_path) == "unknown"


def definition(*names, changed=""):
    code = {script: digest(files_of(script)) for script in lineage.MAKERS}
    code |= {changed: "0" * 16} if changed else {}
    addresses = [f"s3://b/n/code/{script.removesuffix('.py')}/{content}" for script, content in code.items()]
    return json.dumps({"Parameters": [{"Name": name} for name in names], "Steps": addresses})


def test_a_start_tells_both_commits_of_the_code_that_will_run():
    told = lineage.parameters(definition("Commit", "StepsCommit", "Epochs"))
    assert told == {"Commit": lineage.commit(), "StepsCommit": lineage.steps_commit()}


@pytest.mark.parametrize("script", lineage.MAKERS)
def test_of_code_that_is_not_this_repositorys_no_commit_is_told(script):
    told = lineage.parameters(definition("Commit", "StepsCommit", changed=script))
    assert told == {"Commit": "unknown", "StepsCommit": "unknown"}


def test_a_pipeline_that_does_not_ask_is_not_told():
    assert lineage.parameters(definition("Commit")) == {"Commit": lineage.commit()}
    assert lineage.parameters(None) == {}
