"""The SageMaker SDK's own pipelines and executions against the embedded SageMaker."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import WaiterError
from embedded_cloud import ROLE, Cloud

from infra.local.control import RunningServer


@pytest.fixture
def session(embedded: RunningServer, monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> Iterator[Any]:
    """The SDK's pipeline session, aimed at the embedded SageMaker as any AWS client is: by its address."""
    variables = {
        "AWS_ENDPOINT_URL": embedded.url,
        "AWS_DEFAULT_REGION": embedded.region,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "SAGEMAKER_VALIDATE_ROLE": "false",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    from sagemaker.core.workflow.pipeline_context import PipelineSession

    off = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
    yield PipelineSession(
        boto_session=boto3.Session(region_name=embedded.region), default_bucket=cloud.bucket, sagemaker_config=off
    )


def pipeline_of_the_sdk(session: Any, cloud: Cloud) -> Any:
    """A number written by one step, a condition on it, and a branch on either side."""
    from sagemaker.core.processing import Processor
    from sagemaker.core.shapes import ProcessingOutput, ProcessingS3Output
    from sagemaker.core.workflow.conditions import ConditionGreaterThanOrEqualTo
    from sagemaker.core.workflow.execution_variables import ExecutionVariables
    from sagemaker.core.workflow.functions import Join, JsonGet
    from sagemaker.core.workflow.parameters import ParameterFloat
    from sagemaker.core.workflow.properties import PropertyFile
    from sagemaker.mlops.workflow.condition_step import ConditionStep
    from sagemaker.mlops.workflow.fail_step import FailStep
    from sagemaker.mlops.workflow.pipeline import Pipeline
    from sagemaker.mlops.workflow.retry import StepExceptionTypeEnum, StepRetryPolicy
    from sagemaker.mlops.workflow.steps import ProcessingStep

    limit = ParameterFloat(name="Limit", default_value=0.5)
    processor = Processor(
        role=ROLE,
        image_uri="any",
        instance_count=1,
        instance_type="ml.m5.large",
        entrypoint=["bash", "-c", 'echo "{\\"score\\": 0.7}" > /opt/ml/processing/out/scores.json'],
        sagemaker_session=session,
    )
    uri = Join(on="/", values=[f"s3://{cloud.bucket}", ExecutionVariables.PIPELINE_EXECUTION_ID, "out"])
    written = ProcessingS3Output(s3_uri=uri, local_path="/opt/ml/processing/out", s3_upload_mode="EndOfJob")
    scores = PropertyFile(name="Scores", output_name="out", path="scores.json")
    report = ProcessingStep(
        name="Report",
        step_args=processor.run(outputs=[ProcessingOutput(output_name="out", s3_output=written)]),
        property_files=[scores],
        retry_policies=[StepRetryPolicy([StepExceptionTypeEnum.THROTTLING], max_attempts=2)],
    )
    score = JsonGet(step_name=report.name, property_file=scores, json_path="score")
    gate = ConditionStep(
        name="Gate",
        conditions=[ConditionGreaterThanOrEqualTo(left=score, right=limit)],
        else_steps=[FailStep(name="TooLow", error_message=Join(on=" ", values=["less than", limit]))],
    )
    name = f"sdk-{secrets.token_hex(4)}"
    return Pipeline(name=name, parameters=[limit], steps=[report, gate], sagemaker_session=session)


def test_a_pipeline_of_the_sdk_is_upserted_started_waited_for_and_listed(session: Any, cloud: Cloud) -> None:
    from sagemaker.mlops.workflow.selective_execution_config import SelectiveExecutionConfig

    pipeline = pipeline_of_the_sdk(session, cloud)
    for _ in range(2):
        pipeline.upsert(role_arn=ROLE)
    execution = pipeline.start()
    execution.wait(delay=1)
    assert {step["StepName"]: step["StepStatus"] for step in execution.list_steps()} == {
        "Report": "Succeeded",
        "Gate": "Succeeded",
    }
    assert execution.describe()["PipelineExecutionStatus"] == "Succeeded"
    assert execution.list_parameters()["PipelineParameters"] == [{"Name": "Limit", "Value": "0.5"}]

    # The SDK names the latest execution as the source by itself.
    again = pipeline.start(
        parameters={"Limit": 0.9},
        selective_execution_config=SelectiveExecutionConfig(selected_steps=["Gate", "TooLow"]),
    )
    with pytest.raises(WaiterError, match="terminal failure"):
        again.wait(delay=1)
    steps = {step["StepName"]: step for step in again.list_steps()}
    assert steps["Report"]["SelectiveExecutionResult"]["SourcePipelineExecutionArn"] == execution.arn
    assert steps["TooLow"]["FailureReason"] == "less than 0.9"

    first = pipeline.start(pipeline_version_id=1)
    first.wait(delay=1)
    assert first.describe()["PipelineVersionId"] == 1
    assert len(pipeline.list_pipeline_versions()["PipelineVersionSummaries"]) == 2
    assert len(pipeline.list_executions()["PipelineExecutionSummaries"]) == 3
    pipeline.delete()
