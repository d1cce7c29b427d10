"""The pipeline calls as boto3 sees them, and what becomes of executions."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_cloud import ROLE, Cloud, condition, definition, fail, step, wait_until


def refused(code: str, call: Callable[..., Any], **request: Any) -> str:
    with pytest.raises(ClientError) as refusal:
        call(**request)
    assert refusal.value.response["Error"]["Code"] == code
    return str(refusal.value)


def test_the_life_of_a_pipeline(cloud: Cloud) -> None:
    name, first, second = f"p-{secrets.token_hex(4)}", definition(), definition(step("A", "true"))
    create = {"PipelineName": name, "PipelineDefinition": first, "RoleArn": ROLE}
    arn = cloud.sagemaker.create_pipeline(
        **create, PipelineDisplayName="Shown", Tags=[{"Key": "team", "Value": "signs"}]
    )["PipelineArn"]
    assert arn == f"arn:aws:sagemaker:eu-central-1:123456789012:pipeline/{name}"
    assert f"Pipeline with name ({name}) already exists" in refused(
        "ValidationException", cloud.sagemaker.create_pipeline, **create
    )
    cloud.sagemaker.update_pipeline(PipelineName=name, PipelineDefinition=second)
    cloud.sagemaker.update_pipeline(PipelineName=name, PipelineDescription="described")
    described = cloud.sagemaker.describe_pipeline(PipelineName=arn)
    assert described["PipelineDefinition"] == second
    assert (described["PipelineDescription"], described["PipelineDisplayName"]) == ("described", "Shown")
    listed = cloud.sagemaker.list_pipelines(PipelineNamePrefix=name)["PipelineSummaries"]
    assert [summary["PipelineArn"] for summary in listed] == [arn]
    assert cloud.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "signs"}]
    cloud.sagemaker.delete_pipeline(PipelineName=name)
    assert cloud.sagemaker.list_tags(ResourceArn=arn)["Tags"] == []
    for call in (cloud.sagemaker.describe_pipeline, cloud.sagemaker.delete_pipeline):
        assert name in refused("ResourceNotFound", call, PipelineName=name)
    assert name in refused("ResourceNotFound", cloud.sagemaker.start_pipeline_execution, PipelineName=name)


def test_every_update_makes_a_version_that_can_be_run(cloud: Cloud) -> None:
    first, second = definition(step("First", "true")), definition(step("Second", "true"))
    name = cloud.create_pipeline(first)
    assert cloud.sagemaker.update_pipeline(PipelineName=name, PipelineDefinition=second)["PipelineVersionId"] == 2
    assert cloud.sagemaker.update_pipeline(PipelineName=name, PipelineDescription="same")["PipelineVersionId"] == 3
    arn = cloud.sagemaker.start_pipeline_execution(PipelineName=name, PipelineVersionId=1)["PipelineExecutionArn"]
    assert cloud.ended(arn).statuses == {"First": "Succeeded"}
    assert cloud.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)["PipelineVersionId"] == 1
    newest = cloud.sagemaker.start_pipeline_execution(PipelineName=name)["PipelineExecutionArn"]
    assert cloud.ended(newest).statuses == {"Second": "Succeeded"}
    described = cloud.sagemaker.describe_pipeline(PipelineName=name, PipelineVersionId=1)
    assert described["PipelineDefinition"] == first
    cloud.sagemaker.update_pipeline_version(
        PipelineArn=described["PipelineArn"], PipelineVersionId=1, PipelineVersionDescription="as it began"
    )
    versions = cloud.sagemaker.list_pipeline_versions(PipelineName=name, SortOrder="Ascending")
    summaries = versions["PipelineVersionSummaries"]
    assert [summary["PipelineVersionId"] for summary in summaries] == [1, 2, 3]
    assert (summaries[0]["PipelineVersionDescription"], summaries[0]["LastExecutionPipelineExecutionArn"]) == (
        "as it began",
        arn,
    )
    for call in (cloud.sagemaker.describe_pipeline, cloud.sagemaker.start_pipeline_execution):
        assert "Version 4" in refused("ResourceNotFound", call, PipelineName=name, PipelineVersionId=4)
    cloud.sagemaker.delete_pipeline(PipelineName=name)
    again = cloud.sagemaker.create_pipeline(PipelineName=name, PipelineDefinition=first, RoleArn=ROLE)
    (only,) = cloud.sagemaker.list_pipeline_versions(PipelineName=again["PipelineArn"])["PipelineVersionSummaries"]
    assert only["PipelineVersionId"] == 1
    assert "LastExecutionPipelineExecutionArn" not in only


def test_a_definition_may_lie_in_s3(cloud: Cloud) -> None:
    cloud.put({"definition": definition(step("A", "true"))})
    request = {"PipelineName": f"p-{secrets.token_hex(4)}", "RoleArn": ROLE}
    location = {"Bucket": cloud.bucket, "ObjectKey": "definition"}
    cloud.sagemaker.create_pipeline(**request, PipelineDefinitionS3Location=location)
    described = cloud.sagemaker.describe_pipeline(PipelineName=request["PipelineName"])
    assert json.loads(described["PipelineDefinition"])["Steps"][0]["Name"] == "A"
    message = refused(
        "ValidationException",
        cloud.sagemaker.update_pipeline,
        PipelineName=request["PipelineName"],
        PipelineDefinitionS3Location={**location, "ObjectKey": "nothing-here"},
    )
    assert f"s3://{cloud.bucket}/nothing-here" in message


def test_requests_are_held_against_the_service_model(cloud: Cloud) -> None:
    create, start = cloud.sagemaker.create_pipeline, cloud.sagemaker.start_pipeline_execution
    good = {"PipelineName": f"p-{secrets.token_hex(4)}", "PipelineDefinition": definition(), "RoleArn": ROLE}
    assert "pattern" in refused("ValidationException", create, **{**good, "PipelineName": "not_allowed"})
    assert "'RoleArn'" in refused("ValidationException", create, **{**good, "RoleArn": "no arn at all, yet long"})
    assert "less than or equal to 100" in refused("ValidationException", cloud.sagemaker.list_pipelines, MaxResults=101)
    assert "enum" in refused("ValidationException", cloud.sagemaker.list_pipelines, SortOrder="Up")
    assert "NextToken" in refused("ValidationException", cloud.sagemaker.list_pipelines, NextToken="never-given")
    name = cloud.create_pipeline(definition())
    message = refused("UnsupportedOperation", start, PipelineName=name, PipelineVersionAlias="latest")
    assert "PipelineVersionAlias is not supported" in message
    assert "ListAutoMLJobs is not supported" in refused("UnsupportedOperation", cloud.sagemaker.list_auto_ml_jobs)


def test_lists_are_sorted_filtered_and_paged(cloud: Cloud) -> None:
    prefix = f"p-{secrets.token_hex(4)}"
    for letter in "bca":
        cloud.sagemaker.create_pipeline(
            PipelineName=f"{prefix}-{letter}", PipelineDefinition=definition(), RoleArn=ROLE
        )

    def names(**request: Any) -> list[str]:
        pages = cloud.sagemaker.get_paginator("list_pipelines").paginate(
            PipelineNamePrefix=prefix, PaginationConfig={"PageSize": 2}, **request
        )
        return [item["PipelineName"][-1] for page in pages for item in page["PipelineSummaries"]]

    assert names() == ["a", "c", "b"]
    assert names(SortOrder="Ascending") == ["b", "c", "a"]
    assert names(SortBy="Name", SortOrder="Ascending") == ["a", "b", "c"]
    assert names(CreatedAfter=0) == ["a", "c", "b"]
    assert names(CreatedBefore=0) == []


def test_a_definition_that_could_never_run_is_refused(cloud: Cloud) -> None:
    def message(text: str) -> str:
        request = {"PipelineName": "never", "PipelineDefinition": text, "RoleArn": ROLE}
        return refused("ValidationException", cloud.sagemaker.create_pipeline, **request)

    assert "'A': refers to step 'B'" in message(definition(step("A", "true", DependsOn=["B"])))
    assert "Unable to parse" in message("this is not JSON")
    name = cloud.create_pipeline(definition())
    assert "Unable to parse" in refused(
        "ValidationException", cloud.sagemaker.update_pipeline, PipelineName=name, PipelineDefinition="{}"
    )
    assert cloud.sagemaker.describe_pipeline(PipelineName=name)["PipelineDefinition"] == definition()


PARAMETERS = [
    {"Name": "Limit", "Type": "Float", "DefaultValue": 0.5},
    {"Name": "Word", "Type": "String", "DefaultValue": "hello"},
]


def gate(cloud: Cloud) -> str:
    """A step that writes a report, a condition on a number in it, and one step in either branch."""
    report = step(
        "Report",
        'echo "{\\"score\\": {\\"all\\": [0.7]}}" > /opt/ml/processing/out/report.json; echo $WORD',
        outputs={"out": cloud.s3("report")},
        PropertyFiles=[{"PropertyFileName": "Scores", "OutputName": "out", "FilePath": "report.json"}],
        arguments={"Environment": {"WORD": {"Get": "Parameters.Word"}}},
    )
    score = {"PropertyFile": {"Get": "Steps.Report.PropertyFiles.Scores"}, "Path": "score.all[0]"}
    check = {
        "Type": "GreaterThanOrEqualTo",
        "LeftValue": {"Std:JsonGet": score},
        "RightValue": {"Get": "Parameters.Limit"},
    }
    words = [{"Get": "Parameters.Limit"}, {"Get": "Execution.PipelineName"}]
    no = fail("No", {"Std:Join": {"On": " is too much for ", "Values": words}})
    written_to = {"Get": "Steps.Report.ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri"}
    yes = step("Yes", "echo $FROM", arguments={"Environment": {"FROM": written_to}})
    return definition(report, condition("Gate", [check], [yes], [no]), parameters=PARAMETERS)


def test_the_condition_that_holds_takes_its_branch(cloud: Cloud) -> None:
    run = cloud.run(gate(cloud), PipelineParameters=[{"Name": "Word", "Value": "bonjour"}])
    assert (run.status, run.reason) == ("Succeeded", "")
    assert run.statuses == {"Report": "Succeeded", "Gate": "Succeeded", "Yes": "Succeeded"}
    assert run.steps["Gate"]["Metadata"]["Condition"]["Outcome"] == "True"
    jobs = {name: run.steps[name]["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2] for name in ("Report", "Yes")}
    assert cloud.log("/aws/sagemaker/ProcessingJobs", jobs["Report"]) == ["bonjour"]
    assert cloud.log("/aws/sagemaker/ProcessingJobs", jobs["Yes"]) == [cloud.s3("report")]
    listed = cloud.sagemaker.list_pipeline_parameters_for_execution(PipelineExecutionArn=run.arn)
    assert {p["Name"]: p["Value"] for p in listed["PipelineParameters"]} == {"Limit": "0.5", "Word": "bonjour"}


def test_the_condition_that_does_not_hold_takes_the_other(cloud: Cloud) -> None:
    run = cloud.run(gate(cloud), PipelineParameters=[{"Name": "Limit", "Value": "0.8"}])
    assert run.status == "Failed"
    assert run.statuses == {"Report": "Succeeded", "Gate": "Succeeded", "No": "Failed"}
    assert run.steps["No"]["FailureReason"].startswith("0.8 is too much for pipeline-")
    assert "No: 0.8 is too much" in run.reason
    pipeline = run.arn.rpartition("/execution/")[0].rpartition("/")[2]
    (listed,) = cloud.sagemaker.list_pipeline_executions(PipelineName=pipeline)["PipelineExecutionSummaries"]
    assert listed["PipelineExecutionFailureReason"] == run.reason


def test_parameters_are_checked_before_anything_runs(cloud: Cloud) -> None:
    name = cloud.create_pipeline(gate(cloud))
    for parameter, word in ((("Limid", "1"), "Limid"), (("Limit", "high"), "Float")):
        given = [{"Name": parameter[0], "Value": parameter[1]}]
        start = cloud.sagemaker.start_pipeline_execution
        assert word in refused("ValidationException", start, PipelineName=name, PipelineParameters=given)
    assert cloud.sagemaker.list_pipeline_executions(PipelineName=name)["PipelineExecutionSummaries"] == []


def test_the_same_token_starts_one_execution(cloud: Cloud) -> None:
    name, token = cloud.create_pipeline(definition()), secrets.token_hex(20)
    arns = {
        cloud.sagemaker.start_pipeline_execution(PipelineName=name, ClientRequestToken=token)["PipelineExecutionArn"]
        for _ in range(2)
    }
    assert len(arns) == 1
    assert cloud.ended(arns.pop()).status == "Succeeded"


def meeting(name: str, own: Path, other: Path) -> dict[str, Any]:
    """A step that ends only if another one runs at the same time."""
    return step(name, f"touch {own}; for i in $(seq 300); do [ -e {other} ] && exit 0; sleep 0.1; done; exit 1")


def test_independent_steps_run_side_by_side(cloud: Cloud, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert cloud.run(definition(meeting("One", one, two), meeting("Two", two, one))).status == "Succeeded"


def test_parallelism_can_be_bounded_and_dependencies_order_steps(cloud: Cloud, tmp_path: Path) -> None:
    alone = f"cd {tmp_path} && mkdir busy && echo $0 >> order && sleep 0.2 && rmdir busy"
    steps = [step(name, alone.replace("$0", name)) for name in ("A", "B", "C")]
    steps[0]["DependsOn"] = ["C"]
    run = cloud.run(definition(*steps), ParallelismConfiguration={"MaxParallelExecutionSteps": 1})
    assert run.status == "Succeeded", run.reason
    order = (tmp_path / "order").read_text().split()
    assert sorted(order) == ["A", "B", "C"]
    assert order.index("C") < order.index("A")


def test_what_follows_a_failed_step_does_not_run(cloud: Cloud) -> None:
    run = cloud.run(definition(step("Bad", "echo it broke; exit 7"), step("After", "true", DependsOn=["Bad"])))
    assert run.status == "Failed"
    assert run.statuses == {"Bad": "Failed"}
    assert run.steps["Bad"]["FailureReason"] == "AlgorithmError: it broke, exit code: 7"


def test_arguments_that_aws_refuses_fail_the_step_with_its_words(cloud: Cloud) -> None:
    run = cloud.run(definition(step("Bad_Role", "true", arguments={"RoleArn": "nobody, but long enough"})))
    assert run.statuses == {"Bad_Role": "Failed"}
    assert "RoleArn" in run.steps["Bad_Role"]["FailureReason"]


def test_a_property_file_that_is_not_there_fails_the_condition(cloud: Cloud) -> None:
    text = gate(cloud).replace("report.json; echo", "other.json; echo")
    run = cloud.run(text)
    assert run.statuses == {"Report": "Succeeded", "Gate": "Failed"}
    assert f"property file Scores of step Report is not there: {cloud.s3('report/report.json')}" in run.reason


def test_a_step_that_runs_out_of_time_fails(cloud: Cloud) -> None:
    slow = step("Slow", "sleep 100", arguments={"StoppingCondition": {"MaxRuntimeInSeconds": 1}})
    run = cloud.run(definition(slow))
    assert (run.status, run.statuses) == ("Failed", {"Slow": "Failed"})
    assert "longer than MaxRuntimeInSeconds (1)" in run.reason


def test_stop_ends_the_job_and_starts_nothing_new(cloud: Cloud, tmp_path: Path) -> None:
    script = f"cd {tmp_path}; echo $$ > pid.new; mv pid.new pid; sleep 100"
    arn = cloud.start(definition(step("Long", script), step("After", "true", DependsOn=["Long"])))
    wait_until((tmp_path / "pid").exists, bool)
    pipeline = arn.rpartition("/execution/")[0].rpartition("/")[2]
    assert "running executions" in refused("ConflictException", cloud.sagemaker.delete_pipeline, PipelineName=pipeline)
    cloud.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=secrets.token_hex(20))
    run = cloud.ended(arn)
    assert (run.status, run.statuses) == ("Stopped", {"Long": "Stopped"})
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    message = refused(
        "ValidationException",
        cloud.sagemaker.stop_pipeline_execution,
        PipelineExecutionArn=arn,
        ClientRequestToken=secrets.token_hex(20),
    )
    assert "its status is Stopped" in message
    assert cloud.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)["PipelineExecutionStatus"] == "Stopped"


def test_models_and_packages_are_steps_too(cloud: Cloud) -> None:
    group = f"group-{secrets.token_hex(4)}"
    container = {"Image": "any", "ModelDataUrl": cloud.s3("model.tar.gz")}
    arguments = {
        "ModelPackageGroupName": group,
        "ModelApprovalStatus": "Approved",
        "InferenceSpecification": {
            "Containers": [container],
            "SupportedContentTypes": ["image/png"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    }
    register = {"Name": "Register", "Type": "RegisterModel", "Arguments": arguments}
    model = {
        "PrimaryContainer": {"ModelPackageName": {"Get": "Steps.Register.ModelPackageArn"}},
        "ExecutionRoleArn": ROLE,
    }
    text = definition(register, {"Name": "Make_A_Model", "Type": "Model", "Arguments": model})
    assert cloud.run(text).status == "Succeeded"
    run = cloud.run(text)
    assert run.status == "Succeeded", run.reason
    package = run.steps["Register"]["Metadata"]["RegisterModel"]["Arn"]
    assert package.endswith(f":model-package/{group}/2")
    made = run.steps["Make_A_Model"]["Metadata"]["Model"]["Arn"].rpartition("/")[2]
    assert cloud.sagemaker.describe_model(ModelName=made)["PrimaryContainer"]["ModelPackageName"] == package
