"""Five steps that do nothing, as a pipeline of the embedded SageMaker: starts it and waits, like any client of AWS."""

import sys
import time

import boto3
from evidence import note_seconds

POLL_SECONDS = 0.02


def main() -> None:
    """Start the pipeline that the argument names and wait for its end."""
    sagemaker = boto3.client("sagemaker")
    start = time.perf_counter()
    arn = sagemaker.start_pipeline_execution(PipelineName=sys.argv[1])["PipelineExecutionArn"]
    while True:
        described = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
        if described["PipelineExecutionStatus"] not in ("Executing", "Stopping"):
            break
        time.sleep(POLL_SECONDS)
    note_seconds(time.perf_counter() - start)
    if described["PipelineExecutionStatus"] != "Succeeded":
        raise SystemExit(described.get("FailureReason", described["PipelineExecutionStatus"]))


if __name__ == "__main__":
    main()
