"""Processing and training jobs as boto3 sees them: data in, data out, and how they end."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_cloud import CLUSTER, Cloud, wait_until

TWO = {**CLUSTER, "InstanceCount": 2}


def s3_input(uri: str, path: str, **more: Any) -> dict[str, Any]:
    source = {"S3Uri": uri, "LocalPath": path, "S3DataType": "S3Prefix", "S3InputMode": "File", **more}
    return {"InputName": path.rpartition("/")[2], "S3Input": source}


def channel(name: str, uri: str, **more: Any) -> dict[str, Any]:
    source = {"S3DataSource": {"S3Uri": uri, "S3DataType": "S3Prefix", **more}}
    return {"ChannelName": name, "DataSource": source}


def members(archive: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {item.name: tar.extractfile(item).read().decode() for item in tar if item.isfile()}  # type: ignore[union-attr]  # files only


def test_a_processing_job_reads_and_writes_s3(cloud: Cloud) -> None:
    cloud.put({"data/a": "1", "data/deep/b": "2"})
    script = "cd /opt/ml/processing; cat in/a in/deep/b > out/sum; echo all done > /opt/ml/output/message"
    job = cloud.process(
        script,
        outputs={"out": cloud.s3("result")},
        arguments={"ProcessingInputs": [s3_input(cloud.s3("data/"), "/opt/ml/processing/in")]},
    )
    described = cloud.processed(job)
    assert described["ProcessingJobStatus"] == "Completed", described
    assert described["ExitMessage"] == "all done"
    assert described["ProcessingStartTime"] <= described["ProcessingEndTime"]
    assert cloud.get(cloud.s3("result/sum")) == b"12"


def test_a_failed_job_says_why_in_its_own_words_and_leaves_its_outputs(cloud: Cloud) -> None:
    script = "echo noise; echo 7 > /opt/ml/processing/out/seen; echo no rows in a.csv > /opt/ml/output/message; exit 2"
    described = cloud.processed(cloud.process(script, outputs={"out": cloud.s3("result")}))
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"] == "AlgorithmError: no rows in a.csv, exit code: 2"
    assert cloud.get(cloud.s3("result/seen")) == b"7\n"


def test_a_missing_input_and_a_missing_command_are_named(cloud: Cloud) -> None:
    inputs = [s3_input(cloud.s3("none"), "/opt/ml/processing/in")]
    missing = cloud.processed(cloud.process("true", arguments={"ProcessingInputs": inputs}))
    assert f'No S3 objects found under S3 URL "{cloud.s3("none")}"' in missing["FailureReason"]
    command = {"AppSpecification": {"ImageUri": "any", "ContainerEntrypoint": ["no-such-command"]}}
    unknown = cloud.processed(cloud.process("", arguments=command))
    assert "no-such-command" in unknown["FailureReason"]
    outside = [s3_input(cloud.s3("none"), "/etc")]
    elsewhere = cloud.processed(cloud.process("true", arguments={"ProcessingInputs": outside}))
    assert "'/etc' is outside /opt/ml" in elsewhere["FailureReason"]


def test_what_cannot_run_here_is_refused_by_name(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match="ContainerEntrypoint"):
        cloud.process("", arguments={"AppSpecification": {"ImageUri": "any"}})
    with pytest.raises(ClientError, match="S3InputMode Pipe is not supported"):
        piped = s3_input(cloud.s3("x"), "/opt/ml/processing/in", S3InputMode="Pipe")
        cloud.process("true", arguments={"ProcessingInputs": [piped]})
    with pytest.raises(ClientError, match="S3DataType AugmentedManifestFile is not supported"):
        cloud.train("true", InputDataConfig=[channel("a", cloud.s3("x"), S3DataType="AugmentedManifestFile")])
    with pytest.raises(ClientError, match="is not a regular expression"):
        cloud.train("true", AlgorithmSpecification={"MetricDefinitions": [{"Name": "m", "Regex": "("}]})


def test_two_instances_share_the_data_and_know_each_other(cloud: Cloud) -> None:
    cloud.put({"data/a": "a", "data/b": "b", "data/c": "c"})
    script = (
        "cd /opt/ml/processing; host=$(python3 -c "
        '\'import json; c = json.load(open("/opt/ml/config/resourceconfig.json"));'
        'print(c["current_host"], *c["hosts"], sep="+")\');'
        'ls split | tr -d "\\n" > "out/$host"; ls whole | tr -d "\\n" >> "out/$host"'
    )
    inputs = [
        s3_input(cloud.s3("data"), "/opt/ml/processing/split", S3DataDistributionType="ShardedByS3Key"),
        s3_input(cloud.s3("data"), "/opt/ml/processing/whole"),
    ]
    job = cloud.process(
        script,
        outputs={"out": cloud.s3("out")},
        arguments={"ProcessingInputs": inputs, "ProcessingResources": {"ClusterConfig": TWO}},
    )
    assert cloud.processed(job)["ProcessingJobStatus"] == "Completed"
    assert cloud.get(cloud.s3("out/algo-1+algo-1+algo-2")) == b"acabc"
    assert cloud.get(cloud.s3("out/algo-2+algo-1+algo-2")) == b"babc"


def test_one_instance_that_fails_ends_the_others(cloud: Cloud) -> None:
    script = (
        'grep -q \'"current_host": "algo-2"\' /opt/ml/config/resourceconfig.json && { echo lost; exit 3; }; sleep 100'
    )
    job = cloud.process(script, arguments={"ProcessingResources": {"ClusterConfig": TWO}})
    assert cloud.processed(job)["FailureReason"] == "AlgorithmError: algo-2: lost, exit code: 3"


def test_a_job_can_be_stopped_once(cloud: Cloud, tmp_path: Path) -> None:
    job = cloud.process(
        f"trap 'echo bye > /opt/ml/processing/out/bye; exit 1' TERM; echo $$ > {tmp_path}/pid; sleep 100 & wait",
        outputs={"out": cloud.s3("out")},
    )
    pid = int(wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), bool))
    cloud.sagemaker.stop_processing_job(ProcessingJobName=job)
    assert cloud.processed(job)["ProcessingJobStatus"] == "Stopped"
    assert cloud.get(cloud.s3("out/bye")) == b"bye\n"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ClientError, match="its status is Stopped") as refusal:
        cloud.sagemaker.stop_processing_job(ProcessingJobName=job)
    assert refusal.value.response["Error"]["Code"] == "ValidationException"


def test_names_are_unique_and_unknown_ones_refused(cloud: Cloud) -> None:
    name = cloud.process("true")
    described = cloud.processed(name)
    keys = ("ProcessingJobName", "ProcessingResources", "AppSpecification", "RoleArn")
    with pytest.raises(ClientError) as refusal:
        cloud.sagemaker.create_processing_job(**{key: described[key] for key in keys})
    assert refusal.value.response["Error"]["Code"] == "ResourceInUse"
    with pytest.raises(ClientError, match="no-such-job"):
        cloud.sagemaker.describe_training_job(TrainingJobName="no-such-job")
    listed = cloud.sagemaker.list_processing_jobs(NameContains=name, StatusEquals="Completed")["ProcessingJobSummaries"]
    assert [job["ProcessingJobName"] for job in listed] == [name]
    assert not cloud.sagemaker.list_processing_jobs(NameContains=name, StatusEquals="Failed")["ProcessingJobSummaries"]


def test_a_job_reaches_this_cloud_and_no_other(cloud: Cloud) -> None:
    script = (
        "python3 -c \"import boto3; print(boto3.client('sts').get_caller_identity()['Account'], "
        "boto3.client('s3').meta.region_name)\"; echo $PROCESSING_JOB_NAME $OWN"
    )
    job = cloud.process(script, arguments={"Environment": {"OWN": "/opt/ml/x"}})
    assert cloud.processed(job)["ProcessingJobStatus"] == "Completed"
    identity, line = cloud.log("/aws/sagemaker/ProcessingJobs", job)
    assert identity == "123456789012 eu-central-1"
    assert line.startswith(f"{job} /")
    assert line.endswith("/opt/ml/x")


TRAINING = """
cd /opt/ml
cat input/data/train/* > model/weights
echo curve > output/data/curve
cp -r input/config output/data/
for epoch in 1 2; do echo "epoch $epoch accuracy: 0.$epoch loss: nan"; done
"""


def test_a_training_job_makes_a_model(cloud: Cloud) -> None:
    cloud.put({"train/a": "w1", "train/b": "w2"})
    metrics = [{"Name": name, "Regex": f"{name}: (\\S+)"} for name in ("accuracy", "loss")]
    described = cloud.train(
        TRAINING,
        AlgorithmSpecification={"MetricDefinitions": metrics},
        InputDataConfig=[channel("train", cloud.s3("train"), S3DataDistributionType="FullyReplicated")],
        HyperParameters={"epochs": "2"},
    )
    assert described["TrainingJobStatus"] == described["SecondaryStatus"] == "Completed", described
    artifacts = described["ModelArtifacts"]["S3ModelArtifacts"]
    assert artifacts == cloud.s3(f"models/{described['TrainingJobName']}/output/model.tar.gz")
    assert members(cloud.get(artifacts)) == {"weights": "w1w2"}
    output = members(cloud.get(artifacts.replace("model.tar.gz", "output.tar.gz")))
    assert output["curve"] == "curve\n"
    assert json.loads(output["config/hyperparameters.json"]) == {"epochs": "2"}
    assert json.loads(output["config/inputdataconfig.json"])["train"]["TrainingInputMode"] == "File"
    resources = json.loads(output["config/resourceconfig.json"])
    assert (resources["current_host"], resources["hosts"]) == ("algo-1", ["algo-1"])
    assert {m["MetricName"]: round(m["Value"], 3) for m in described["FinalMetricDataList"]} == {"accuracy": 0.2}
    assert (
        cloud.log("/aws/sagemaker/TrainingJobs", described["TrainingJobName"])[0] == "epoch 1 accuracy: 0.1 loss: nan"
    )


def test_a_training_job_that_fails_leaves_no_model(cloud: Cloud) -> None:
    described = cloud.train("echo x > /opt/ml/model/x; echo loss is NaN > /opt/ml/output/failure; exit 1")
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("Failed", "Failed")
    assert described["FailureReason"] == "AlgorithmError: loss is NaN, exit code: 1"
    assert "ModelArtifacts" not in described
    assert cloud.keys("models/") == []


def test_checkpoints_outlive_a_job_that_ran_out_of_time(cloud: Cloud) -> None:
    checkpoints = {"CheckpointConfig": {"S3Uri": cloud.s3("checkpoints")}}
    script = "cd /opt/ml/checkpoints; ls | wc -l > ../model/found; touch epoch-$(date +%N); sleep ${SECONDS_TO_RUN}"
    started = time.monotonic()
    first = cloud.train(
        script, **checkpoints, Environment={"SECONDS_TO_RUN": "100"}, StoppingCondition={"MaxRuntimeInSeconds": 1}
    )
    assert time.monotonic() - started < 60
    assert (first["TrainingJobStatus"], first["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert len(cloud.keys("checkpoints/epoch-")) == 1
    second = cloud.train(script, **checkpoints, Environment={"SECONDS_TO_RUN": "0"})
    assert second["TrainingJobStatus"] == "Completed"
    assert members(cloud.get(second["ModelArtifacts"]["S3ModelArtifacts"])) == {"found": "1\n"}
    assert len(cloud.keys("checkpoints/epoch-")) == 2


def test_a_folder_that_the_script_removed_is_no_failure(cloud: Cloud) -> None:
    described = cloud.train("rm -r /opt/ml/output/data; echo 1 > /opt/ml/model/m")
    assert described["TrainingJobStatus"] == "Completed"


def test_a_chatty_job_neither_hangs_nor_loses_lines(cloud: Cloud) -> None:
    job = cloud.process("seq 30000; echo; printf 'no newline \\xff'")
    assert cloud.processed(job)["ProcessingJobStatus"] == "Completed"
    group, logs = "/aws/sagemaker/ProcessingJobs", cloud.client("logs")
    (stream,) = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/")["logStreams"]
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, logStreamNames=[stream["logStreamName"]]
    )
    lines = [event["message"] for page in pages for event in page["events"]]
    assert len(lines) == 30002
    assert lines[-1] == "no newline \ufffd"
