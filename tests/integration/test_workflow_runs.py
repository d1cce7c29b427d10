"""The workflows' own shell commands, as a runner would run them, with the code path of AWS and the embedded SageMaker
behind its URL: stacks, merge, gate, approval, endpoint, drift, and everything taken away again.

The tests build on each other, in their order.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore import UNSIGNED
from botocore.config import Config
from role_rights import MODEL, PIPELINE, SURROUNDINGS, allowed, book

from infra.local import control
from infra.local.rights.actors import SWITCH
from pipeline.settings import DEFAULT_FILE, ROOT

pytestmark = pytest.mark.integration

ACCOUNT, REGION = "123456789012", "eu-central-1"
SMALL = {
    "tracks_per_class = 16": "tracks_per_class = 4",
    "frames_per_track = 6": "frames_per_track = 5",
    'preset = "fast"': 'preset = "lenet5"',
    "epochs = 7": "epochs = 2",
    "minimum_accuracy = 0.93": "minimum_accuracy = 0.0",
    "minimum_accuracy = 0.96": "minimum_accuracy = 0.0",
    "minimum_class_recall = 0.4": "minimum_class_recall = 0.0",
    "maximum_calibration_error = 0.05": "maximum_calibration_error = 1.0",
    "minimum_corrupted_accuracy = 0.7": "minimum_corrupted_accuracy = 0.0",
    "maximum_latency_ratio = 10.0": "maximum_latency_ratio = 1000.0",
    "champion_significance = 0.05": "champion_significance = 0.0",
    '\nowner = ""': '\nowner = "somebody"',
    '\nrepository = ""': '\nrepository = "signs"',
    "\n[tags] ": '\n[tags]\nteam = "signs"\n#',
    'bucket = ""': 'bucket = "signs-on-aws"',
    "bake_seconds = 60 ": "bake_seconds = 0 ",
}
EXPRESSIONS = {
    "vars.TRAINING_DATA || 'official'": "synthetic",
    "inputs.version": "1",
    "inputs.reason": "it is [good] enough; $(false) 'quoted'",
}
"""What GitHub puts in for these; another one in a workflow ends the test."""


RECORDER = """
import os
from botocore import client
call = client.BaseClient._make_api_call
def recorded(self, operation, request):
    with open(os.environ["CALLS"], "a") as file:
        file.write(f"{self.meta.service_model.signing_name}:{operation}\\n")
    return call(self, operation, request)
client.BaseClient._make_api_call = recorded
"""
"""Python imports it before anything else, and so each call of a job's commands is written down."""

ACTIONS = {
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "HeadObject": "GetObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "GetBucketEncryption": "GetEncryptionConfiguration",
}
"""Actions that are not called as their operations are: service authorization reference, "Amazon S3"."""


class Runner:
    """A machine of GitHub's, as far as shell commands can tell."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.settings, self.state = folder, folder / "settings.toml", folder / "state"
        text = DEFAULT_FILE.read_text()
        for old, new in {**SMALL, 'state = ".signs"': f'state = "{self.state}"'}.items():
            assert old in text, old
            text = text.replace(old, new)
        self.settings.write_text(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(SWITCH, "enforced")
            self.server = control.start(self.state, 0, REGION)
        self.summary = folder / "summary.md"
        (folder / "recorder").mkdir()
        (folder / "recorder" / "sitecustomize.py").write_text(RECORDER)
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "SIGNS_", "GITHUB_"))}
        self._environment = {
            **clean,
            # The owner's credentials, and the one thing that is not as on GitHub: the URL.
            **{"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": REGION},
            "AWS_ENDPOINT_URL": self.server.url,
            **{"SIGNS_SETTINGS": str(self.settings), "COLUMNS": "400"},
            **{"PYTHONPATH": str(folder / "recorder"), "CALLS": str(folder / "calls-of-people")},
            **{"RUNNER_TEMP": str(folder), "GITHUB_STEP_SUMMARY": str(self.summary), "GITHUB_RUN_ID": "1"},
        }

    def client(self, service: str) -> Any:
        session = boto3.Session("x", "x", region_name=REGION)
        return session.client(service, endpoint_url=self.server.url)

    def bash(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script as GitHub's ``shell: bash`` does."""
        script = script.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=ROOT,
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=550,
        )

    def signs(self, words: str) -> str:
        """Run a command of a person's, on AWS."""
        done = self.bash(f".venv/bin/signs {words}", SIGNS_CLOUD="aws")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def job(self, workflow: str, attempt: str = "1") -> dict[str, subprocess.CompletedProcess[str]]:
        """Run a workflow's only job: each named step that has shell commands, the ones after a failure if they ask."""
        content = yaml.safe_load((ROOT / ".github" / "workflows" / f"{workflow}.yml").read_text())
        (job,) = content["jobs"].values()
        done: dict[str, subprocess.CompletedProcess[str]] = {}
        ids = {"credentials"}
        for step in job["steps"]:
            if "name" not in step or not _runs(step, done, ids):
                continue
            ids |= {step["id"]} if "id" in step else set()
            environment = {**job["env"], **step.get("env", {}), "GITHUB_RUN_ATTEMPT": attempt}
            environment["CALLS"] = str(self.folder / f"calls-of-{workflow}")
            environment |= self.taken_on(workflow)
            filled = {key: re.sub(r"\$\{\{ (.*?) \}\}", _expression, value) for key, value in environment.items()}
            done[step["name"]] = self.bash(step["run"], **filled)
        return done

    def taken_on(self, workflow: str) -> dict[str, str]:
        """What configure-aws-credentials leaves behind: credentials of the workflow's role, for GitHub's token."""
        role, place = ("deploy", "environment:production") if workflow == "deploy" else ("train", "ref:refs/heads/main")
        claims = {"iss": "https://token.actions.githubusercontent.com", "aud": "sts.amazonaws.com"}
        claims |= {"sub": f"repo:somebody/signs:{place}", "ref": "refs/heads/main"}
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        config = Config(signature_version=UNSIGNED)
        keys = boto3.client("sts", endpoint_url=self.server.url, region_name=REGION, config=config)
        answer = keys.assume_role_with_web_identity(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/traffic-signs-github-{role}",
            RoleSessionName="GitHubActions",
            WebIdentityToken=f"e30.{body}.signature",
        )["Credentials"]
        names = {"ID": "AccessKeyId", "SECRET": "SecretAccessKey", "SESSION": "SessionToken"}
        variables = {"ID": "AWS_ACCESS_KEY_ID", "SECRET": "AWS_SECRET_ACCESS_KEY", "SESSION": "AWS_SESSION_TOKEN"}
        return {variables[each]: answer[names[each]] for each in names}

    def called(self, *workflows: str) -> set[str]:
        """What the jobs of workflows have called, as actions."""
        lines = [line for each in workflows for line in (self.folder / f"calls-of-{each}").read_text().splitlines()]
        pairs = (line.split(":") for line in lines)
        # Who one is, everybody may ask.
        return {f"{service}:{ACTIONS.get(name, name)}" for service, name in pairs} - {"sts:GetCallerIdentity"}

    def change(self, old: str, new: str) -> None:
        """Merge a change of the settings."""
        assert old in self.settings.read_text()
        self.settings.write_text(self.settings.read_text().replace(old, new))


def _runs(step: dict[str, Any], done: dict[str, subprocess.CompletedProcess[str]], ids: set[str]) -> bool:
    """Judge a step's condition, of the two kinds that the workflows have, or have none."""
    condition = step.get("if", "")
    asked = re.fullmatch(
        r"\$\{\{ !cancelled\(\) && steps\.(\w+)\.outcome (?:!= 'skipped'|== 'success') \}\}", condition
    )
    assert asked or not condition
    return asked[1] in ids if asked else not any(each.returncode for each in done.values())


def _expression(found: re.Match[str]) -> str:
    return EXPRESSIONS[found[1]]


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    runner = Runner(tmp_path_factory.mktemp("runner"))
    yield runner
    control.stop(runner.state)


def test_a_person_deploys_the_stacks_first(runner):
    told = runner.signs("infra deploy --yes")
    for output, name in {"": "pipeline", "Train": "train", "GitHubTrain": "github-train"}.items():
        assert f"{output}RoleArn = arn:aws:iam::{ACCOUNT}:role/traffic-signs-{name}" in told
    assert runner.client("s3").get_bucket_versioning(Bucket="signs-on-aws")["Status"] == "Enabled"


def test_a_merge_trains_and_tells_what_came_of_it(runner):
    done = runner.job("train")
    assert [each.returncode for each in done.values()] == [0, 0, 0, 0], [each.stderr for each in done.values()]
    assert done["What the stacks lack"].stdout.count("nothing would change") == 2
    assert "traffic-signs-training:\n  the whole pipeline added" in done["Upsert"].stderr
    assert "Evaluate" in done["Train"].stderr
    told = runner.summary.read_text()
    assert "## traffic-signs-training: Succeeded" in told
    assert "| RegisterModel | Succeeded |" in told
    assert "### Quality gate: passed" in told
    assert "| accuracy |" in told
    (address,) = re.findall(r"Report: `s3://signs-on-aws/(.*)`", told)
    report = runner.client("s3").get_object(Bucket="signs-on-aws", Key=address)["Body"].read()
    assert (runner.folder / "evaluation" / "report.html").read_bytes() == report


def test_an_approval_is_awaited_until_the_version_serves(runner):
    done = runner.job("deploy")["Approve, and wait until it serves"]
    assert done.returncode == 0, done.stdout + done.stderr
    assert "endpoint traffic-signs serves version 1" in runner.summary.read_text()
    assert "version 1 (Approved) serves" in runner.signs("endpoint check --exit-code")
    package = runner.client("sagemaker").list_model_packages(ModelPackageGroupName="traffic-signs")
    arn = package["ModelPackageSummaryList"][0]["ModelPackageArn"]
    described = runner.client("sagemaker").describe_model_package(ModelPackageName=arn)
    # Who decided is who GitHub's token made the job.
    identity = re.escape(f"arn:aws:sts::{ACCOUNT}:assumed-role/traffic-signs-github-deploy/GitHubActions")
    told = rf" \(Approved by {identity}, 20\d\d-\d\d-\d\d \d\d:\d\d UTC\)"
    assert re.fullmatch(re.escape(EXPRESSIONS["inputs.reason"]) + told, described["ApprovalDescription"])


def test_at_night_nothing_differs_until_somebody_changes_something(runner):
    done = runner.job("drift")
    # The embedded one cannot tell what was changed by hand, and says so; what else is asked is answered all the same.
    by_hand = done.pop("Stacks and what was changed by hand")
    assert (by_hand.returncode, "cannot tell" in by_hand.stderr) == (1, True), by_hand.stderr
    assert {name: each.returncode for name, each in done.items()} == dict.fromkeys(done, 0)
    runner.change("minimum_accuracy = 0.0", "minimum_accuracy = 1.0")
    done = runner.job("drift")["Pipelines and their definitions"]
    assert done.returncode == 5
    assert "parameter MinimumAccuracy changed" in done.stdout


def test_a_model_that_fails_the_gate_fails_the_job_and_is_told_of_too(runner):
    runner.summary.unlink()
    done = runner.job("train", attempt="2")
    assert "parameter MinimumAccuracy changed" in done["Upsert"].stderr
    assert (done["Train"].returncode, done["Summary"].returncode) == (4, 0), done["Summary"].stderr
    told = runner.summary.read_text()
    assert "## traffic-signs-training: Failed" in told
    assert "### Quality gate: **not passed**" in told
    assert re.search(r"\| MinimumAccuracy \| 0\.\d+ \| ≥ 1 \| \*\*missed\*\* \|", told)


def test_the_same_start_in_the_same_attempt_is_the_same_execution(runner):
    again = ".venv/bin/signs start --data synthetic --json"
    first = (runner.folder / "execution.json").read_text()
    assert runner.bash(again, SIGNS_CLOUD="aws", GITHUB_RUN_ATTEMPT="2").stdout == first


def test_some_steps_run_again_on_what_there_is(runner):
    done = runner.bash(
        ".venv/bin/signs start --only Evaluate --set MinimumAccuracy=0 --wait", SIGNS_CLOUD="aws", GITHUB_RUN_ID=""
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the quality gate is passed" in done.stdout
    assert "TrainLeNet         Executing" not in done.stdout
    done = runner.bash(".venv/bin/signs start --only Evaluate --data synthetic", SIGNS_CLOUD="aws")
    assert (done.returncode, "either --data, or --only" in done.stderr) == (2, True)


def test_each_role_may_do_what_its_jobs_called_and_what_has_a_reason_besides(runner):
    called, may = runner.called("train", "drift"), allowed(runner.client("iam"), "traffic-signs-github-train")
    assert called - may == set()
    # What drift is read with has a test of its own, against what resources consist of.
    reading = (
        "(iam|events|sqs|sns|cloudwatch|logs|lambda|billing|budgets|kms|ec2|ecr|sagemaker|s3)"
        ":(Get(?!Object)|List|Describe|View)"
    )
    reads = {action for action in may if re.match(reading, action)} - called
    # Not called by name, or not here: passing a role, the look at what was changed by hand, large files.
    assert may - called - reads == {
        "iam:PassRole",
        "cloudformation:DescribeStackDriftDetectionStatus",
        "cloudformation:DescribeStackResourceDrifts",
        "cloudformation:DetectStackResourceDrift",
        "s3:AbortMultipartUpload",
    }
    assert runner.called("deploy") == allowed(runner.client("iam"), "traffic-signs-github-deploy")


def test_each_role_used_what_it_has_but_for_what_has_another_reason_and_was_refused_nothing(runner):
    lines = book(runner.state, "traffic-signs")
    assert [line for line in lines if not line["allowed"]] == []
    used = {
        role: {line["action"] for line in lines if line["role"] == role} for role in (line["role"] for line in lines)
    }
    jobs = dict.fromkeys(("preprocess", "validate", "train", "evaluate"), SURROUNDINGS)
    for name, reasons in {**jobs, "serve": MODEL, "pipeline": PIPELINE, "approval": {}}.items():
        may = allowed(runner.client("iam"), f"traffic-signs-{name}")
        assert used[name] <= may
        assert may - used[name] - set(reasons) == set(), name


def test_a_version_that_is_turned_down_fails_the_job(runner):
    runner.signs("models reject 1 --reason drill")
    done = runner.bash(".venv/bin/signs endpoint check --exit-code", SIGNS_CLOUD="aws")
    assert (done.returncode, "no version is approved" in done.stdout) == (5, True)
    runner.signs("endpoint delete --yes")
    done = runner.bash(".venv/bin/signs endpoint watch --version 1", SIGNS_CLOUD="aws")
    assert (done.returncode, "is Rejected: drill" in done.stdout) == (3, True)


def test_all_of_it_can_be_taken_away(runner):
    told = runner.signs("infra destroy --yes")
    assert "traffic-signs-automation deleted" in told
    assert "traffic-signs-foundation deleted" in told
