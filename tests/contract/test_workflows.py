"""The workflows: what linters see, what they do not, and that each of these checks can fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import workflow_rules
from workflow_rules import ACTIONS, RULES, WORKFLOWS, called

from pipeline.settings import ROOT

BIN = Path(sys.executable).parent
TOOLS = {
    "zizmor": ["zizmor", "--offline", "--quiet", "--no-progress"],
    "schema": ["check-jsonschema", "--quiet", "--builtin-schema", "vendor.github-workflows"],
    "actionlint": ["actionlint"],
}


def texts() -> dict[str, str]:
    return {name: path.read_text() for name, path in WORKFLOWS.items()}


def look(tool: str, file: Path) -> subprocess.CompletedProcess[str]:
    command, *options = TOOLS[tool]
    return subprocess.run([BIN / command, *options, file], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_keeps_the_rules(name, rule):
    assert list(rule(texts()[name])) == []


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_passes_the_linters(name, tool):
    done = look(tool, WORKFLOWS[name])
    assert done.returncode == 0, done.stdout + done.stderr


def test_make_lint_runs_these_linters_in_these_words():
    makefile = (ROOT / "Makefile").read_text()
    for words in TOOLS.values():
        assert f"@$(BIN)/{' '.join(words)} .github/workflows" in makefile


def test_the_workflows_are_there_and_do_what_they_are_for():
    assert set(WORKFLOWS) == {"ci", "train", "deploy", "drift", "image"}
    made = {name: {" ".join(words[:3]) for words in called(text)} for name, text in texts().items()}
    assert made["ci"] >= {"make lint", "make test", "signs definition training"}
    assert made["train"] >= {"signs infra diff", "signs upsert --yes", "signs start --data", "signs summary 1"}
    assert made["deploy"] >= {"signs models approve", "signs endpoint watch"}
    assert made["drift"] >= {"signs infra diff", "signs infra drift", "signs diff --exit-code", "signs endpoint check"}


CHECKOUT = f"actions/checkout@{ACTIONS['actions/checkout'][1]}"
FAULTS = [
    # The workflow, what is replaced, by what, and which check sees it.
    ("ci", CHECKOUT, CHECKOUT[:-4] + "beef", "pins"),
    ("ci", f"{CHECKOUT} # v7.0.1", f"{CHECKOUT} # v7.0.2", "pins"),
    ("ci", f"{CHECKOUT} # v7.0.1", "actions/checkout@v7", "pins"),
    ("train", "permissions: {}", "permissions: read-all", "rights"),
    ("train", "      id-token: write # to take on the role\n", "", "rights"),
    ("ci", "      contents: read\n", "      contents: read\n      id-token: write\n", "rights"),
    ("train", "    branches: [main]\n", "    branches: [main]\n  pull_request:\n", "rights"),
    ("train", "vars.AWS_TRAIN_ROLE_ARN != '' && ", "", "rights"),
    ("drift", " && github.ref == 'refs/heads/main'", "", "rights"),
    ("train", "    timeout-minutes: 235\n", "", "bounds"),
    ("deploy", "ubuntu-24.04", "ubuntu-latest", "bounds"),
    ("deploy", "concurrency:\n  group: deploy\n  cancel-in-progress: false\n", "", "bounds"),
    (
        "train",
        "          role-duration",
        "          aws-access-key-id: ${{ vars.KEY }}\n          role-duration",
        "keys",
    ),
    ("train", "      SIGNS_CLOUD: aws", "      AWS_SECRET_ACCESS_KEY: x", "keys"),
    ("train", "vars.AWS_REGION", "secrets.AWS_REGION", "keys"),
    ("ci", "make lint", "make lints", "commands"),
    ("train", "signs upsert --yes", "signs upsert --sure", "commands"),
    ("train", "signs infra diff", "signs infra differ", "commands"),
    ("train", ' --output-dir "$RUNNER_TEMP/evaluation"', "", "commands"),
    ("deploy", "--minutes 210", "--minutes long", "commands"),
    ("ci", "pipeline.cli definition", "pipeline.cli definitions", "commands"),
    ("deploy", '--reason "$REASON"', '--reason "${{ inputs.reason }}"', "zizmor"),
    ("ci", "          persist-credentials: false\n", "", "zizmor"),
    ("ci", "  pull_request:\n", "  pull_request_target:\n", "zizmor"),
    ("ci", "timeout-minutes: 20", "timeout-minutes: soon", "schema"),
    ("ci", "runs-on: ubuntu-24.04", "run-on: ubuntu-24.04", "schema"),
    ("train", "steps.train.outcome", "steps.trains.outcome", "actionlint"),
    ("drift", 'cron: "17 3 * * *"', 'cron: "17 3 * *"', "actionlint"),
]


@pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda fault: f"{fault[3]}-{re.sub(r'[^a-z]+', '-', fault[2].lower())[:30]}"
)
def test_each_check_can_fail(fault, tmp_path):
    name, right, wrong, check = fault
    text = texts()[name]
    assert right in text
    text = text.replace(right, wrong, 1)
    if check in TOOLS:
        (tmp_path / f"{name}.yml").write_text(text)
        assert look(check, tmp_path / f"{name}.yml").returncode != 0
    else:
        assert list(getattr(workflow_rules, check)(text)) != []


def test_the_definition_job_shows_what_a_pull_request_changes(tmp_path):
    """The job's own words, in a checkout of its own: a pull request that trains longer."""
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, checkout], check=True)
    (checkout / ".venv").symlink_to(sys.prefix)
    for folder in ("pipeline", "infra", "steps"):
        subprocess.run(["cp", "-r", ROOT / folder, checkout], check=True)
    git: list[str | Path] = ["git", "-C", checkout, "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git, "add", "pipeline", "infra", "steps"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "as it is here"], check=True)
    base = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    settings = checkout / "pipeline" / "settings.toml"
    settings.write_text(settings.read_text().replace("epochs = 0 ", "epochs = 3 "))
    (step,) = [s for s in workflow_rules.read(texts()["ci"])["jobs"]["definition"]["steps"] if "name" in s]
    summary = tmp_path / "summary.md"
    # An editable install names the repository; a pull request's checkout is that, here it is another folder.
    script = step["run"].replace(".venv/bin/signs", ".venv/bin/python -m pipeline.cli")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "SIGNS_", "PYTHON"))}
    files = {"RUNNER_TEMP": str(tmp_path), "GITHUB_WORKSPACE": str(checkout), "GITHUB_STEP_SUMMARY": str(summary)}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=checkout,
        env={**clean, **files, "BASE": base},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = summary.read_text()
    assert "**parameter Epochs** changed" in told
    assert '-  "DefaultValue": 0' in told
    assert '+  "DefaultValue": 3' in told
    assert "### traffic-signs-deployment\n\nNothing changes." in told
