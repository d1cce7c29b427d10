"""What people do wrong, or are refused, is told in a line that is true; and what is printed for them can be copied."""

import json
import re
import secrets
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from typer import Exit
from typer.testing import CliRunner

from pipeline import clouds, endpoints, executions
from pipeline.cli import app
from pipeline.commands import endpoint as endpoint_commands
from pipeline.commands import runs
from pipeline.commands.common import told
from pipeline.endpoints import Answer, EndpointError
from pipeline.executions import ExecutionError, Snapshot
from pipeline.lifecycle import Outcome, Sample
from pipeline.settings import DEFAULT_FILE, ROOT
from trafficsigns.hosting import surroundings

FAILING = {"Version": "2020-12-01", "Steps": [{"Name": "No", "Type": "Fail", "Arguments": {"ErrorMessage": "no"}}]}


@pytest.fixture
def settings_file(embedded, tmp_path) -> Path:
    """Settings whose names nobody else uses, for the embedded SageMaker of the tests."""
    text = DEFAULT_FILE.read_text().replace('name = "traffic-signs"', f'name = "signs-{secrets.token_hex(4)}"')
    file = tmp_path / "settings.toml"
    file.write_text(text.replace('state = ".signs"', f'state = "{embedded.state}"'))
    return file


def signs(*words: str, **more):
    return CliRunner().invoke(app, [str(word) for word in words], **more)


def plain(output: str) -> str:
    """Return what was said without colours, boxes and the places where lines end."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", output).split())


def test_an_execution_of_any_pipeline_is_found_by_its_arn(place, loaded):
    sagemaker = place.client("sagemaker")
    for pipeline in (loaded.training_pipeline, loaded.deployment_pipeline):
        request = {"PipelineDefinition": json.dumps(FAILING), "RoleArn": clouds.LOCAL_ROLE}
        sagemaker.create_pipeline(PipelineName=pipeline, **request)
    arn = executions.start(place, loaded.deployment_pipeline, {})
    assert executions.find(place, loaded.training_pipeline, arn) == arn
    assert executions.look(place, arn).arn == arn
    own = executions.start(place, loaded.training_pipeline, {})
    assert executions.find(place, loaded.training_pipeline) == own
    assert executions.find(place, loaded.training_pipeline, own.rpartition("/")[2]) == own
    with pytest.raises(ExecutionError, match="the execution's identifier is empty"):
        executions.find(place, loaded.training_pipeline, "")


def test_only_a_pipeline_that_is_not_there_is_to_be_created(place, loaded):
    with pytest.raises(ExecutionError, match="Create it with `signs upsert`"):
        executions.find(place, loaded.training_pipeline)
    with pytest.raises(ClientError, match="not authorized") as refused:
        executions.find(refusing(place, "list_pipeline_executions"), loaded.training_pipeline)
    assert "upsert" not in str(refused.value)


def refusing(place, call):
    """The cloud, whose answer to one call is that the caller may not."""
    client = place.client("sagemaker")
    stub = Stubber(client)
    stub.add_client_error(call, "AccessDeniedException", "not authorized to perform that")
    stub.activate()

    class Refusing(clouds.Cloud):
        def client(self, service):
            return client

    return Refusing(place.kind, place.session, place.region, place.bucket, place.role_arn)


def test_an_endpoint_that_may_not_be_deleted_is_not_called_absent(place, loaded):
    with pytest.raises(EndpointError, match=f"there is no endpoint {loaded.endpoint}"):
        endpoints.delete(place, loaded.endpoint)
    with pytest.raises(ClientError, match="not authorized"):
        endpoints.delete(refusing(place, "delete_endpoint"), loaded.endpoint)


def test_the_tag_of_proof_is_the_one_that_deployment_gives():
    assert endpoints.PROVEN == surroundings.PROVEN


def test_an_upload_that_is_refused_is_one_line(place, tmp_path, capsys):
    file = tmp_path / "picture.png"
    file.write_bytes(b"picture")
    with pytest.raises(Exit) as ended:
        told(lambda: place.client("s3").upload_file(str(file), f"absent-{secrets.token_hex(4)}", "key"))()
    assert ended.value.exit_code == 1
    said = capsys.readouterr().err
    assert "picture.png" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("reason", ["alarm [arn:aws:cloudwatch:x]", "[/opt/ml/model] holds nothing"])
def test_a_reason_in_brackets_is_shown_as_it_is(monkeypatch, settings_file, reason):
    described = {
        "EndpointStatus": "Failed", "ModelPackageArn": "arn", "EndpointConfigName": "config",
        "LastModifiedTime": datetime(2026, 1, 1), "FailureReason": reason,
    }  # fmt: skip
    monkeypatch.setattr(endpoint_commands.endpoints, "describe", lambda *_: described)
    done = signs("endpoint", "describe", "--settings", settings_file)
    assert done.exit_code == 0, done.output
    assert reason in done.output


@pytest.mark.parametrize("content", ["# no JSON", "[]", "7", "{}", '{"Steps": [1]}'])
def test_a_file_without_a_definition_is_a_wrong_command_line(tmp_path, content):
    file = tmp_path / "definition.json"
    file.write_text(content)
    done = signs("definition", "--against", file)
    assert done.exit_code == 2, done.output
    assert "holds no definition" in plain(done.output)
    assert signs("definition", "--against", tmp_path).exit_code == 2


def test_archives_are_not_fetched_into_a_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("here already")
    done = signs("data", "fetch", file)
    assert (done.exit_code, "cannot be made a folder" in plain(done.output)) == (1, True), done.output


def test_an_earlier_execution_is_named_for_steps_alone(settings_file):
    done = signs("start", "--data", "synthetic", "--from", "abc", "--settings", settings_file)
    assert done.exit_code == 2
    assert "names the earlier execution" in plain(done.output)


def test_whoever_does_not_answer_leaves_no_stack_behind_and_whoever_looks_neither(settings_file, client):
    done = signs("infra", "diff", "--exit-code", "--settings", settings_file)
    assert done.exit_code == 5, done.output
    assert "-foundation: is not there; it may be made of AWS::" in plain(done.output)
    done = signs("infra", "deploy", "--settings", settings_file, input="")
    assert done.exit_code == 1
    name = settings_file.read_text().partition('name = "')[2].partition('"')[0]
    stacks = client("cloudformation").get_paginator("list_stacks").paginate().build_full_result()["StackSummaries"]
    left = [each for each in stacks if each["StackName"].startswith(name) and "DELETE" not in each["StackStatus"]]
    assert left == []


@pytest.mark.parametrize("kind", ["local", "aws"])
def test_the_commands_that_are_printed_go_to_where_the_run_was(capsys, monkeypatch, kind):
    monkeypatch.delenv("SIGNS_CLOUD", raising=False)
    sample = Sample("00001.png", "Stop", Answer(0, "Stop", 0.9, (("Stop", 0.9),)))
    snapshot = Snapshot("arn:execution/1", "Succeeded", "", None, ())
    outcome = Outcome(snapshot, Path("/runs/with space/report.html"), {}, (sample,))
    cloud = clouds.Cloud(kind, None, "eu-central-1", "bucket", "role")

    def printed(file):
        runs._print_next(outcome, cloud, file)
        return capsys.readouterr().out.splitlines()

    lines = printed(DEFAULT_FILE)
    assert "predict '/runs/with space/samples/00001.png'" in lines[0]
    assert all(line.endswith("--cloud aws") for line in lines) is (kind == "aws")
    assert any("local stop" in line for line in lines) is (kind == "local")
    assert all(line.endswith("--settings 'my own.toml'") for line in printed(Path("my own.toml")))
    monkeypatch.setenv("SIGNS_CLOUD", "aws")
    told = [f"--cloud {kind}" in line for line in printed(DEFAULT_FILE) if "local stop" not in line]
    assert told == [True, True, True]


def test_a_version_without_an_evaluation_is_shown_and_says_so(register, place, settings_file, loaded):
    found = register(None)
    text = settings_file.read_text()
    mine = text.partition('name = "')[2].partition('"')[0]
    settings_file.write_text(text.replace(f'name = "{mine}"', f'name = "{loaded.name}"'))
    done = signs("models", "show", found.number, "--settings", settings_file)
    assert done.exit_code == 0, done.output
    assert "was registered without an evaluation" in plain(done.output)
    assert "s3://bucket/model.tar.gz" in plain(done.output)
    done = signs("models", "show", found.number, "--json", "--settings", settings_file)
    assert json.loads(done.output)["metrics"] is None


def test_the_image_is_pushed_to_the_repository_of_the_settings():
    workflow = (ROOT / ".github" / "workflows" / "image.yml").read_text()
    assert "traffic-signs" not in workflow
    (command,) = [line.strip() for line in workflow.splitlines() if line.strip().startswith("name=$(")]
    found = subprocess.run(
        ["bash", "-c", f'{command}; printf %s "$name"'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == "traffic-signs"
