"""Processing jobs, and what all jobs have in common, as boto3 sees them: data in, data out, and how they end.

All of it holds for both ways in which a job gets its ``/opt/ml``.
"""

from __future__ import annotations

import functools
import io
import os
import secrets
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from embedded_cloud import CLUSTER, ROLE, Cloud, bash, step, wait_until

from infra.local import control
from infra.local.jobs.calls import Jobs
from infra.local.jobs.container import SWITCH, isolation_refused, namespaces_refused
from infra.local.jobs.job import JobContext
from infra.local.service import Service, ServiceError
from infra.local.store import Store

TWO = {**CLUSTER, "InstanceCount": 2}


@pytest.fixture(scope="module", params=["rewrite", "namespace"])
def embedded(
    request: pytest.FixtureRequest, embedded: control.RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[control.RunningServer]:
    """The session's server, which rewrites paths, and one whose jobs have mount namespaces."""
    if request.param == "rewrite":
        yield embedded
        return
    if namespaces_refused():
        pytest.skip(f"this machine gives no mount namespaces: {namespaces_refused()}")
    state = tmp_path_factory.mktemp("namespace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SWITCH, request.param)
        server = control.start(state, port=0, region=embedded.region)
    yield server
    control.stop(state)


def clients(server: control.RunningServer) -> Callable[[str], Any]:
    session = boto3.Session("local", "local", region_name=server.region)
    config = Config(retries={"total_max_attempts": 1}, proxies={})
    return functools.cache(lambda service: session.client(service, endpoint_url=server.url, config=config))


@pytest.fixture(scope="module")
def client(embedded: control.RunningServer) -> Callable[[str], Any]:
    """Makes clients of this module's server."""
    return clients(embedded)


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


def test_both_ways_to_opt_ml_are_really_tried(cloud: Cloud, request: pytest.FixtureRequest) -> None:
    # No rewriting reaches a path that the script puts together.
    job = cloud.process("folder=/opt; cd $folder/ml/config && echo exact || echo rewritten")
    assert cloud.processed(job)["ProcessingJobStatus"] == "Completed"
    expected = {"rewrite": "rewritten", "namespace": "exact"}[request.node.callspec.params["embedded"]]
    assert cloud.log("/aws/sagemaker/ProcessingJobs", job)[-1] == expected


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


def test_continuous_outputs_go_up_while_the_job_runs_and_others_at_its_end(cloud: Cloud, tmp_path: Path) -> None:
    outputs = [
        {
            "OutputName": mode,
            "S3Output": {"LocalPath": f"/opt/ml/processing/{mode}", "S3Uri": cloud.s3(mode), "S3UploadMode": mode},
        }
        for mode in ("Continuous", "EndOfJob")
    ]
    script = (
        "cd /opt/ml/processing; echo 1 > Continuous/early; echo 1 > EndOfJob/early;"
        f"until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo 2 > Continuous/late; echo 3 > Continuous/early"
    )
    job = cloud.process(script, arguments={"ProcessingOutputConfig": {"Outputs": outputs}})
    wait_until(lambda: cloud.keys("Continuous/"), lambda keys: keys == ["Continuous/early"])
    assert cloud.keys("EndOfJob/") == []
    (tmp_path / "go").touch()
    assert cloud.processed(job)["ProcessingJobStatus"] == "Completed"
    assert [cloud.get(cloud.s3(key)) for key in cloud.keys("Continuous/")] == [b"3\n", b"2\n"]
    assert cloud.keys("EndOfJob/") == ["EndOfJob/early"]


def test_an_output_that_cannot_be_uploaded_fails_the_job_in_plain_words(cloud: Cloud) -> None:
    described = cloud.processed(
        cloud.process("touch /opt/ml/processing/out/x", outputs={"out": "s3://no-such-bucket/x"})
    )
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"].startswith("ClientError: s3://no-such-bucket/x/x cannot be written: ")


def test_jobs_of_two_kinds_and_one_name_share_nothing(cloud: Cloud, tmp_path: Path) -> None:
    name = f"both-{secrets.token_hex(4)}"
    wait = f"echo long > /opt/ml/processing/out/file; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done"
    long = step("Long", wait, outputs={"out": cloud.s3("out")})["Arguments"]
    cloud.sagemaker.create_processing_job(ProcessingJobName=name, **long)
    cloud.sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={
            "TrainingImage": "any", "TrainingInputMode": "File", **bash("echo short > /opt/ml/model/file"),
        },
        RoleArn=ROLE,
        OutputDataConfig={"S3OutputPath": cloud.s3("models")},
        ResourceConfig=CLUSTER,
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )  # fmt: skip
    ended = wait_until(
        lambda: cloud.sagemaker.describe_training_job(TrainingJobName=name),
        lambda job: job["TrainingJobStatus"] in ("Completed", "Failed"),
    )
    assert ended["TrainingJobStatus"] == "Completed"
    assert cloud.sagemaker.describe_processing_job(ProcessingJobName=name)["ProcessingJobStatus"] == "InProgress"
    (tmp_path / "go").touch()
    assert cloud.processed(name)["ProcessingJobStatus"] == "Completed"
    assert cloud.get(cloud.s3("out/file")) == b"long\n"


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


def test_a_job_tells_each_change_of_its_status(client: Callable[[str], Any], tmp_path: Path) -> None:
    told: list[tuple[str, str | None]] = []
    store, service = Store(tmp_path / "records.sqlite"), Service()
    context = JobContext(
        service, store, "arn:aws:sagemaker:eu-central-1:123456789012", tmp_path / "jobs", {}, client,
        on_change=lambda kind, record: told.append((record[f"{kind}Status"], record.get("SecondaryStatus"))),
    )  # fmt: skip
    calls = Jobs(context)
    service.register(calls)
    specification = {"ImageUri": "any", **bash("sleep 100")}
    request = {
        "ProcessingJobName": f"job-{secrets.token_hex(4)}",
        "RoleArn": ROLE,
        "AppSpecification": specification,
        "ProcessingResources": {"ClusterConfig": CLUSTER},
    }
    service.call("CreateProcessingJob", request)
    # It is this server's own job, and not one that an earlier server lost.
    calls.recover()
    calls.stop_all()
    assert told == [("InProgress", None), ("Stopping", None), ("Stopped", None)]
    store.close()


def test_a_job_leaves_its_instance_to_others_as_soon_as_it_is_written_down_as_ended(
    client: Callable[[str], Any], tmp_path: Path
) -> None:
    """Though its thread lives a moment longer: here as long as it takes to start the next job in it."""
    answers: list[str] = []
    store, service = Store(tmp_path / "records.sqlite"), Service()

    def start(name: str) -> None:
        request = {
            "ProcessingJobName": name,
            "RoleArn": ROLE,
            "AppSpecification": {"ImageUri": "any", **bash("true")},
            "ProcessingResources": {"ClusterConfig": CLUSTER},
        }
        try:
            answers.append(service.call("CreateProcessingJob", request)["ProcessingJobArn"].rpartition("/")[2])
        except ServiceError as error:
            answers.append(str(error))

    def changed(kind: str, record: dict[str, Any]) -> None:
        if (record["ProcessingJobName"], record[f"{kind}Status"]) == ("first", "Completed"):
            start("second")

    calls = Jobs(
        JobContext(
            service, store, "arn:aws:sagemaker:eu-central-1:123456789012", tmp_path / "jobs", {}, client,
            on_change=changed, instance_limit=1,
        )
    )  # fmt: skip
    service.register(calls)
    start("first")
    start("refused")
    wait_until(
        lambda: store.get("ProcessingJob", "second"), lambda job: job and job["ProcessingJobStatus"] != "InProgress"
    )
    calls.stop_all()
    assert answers[0] == "first"
    assert "1 Instances" in answers[1]
    assert answers[2:] == ["second"]
    store.close()


@pytest.mark.skipif(bool(isolation_refused()), reason="this machine gives a program no network namespace")
@pytest.mark.parametrize("isolated", [True, False])
def test_an_isolated_job_reaches_nothing_and_gets_its_inputs_all_the_same(cloud: Cloud, isolated: bool) -> None:
    cloud.put({"in/file": "given"})
    ask = "import os, urllib.request; urllib.request.urlopen(os.environ['AWS_ENDPOINT_URL'] + '/_local/health')"
    source = {"S3Uri": cloud.s3("in"), "LocalPath": "/opt/ml/processing/in", "S3DataType": "S3Prefix"}
    arguments = {
        "ProcessingInputs": [{"InputName": "in", "S3Input": {**source, "S3InputMode": "File"}}],
        "NetworkConfig": {"EnableNetworkIsolation": isolated},
    }
    script = f'cp /opt/ml/processing/in/file /opt/ml/processing/out; python3 -c "{ask}" || exit 3'
    described = cloud.processed(cloud.process(script, arguments=arguments, outputs={"out": cloud.s3("out")}))
    assert cloud.get(cloud.s3("out/file")) == b"given"
    assert described["ProcessingJobStatus"] == ("Failed" if isolated else "Completed")
    assert ("exit code: 3" in described.get("FailureReason", "")) is isolated
