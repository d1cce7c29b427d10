"""Training jobs as boto3 sees them: channels, checkpoints, a model, stages, metrics and instances that meet."""

from __future__ import annotations

import json
import math
import os
import secrets
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_cloud import CLUSTER, ROLE, Cloud, bash, wait_until
from processes import await_end
from test_local_jobs import TWO, channel, client, clients, embedded, members  # noqa: F401  # two are fixtures

from infra.local import control
from infra.local.jobs.calls import Jobs
from infra.local.jobs.container import namespaces_refused
from infra.local.jobs.job import LOST, JobContext
from infra.local.jobs.training import TrainingJob
from infra.local.service import Service
from infra.local.store import Store

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
        script, **checkpoints, Environment={"SECONDS_TO_RUN": "100"}, StoppingCondition={"MaxRuntimeInSeconds": 5}
    )
    assert time.monotonic() - started < 60
    assert (first["TrainingJobStatus"], first["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert len(cloud.keys("checkpoints/epoch-")) == 1
    second = cloud.train(script, **checkpoints, Environment={"SECONDS_TO_RUN": "0"})
    assert second["TrainingJobStatus"] == "Completed"
    assert members(cloud.get(second["ModelArtifacts"]["S3ModelArtifacts"])) == {"found": "1\n"}
    assert len(cloud.keys("checkpoints/epoch-")) == 2


def stages(described: dict[str, Any]) -> list[str]:
    return [each["Status"] for each in described["SecondaryStatusTransitions"]]


def test_a_training_job_tells_its_stages_and_its_times(cloud: Cloud) -> None:
    described = cloud.train("sleep 0.1")
    assert stages(described) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    transitions = described["SecondaryStatusTransitions"]
    assert transitions[-1]["StatusMessage"] == "Training job completed"
    assert [each["EndTime"] for each in transitions[:-1]] == [each["StartTime"] for each in transitions[1:]]
    assert described["CreationTime"] <= described["TrainingStartTime"] < described["TrainingEndTime"]
    taken = math.ceil((transitions[-1]["StartTime"] - described["TrainingStartTime"]).total_seconds())
    assert (described["TrainingTimeInSeconds"], described["BillableTimeInSeconds"]) == (taken, taken)
    assert taken >= 1
    assert stages(cloud.train("exit 1"))[-2:] == ["Uploading", "Failed"]
    late = cloud.train("sleep 100", StoppingCondition={"MaxRuntimeInSeconds": 1}, ResourceConfig=TWO)
    assert (late["TrainingJobStatus"], stages(late)[-2:]) == ("Stopped", ["Uploading", "MaxRuntimeExceeded"])


def test_spot_training_takes_its_fields_and_refuses_a_wait_shorter_than_the_run(cloud: Cloud) -> None:
    times = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120}
    described = cloud.train("true", EnableManagedSpotTraining=True, StoppingCondition=times)
    assert (described["TrainingJobStatus"], described["EnableManagedSpotTraining"]) == ("Completed", True)
    with pytest.raises(ClientError, match="Invalid MaxWaitTimeInSeconds"):
        cloud.train("true", EnableManagedSpotTraining=True, StoppingCondition={"MaxRuntimeInSeconds": 60})
    with pytest.raises(ClientError, match="EnableManagedSpotTraining is not set"):
        cloud.train("true", StoppingCondition=times)


def start_training(cloud: Cloud, script: str, **more: Any) -> str:
    name = f"job-{secrets.token_hex(4)}"
    cloud.sagemaker.create_training_job(
        TrainingJobName=name,
        RoleArn=ROLE,
        OutputDataConfig={"S3OutputPath": cloud.s3("models/")},
        ResourceConfig=CLUSTER,
        AlgorithmSpecification={"TrainingImage": "any", "TrainingInputMode": "File", **bash(script)},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
        **more,
    )
    return name


def test_checkpoints_go_up_while_the_job_runs_and_a_stopped_job_keeps_its_model(cloud: Cloud) -> None:
    script = "cd /opt/ml; echo 1 > checkpoints/first; echo best > model/m; sleep 100"
    name = start_training(cloud, script, CheckpointConfig={"S3Uri": cloud.s3("checkpoints/run")})
    wait_until(lambda: cloud.keys("checkpoints/"), lambda keys: keys == ["checkpoints/run/first"])
    described = cloud.sagemaker.describe_training_job(TrainingJobName=name)
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("InProgress", "Training")
    cloud.sagemaker.stop_training_job(TrainingJobName=name)
    described = wait_until(
        lambda: cloud.sagemaker.describe_training_job(TrainingJobName=name),
        lambda answer: answer["TrainingJobStatus"] == "Stopped",
    )
    assert stages(described)[-3:] == ["Stopping", "Uploading", "Stopped"]
    assert members(cloud.get(described["ModelArtifacts"]["S3ModelArtifacts"])) == {"m": "best\n"}


def test_a_killed_job_is_resumed_from_its_checkpoint(cloud: Cloud, tmp_path: Path) -> None:
    script = (
        "cd /opt/ml/checkpoints; last=$(ls | tail -n 1); cp -r . ../model/; touch epoch-$((${last#epoch-} + 1));"
        f'[ -n "$last" ] || {{ echo $$ > {tmp_path}/pid; sleep 100; }}'
    )
    checkpoints = {"CheckpointConfig": {"S3Uri": cloud.s3("checkpoints/"), "LocalPath": "/opt/ml/checkpoints"}}
    name = start_training(cloud, script, **checkpoints)
    os.kill(
        int(wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), bool)), signal.SIGKILL
    )
    described = wait_until(
        lambda: cloud.sagemaker.describe_training_job(TrainingJobName=name),
        lambda answer: answer["TrainingJobStatus"] == "Failed",
    )
    assert described["FailureReason"].endswith("exit code: -9")
    second = cloud.train(script, **checkpoints)
    assert members(cloud.get(second["ModelArtifacts"]["S3ModelArtifacts"])) == {"epoch-1": ""}
    assert cloud.keys("checkpoints/") == ["checkpoints/epoch-1", "checkpoints/epoch-2"]


MEET = """
import json, pathlib, socket, threading
config = json.loads(pathlib.Path("/opt/ml/input/config/resourceconfig.json").read_text())
own, others = config["current_host"], [host for host in config["hosts"] if host != config["current_host"]]
with socket.create_server((own, 2222)) as server:
    def greet(host):
        while True:
            try:
                return socket.create_connection((host, 2222)).sendall(own.encode())
            except ConnectionRefusedError:
                pass
    threads = [threading.Thread(target=greet, args=(host,)) for host in others]
    for thread in threads:
        thread.start()
    met = sorted(server.accept()[0].makefile().read() for _ in others)
    for thread in threads:
        thread.join()
pathlib.Path(f"/opt/ml/model/{own}").write_text(" ".join(met) + " " + config["current_group_name"])
"""


def test_instances_meet_by_the_names_in_resourceconfig_and_leave_one_model(cloud: Cloud) -> None:
    if namespaces_refused():
        pytest.skip(f"this machine gives no mount namespaces: {namespaces_refused()}")
    groups = [
        {"InstanceGroupName": name, "InstanceType": "ml.m5.large", "InstanceCount": count}
        for name, count in (("one", 1), ("two", 2))
    ]
    cloud.put({"code/meet.py": MEET.replace("/opt/ml", "$ML")})
    described = cloud.train(
        'sed "s:[$]ML:/opt/ml:g" /opt/ml/input/data/code/meet.py | python3 -',
        InputDataConfig=[channel("code", cloud.s3("code"))],
        ResourceConfig={"InstanceGroups": groups, "VolumeSizeInGB": 1},
    )
    assert described["TrainingJobStatus"] == "Completed", described["FailureReason"]
    assert members(cloud.get(described["ModelArtifacts"]["S3ModelArtifacts"])) == {
        "algo-1": "algo-2 algo-3 one",
        "algo-2": "algo-1 algo-3 two",
        "algo-3": "algo-1 algo-2 two",
    }


def test_a_job_knows_its_own_name_and_number(cloud: Cloud) -> None:
    described = cloud.train("env | grep ^TRAINING_JOB > /opt/ml/model/env", Tags=[{"Key": "team", "Value": "signs"}])
    seen = members(cloud.get(described["ModelArtifacts"]["S3ModelArtifacts"]))["env"].split()
    name, arn = described["TrainingJobName"], described["TrainingJobArn"]
    assert sorted(seen) == [f"TRAINING_JOB_ARN={arn}", f"TRAINING_JOB_NAME={name}"]
    assert cloud.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "signs"}]


def test_a_folder_that_the_script_removed_is_no_failure(cloud: Cloud) -> None:
    described = cloud.train("rm -r /opt/ml/output/data; echo 1 > /opt/ml/model/m")
    assert described["TrainingJobStatus"] == "Completed"


def test_what_died_with_the_server_is_marked_and_every_change_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, str, str]] = []
    store, service = Store(tmp_path / "records.sqlite"), Service()
    context = JobContext(
        service, store, "arn:aws:sagemaker:eu-central-1:123456789012", tmp_path / "jobs", {}, lambda _: None,
        on_change=lambda kind, record: told.append((kind, record[f"{kind}Name"], record[f"{kind}Status"])),
    )  # fmt: skip
    specification = {"TrainingImage": "any", "TrainingInputMode": "File", **bash("true")}
    request = {"AlgorithmSpecification": specification, "ResourceConfig": CLUSTER}
    for name in ("lost", "ended"):
        job = TrainingJob(context, {"TrainingJobName": name, **request})
        store.insert(job.kind, name, job.first_record())
    job.end("Completed", {})
    (tmp_path / "jobs" / "TrainingJob" / "lost" / "algo-1").mkdir(parents=True)
    after = Jobs(context)
    after.recover()
    after.recover()
    assert told == [("TrainingJob", "ended", "Completed"), ("TrainingJob", "lost", "Failed")]
    lost = store.get("TrainingJob", "lost")
    assert lost is not None
    assert lost["FailureReason"] == LOST
    assert stages(lost) == ["Starting", "Failed"]
    assert list((tmp_path / "jobs" / "TrainingJob").iterdir()) == []
    store.close()


def test_training_goes_on_from_its_checkpoint_after_the_servers_death(tmp_path: Path) -> None:
    script = (
        "cd /opt/ml/checkpoints; if [ -e half ]; then cp half ../model/; exit; fi;"
        f"echo 1 > half; echo $$ > {tmp_path}/pid; sleep 100"
    )
    server = control.start(tmp_path / "state", port=0, region="eu-central-1")
    try:
        cloud = Cloud(clients(server), "bucket")
        location = {"LocationConstraint": "eu-central-1"}
        cloud.client("s3").create_bucket(Bucket=cloud.bucket, CreateBucketConfiguration=location)
        checkpoints = {"CheckpointConfig": {"S3Uri": cloud.s3("checkpoints")}}
        name = start_training(cloud, script, **checkpoints)
        wait_until(lambda: cloud.keys("checkpoints/"), bool)
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: control.find(server.state), lambda found: found is None)
        server = control.start(server.state, port=0, region="eu-central-1")
        cloud = Cloud(clients(server), "bucket")
        described = cloud.sagemaker.describe_training_job(TrainingJobName=name)
        assert (described["TrainingJobStatus"], described["FailureReason"]) == ("Failed", LOST)
        await_end(int((tmp_path / "pid").read_text()))
        again = cloud.train(script, **checkpoints)
        assert members(cloud.get(again["ModelArtifacts"]["S3ModelArtifacts"])) == {"half": "1\n"}
    finally:
        control.stop(server.state)


def test_instances_and_rules_that_do_not_exist_here_are_refused(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match="at least one instance"):
        cloud.train("true", ResourceConfig={**CLUSTER, "InstanceCount": 0})
    with pytest.raises(ClientError, match="TensorBoardOutputConfig is not supported"):
        cloud.train("true", TensorBoardOutputConfig={"S3OutputPath": cloud.s3("x")})
