"""What SageMaker's events say, field by field as AWS documents them."""

from __future__ import annotations

from infra.local.events import details as event_details
from infra.local.service import service_model

ARN = "arn:aws:sagemaker:eu-central-1:123456789012"


def test_every_job_is_told_as_describing_it_would() -> None:
    model = service_model()
    training = {
        "TrainingJobName": "t",
        "TrainingJobArn": f"{ARN}:training-job/t",
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
        "CreationTime": 1583831889.05,
        "SecondaryStatusTransitions": [{"Status": "Starting", "StartTime": 1583831889.05}],
        "FailureReason": None,
        "_private": "never shown",
    }
    change = event_details.resource(model, "TrainingJob", training, {"team": "a"})
    assert change == (
        "SageMaker Training Job State Change",
        [f"{ARN}:training-job/t"],
        {
            "TrainingJobName": "t",
            "TrainingJobArn": f"{ARN}:training-job/t",
            "TrainingJobStatus": "Completed",
            "SecondaryStatus": "Completed",
            "CreationTime": 1583831889050,
            "SecondaryStatusTransitions": [{"Status": "Starting", "StartTime": 1583831889050}],
            "Tags": {"team": "a"},
        },
    )
    transform = {"TransformJobArn": f"{ARN}:transform-job/t", "CreationTime": 1538828773.0}
    assert event_details.resource(model, "TransformJob", transform, {}).detail["CreationTime"] == "2018-10-06T12:26:13Z"
    for status, told in {"InService": "IN_SERVICE", "RollingBack": "ROLLING_BACK", "Failed": "FAILED"}.items():
        endpoint = {"EndpointArn": f"{ARN}:endpoint/e", "EndpointStatus": status}
        assert event_details.resource(model, "Endpoint", endpoint, {}).detail["EndpointStatus"] == told


def test_executions_and_steps_are_told_in_the_fields_that_aws_documents() -> None:
    execution = {
        "PipelineArn": f"{ARN}:pipeline/p",
        "PipelineExecutionArn": f"{ARN}:pipeline/p/execution/e",
        "PipelineExecutionDisplayName": "shown",
        "PipelineExecutionStatus": "Succeeded",
        "CreationTime": 1615824193.2,
        "LastModifiedTime": 1615824610.7,
    }
    whose = {"pipelineArn": f"{ARN}:pipeline/p", "pipelineExecutionArn": f"{ARN}:pipeline/p/execution/e"}
    change = event_details.execution(execution, "Executing")
    assert change == (
        "SageMaker Model Building Pipeline Execution Status Change",
        list(whose.values()),
        {
            "pipelineExecutionDisplayName": "shown",
            "currentPipelineExecutionStatus": "Succeeded",
            "previousPipelineExecutionStatus": "Executing",
            "executionStartTime": "2021-03-15T16:03:13Z",
            "executionEndTime": "2021-03-15T16:10:10Z",
            **whose,
        },
    )
    assert (
        "executionEndTime"
        not in event_details.execution({**execution, "PipelineExecutionStatus": "Executing"}, None).detail
    )
    record = {
        "StepName": "Train",
        "StepStatus": "Failed",
        "StartTime": 1615824193.2,
        "EndTime": 1615824610.7,
        "FailureReason": "broken",
        "CacheHitResult": {"SourcePipelineExecutionArn": "earlier"},
        "Metadata": {"TrainingJob": {"Arn": f"{ARN}:training-job/t"}},
    }
    change = event_details.step(execution, record, "Training", "Executing")
    assert change == (
        "SageMaker Model Building Pipeline Execution Step Status Change",
        list(whose.values()),
        {
            "metadata": {"trainingJob": {"arn": f"{ARN}:training-job/t"}},
            "stepStartTime": "2021-03-15T16:03:13Z",
            "stepEndTime": "2021-03-15T16:10:10Z",
            "stepName": "Train",
            "stepType": "Training",
            "previousStepStatus": "Executing",
            "currentStepStatus": "Failed",
            "cacheHitResult": {"sourcePipelineExecutionArn": "earlier"},
            "failureReason": "broken",
            **whose,
        },
    )
