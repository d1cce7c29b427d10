"""Executions that go on: retried after a failure, or run again in part."""

from __future__ import annotations

import secrets
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from embedded_cloud import Cloud, condition, definition, fail, step, wait_until

from infra.local import control
from infra.local.pipelines.executions import Execution, ExecutionContext
from infra.local.service import Service
from infra.local.store import Record, Store

TRUE = {"Type": "Equals", "LeftValue": 1, "RightValue": 1}


def token() -> str:
    return secrets.token_hex(20)


def counting(folder: Path, name: str, then: str = "true", **more: Any) -> dict[str, Any]:
    """A step that leaves a mark each time that it runs."""
    return step(name, f"echo {name} >> {folder}/runs; {then}", **more)


def runs(folder: Path) -> list[str]:
    return (folder / "runs").read_text().split()


def test_a_retry_runs_what_failed_and_what_follows_and_nothing_else(cloud: Cloud, tmp_path: Path) -> None:
    out = {"Get": "Steps.First.ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri"}
    first = counting(tmp_path, "First", outputs={"out": cloud.s3("out")})
    second = counting(tmp_path, "Second", f"[ -e {tmp_path}/ok ]", arguments={"Environment": {"FROM": out}})
    gate = condition("Gate", [TRUE], [second], [])
    gate["DependsOn"] = ["First"]
    last = counting(tmp_path, "Last", DependsOn=["Second"])
    run = cloud.run(definition(first, gate, last))
    assert (run.status, run.statuses) == (
        "Failed",
        {"First": "Succeeded", "Gate": "Succeeded", "Second": "Failed"},
    )
    (tmp_path / "ok").touch()
    same = token()
    for _ in range(2):
        cloud.sagemaker.retry_pipeline_execution(PipelineExecutionArn=run.arn, ClientRequestToken=same)
    again = cloud.ended(run.arn)
    assert (again.status, again.reason) == ("Succeeded", "")
    assert again.statuses == dict.fromkeys(("First", "Gate", "Second", "Last"), "Succeeded")
    assert [again.steps[name]["AttemptCount"] for name in ("First", "Second")] == [1, 2]
    assert "FailureReason" not in again.steps["Second"]
    assert runs(tmp_path) == ["First", "Second", "Second", "Last"]
    with pytest.raises(ClientError, match="its status is Succeeded"):
        cloud.sagemaker.retry_pipeline_execution(PipelineExecutionArn=run.arn, ClientRequestToken=token())


def test_a_retry_can_fail_again(cloud: Cloud) -> None:
    run = cloud.run(definition(fail("No", "never")))
    cloud.sagemaker.retry_pipeline_execution(PipelineExecutionArn=run.arn, ClientRequestToken=token())
    again = cloud.ended(run.arn)
    assert (again.status, again.steps["No"]["FailureReason"], again.steps["No"]["AttemptCount"]) == (
        "Failed",
        "never",
        2,
    )


def test_selected_steps_run_with_the_results_and_parameters_of_an_earlier_execution(
    cloud: Cloud, tmp_path: Path
) -> None:
    parameters = [{"Name": "Word", "Type": "String", "DefaultValue": "hello"}]
    word = {"Environment": {"WORD": {"Get": "Parameters.Word"}}}
    out = "Steps.First.ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri"
    source = {"InputName": "in", "S3Input": {"S3Uri": {"Get": out}, "LocalPath": "/opt/ml/processing/in"}}
    source["S3Input"].update(S3DataType="S3Prefix", S3InputMode="File")  # type: ignore[attr-defined]
    first = counting(
        tmp_path, "First", "echo $WORD > /opt/ml/processing/out/word", outputs={"out": cloud.s3("o")}, arguments=word
    )
    script = f"cat /opt/ml/processing/in/word - <<< $WORD >> {tmp_path}/words"
    second = counting(tmp_path, "Second", script, arguments={"ProcessingInputs": [source], **word})
    name = cloud.create_pipeline(definition(first, second, parameters=parameters))

    def start(**more: Any) -> Any:
        started = cloud.sagemaker.start_pipeline_execution(PipelineName=name, **more)
        return cloud.ended(started["PipelineExecutionArn"])

    whole = start(PipelineParameters=[{"Name": "Word", "Value": "bonjour"}])
    selective = {"SourcePipelineExecutionArn": whole.arn, "SelectedSteps": [{"StepName": "Second"}]}
    part = start(SelectiveExecutionConfig=selective)
    assert part.statuses == {"First": "Succeeded", "Second": "Succeeded"}
    taken = part.steps["First"]
    assert taken["SelectiveExecutionResult"] == {"SourcePipelineExecutionArn": whole.arn}
    assert taken["Metadata"] == whole.steps["First"]["Metadata"]
    assert "SelectiveExecutionResult" not in part.steps["Second"]
    start(SelectiveExecutionConfig=selective, PipelineParameters=[{"Name": "Word", "Value": "ciao"}])
    assert (tmp_path / "words").read_text().split() == ["bonjour"] * 5 + ["ciao"]
    assert runs(tmp_path) == ["First", "Second", "Second", "Second"]
    described = cloud.sagemaker.describe_pipeline_execution(PipelineExecutionArn=part.arn)
    assert described["SelectiveExecutionConfig"] == selective
    alone = start(SelectiveExecutionConfig={"SelectedSteps": [{"StepName": "First"}]})
    assert alone.statuses == {"First": "Succeeded"}
    other = cloud.run(definition()).arn
    for config, message in (
        ({"SelectedSteps": [{"StepName": "Second"}]}, "need step 'First'"),
        ({**selective, "SourcePipelineExecutionArn": other}, "must be an execution of pipeline"),
    ):
        with pytest.raises(ClientError, match=message):
            start(SelectiveExecutionConfig=config)


def test_a_selected_condition_opens_only_what_is_selected(cloud: Cloud, tmp_path: Path) -> None:
    gate = condition("Gate", [TRUE], [counting(tmp_path, "Yes"), counting(tmp_path, "AlsoYes")], [])
    name = cloud.create_pipeline(definition(gate))

    def start(*steps: str) -> dict[str, str]:
        selected = {"SelectedSteps": [{"StepName": each} for each in steps]}
        started = cloud.sagemaker.start_pipeline_execution(PipelineName=name, SelectiveExecutionConfig=selected)
        return cloud.ended(started["PipelineExecutionArn"]).statuses

    assert start("Gate", "Yes") == {"Gate": "Succeeded", "Yes": "Succeeded"}
    assert start("AlsoYes") == {"AlsoYes": "Succeeded"}
    assert runs(tmp_path) == ["Yes", "AlsoYes"]


def test_a_job_knows_the_name_that_it_is_started_under(cloud: Cloud) -> None:
    name = {"Environment": {"NAME": {"Get": "Execution.ProcessingJobName"}}, "ProcessingJobName": "team-a"}
    run = cloud.run(definition(step("Look", "echo $NAME", arguments=name)))
    job = run.steps["Look"]["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
    assert job.startswith("team-a-") and len(job) <= 63
    assert cloud.log("/aws/sagemaker/ProcessingJobs", job) == [job]
    elsewhere = {"LeftValue": {"Get": "Execution.ProcessingJobName"}, "RightValue": "x", "Type": "Equals"}
    run = cloud.run(definition(condition("Gate", [elsewhere], [], [])))
    assert "only in a step that starts such a job" in run.reason


def test_a_retry_policy_waits_for_instances_to_become_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAGEMAKER_EMBEDDED_INSTANCES", "1")
    server = control.start(tmp_path / "state", port=0, region="eu-central-1")
    try:
        session = boto3.Session("local", "local", region_name=server.region)
        cloud = Cloud(lambda service: session.client(service, endpoint_url=server.url), "unused")
        policy = {
            "ExceptionType": ["SageMaker.RESOURCE_LIMIT"],
            "IntervalSeconds": 1,
            "BackoffRate": 1.0,
            "MaxAttempts": 20,
        }
        patient = step("Patient", "true", RetryPolicies=[policy])
        long = cloud.process(f"touch {tmp_path}/started; until [ -e {tmp_path}/refused ]; do sleep 0.1; done")
        wait_until((tmp_path / "started").exists, bool)
        arn = cloud.start(definition(patient, step("Hasty", "true")))
        wait_until(
            lambda: cloud.sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"],
            lambda steps: {"Failed"} <= {each["StepStatus"] for each in steps},
        )
        (tmp_path / "refused").touch()
        run = cloud.ended(arn)
        assert cloud.processed(long)["ProcessingJobStatus"] == "Completed"
        assert run.statuses["Patient"] == "Succeeded", run.steps["Patient"]
        assert run.steps["Patient"]["AttemptCount"] > 1
        assert run.statuses["Hasty"] == "Failed"
        assert "limit of the embedded SageMaker is 1 Instances" in run.steps["Hasty"]["FailureReason"]
    finally:
        control.stop(tmp_path / "state")


def test_a_steps_followers_are_free_only_when_it_is_written_down_as_succeeded(tmp_path: Path) -> None:
    """They wait for its result, so that is what comes last."""
    store = Store(tmp_path / "records.sqlite")
    arn = "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/p/execution/0123456789ab"
    record = {
        "PipelineExecutionArn": arn,
        "PipelineArn": arn.partition("/execution/")[0],
        "PipelineExecutionStatus": "Executing",
        "ParallelismConfiguration": {},
        "_definition": {"Steps": [condition("Gate", [TRUE], [condition("Next", [TRUE], [], [])], [])]},
        "_parameters": {},
    }
    store.insert("PipelineExecution", arn, record)
    nobody: Any = SimpleNamespace(step=lambda *_: None, execution=lambda *_: None)
    context = ExecutionContext(Service(), store, nobody, arn, lambda service: None)
    execution = Execution(context, record)
    noted: dict[str, str] = {}

    class Results(dict[str, Record]):
        def __setitem__(self, step: str, result: Record) -> None:
            noted[step] = (store.get("PipelineExecutionStep", f"{arn}/{step}") or {})["StepStatus"]
            super().__setitem__(step, result)

    execution.results = Results()
    execution.run()
    assert noted == {"Gate": "Succeeded", "Next": "Succeeded"}
    assert (store.get("PipelineExecution", arn) or {})["PipelineExecutionStatus"] == "Succeeded"
    store.close()
