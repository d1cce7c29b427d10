"""The whole life, as a person lives it: real data sets, real jobs, a real endpoint, through the command line alone.

The tests of this module build on each other, in their order: each begins where the one before it ended.
"""

import json
import re
from pathlib import Path

import pytest

from infra.local.pipelines.definitions import all_steps
from infra.local.pipelines.expressions import follow
from pipeline import clouds, executions, registry, reproduction, settings
from pipeline.gate import GATE

pytestmark = pytest.mark.integration

QUICK = ("--set", "Epochs=2", "--set", "MinimumAccuracy=0", "--set", "MinimumClassRecall=0")
LOOSE = (
    *QUICK, "--set", "MaximumCalibrationError=1", "--set", "MinimumCorruptedAccuracy=0",
    "--set", "MaximumLatencyRatio=1000", "--set", "ChampionSignificance=0",
)  # fmt: skip
STEPS = [
    "Preprocess", "ValidateData", "TrainLeNet", "Evaluate", "QualityGate", "RegisterModel", "AutoApproved",
    "DeployEndpoint",
]  # fmt: skip


@pytest.fixture(scope="module")
def first_run(signs):
    return signs("run", *LOOSE)


def read(cloud, address):
    """Return an object."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()


@pytest.fixture(scope="module")
def cloud(signs, first_run):
    """The command line's cloud, for what it does not print."""
    return clouds.connect("local", settings.load(signs.settings))


def test_a_run_goes_from_images_to_answers(signs, first_run):
    assert re.search(r"test accuracy \d+\.\d+%", first_run)
    assert re.search(r"the endpoint on 12 test pictures: \d+ right", first_run)
    (report,) = signs.state.glob("runs/*/report.html")
    assert f"report: {report}" in first_run
    told = report.read_text(encoding="utf-8")
    assert all(each in told for each in ("filters of conv1", "conv4", "relu4")), "what the network learned is shown"
    snapshot = signs.json("status")
    assert snapshot["status"] == "Succeeded"
    assert [step["name"] for step in snapshot["steps"]] == STEPS
    assert all(step["status"] == "Succeeded" for step in snapshot["steps"])


def test_each_job_has_its_log(signs, first_run):
    assert "epoch 2/2" in signs("logs", "TrainLeNet")
    assert "images meet the expectations" in signs("logs", "ValidateData")
    assert "there is no step Train: expected one of Preprocess" in signs("logs", "Train", code=1)


def test_the_model_is_registered_with_where_it_came_from(signs, first_run):
    (version,) = signs.json("models", "list")
    assert (version["number"], version["status"]) == (1, "Approved")
    assert version["properties"]["Data"].startswith("s3://")
    assert version["properties"]["Execution"] == signs.json("status")["arn"]
    shown = signs.json("models", "show", "1")
    assert 0 < shown["metrics"]["accuracy"] <= 1
    assert "today's bounds" in signs("models", "show", "1")
    assert "has no version 7 (there: 1)" in signs("models", "show", "7", code=1)


def json_gets(value):
    """Yield the step, property file and path of each look into one that a definition takes."""
    if isinstance(value, list):
        for item in value:
            yield from json_gets(item)
    elif isinstance(value, dict):
        if set(value) == {"Std:JsonGet"}:
            _, step, _, name = value["Std:JsonGet"]["PropertyFile"]["Get"].split(".")
            yield step, name, value["Std:JsonGet"]["Path"]
        for item in value.values():
            yield from json_gets(item)


def below(cloud, address):
    """Return the objects below an S3 address."""
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    return cloud.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])


def test_what_the_definition_promises_the_jobs_have_written(signs, cloud, first_run):
    arn = signs.json("status")["arn"]
    definition = json.loads(executions.definition(cloud, arn))
    snapshot, outputs = executions.look(cloud, arn), {}
    for step in all_steps(definition["Steps"]):
        if step["Type"] == "Processing":
            job = cloud.client("sagemaker").describe_processing_job(ProcessingJobName=snapshot.step(step["Name"]).job)
            places = {
                each["OutputName"]: each["S3Output"]["S3Uri"] for each in job["ProcessingOutputConfig"]["Outputs"]
            }
            assert {name for name, address in places.items() if not below(cloud, address)} == set(), step["Name"]
            for file in step.get("PropertyFiles", []):
                address = f"{places[file['OutputName']]}/{file['FilePath']}"
                outputs[step["Name"], file["PropertyFileName"]] = json.loads(read(cloud, address))
    looks = set(json_gets(definition["Steps"]))
    assert {(step, name) for step, name, _ in looks} == set(outputs)
    assert len(looks) == len(GATE) + 1
    for step, name, path in looks:
        assert isinstance(follow(outputs[step, name], path, name), str if name == "PackageCard" else float), path


def addresses(value):
    """Yield every S3 address in a description."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "S3Uri":
                yield item
            else:
                yield from addresses(item)


def test_the_registry_keeps_all_that_belongs_to_a_version(signs, cloud, first_run):
    (version,) = signs.json("models", "list")
    described = cloud.client("sagemaker").describe_model_package(ModelPackageName=version["arn"])
    metrics, baselines = described["ModelMetrics"], described["DriftCheckBaselines"]
    assert set(metrics["ModelQuality"]) == set(metrics["ModelDataQuality"]) == {"Statistics", "Constraints"}
    assert set(baselines) == {"ModelQuality", "ModelDataQuality", "Explainability"}
    named = [*addresses(metrics), *addresses(baselines)]
    assert len(named) == 10
    properties = described["CustomerMetadataProperties"]
    for address in {*named, properties["Report"], properties["ModelCard"], f"{properties['GoldenImages']}/golden.json"}:
        assert read(cloud, address), address
    assert described["MetadataProperties"] == {
        "CommitId": properties["Commit"],
        "GeneratedBy": properties["Execution"],
    }
    card = json.loads(described["ModelCard"]["ModelCardContent"])
    assert described["ModelCard"]["ModelCardStatus"] == "Draft"
    assert properties["TrainingJob"] in json.dumps(card["model_overview"])
    specification = described["InferenceSpecification"]
    assert {"image/png", "application/json"} <= set(specification["SupportedContentTypes"])
    assert specification["SupportedRealtimeInferenceInstanceTypes"] == [settings.load().instances.endpoint]


def test_a_versions_report_is_fetched(signs, first_run):
    (line,) = signs("models", "open", "1", "--print").splitlines()
    fetched = Path(line)
    assert fetched.is_relative_to(signs.state)
    assert fetched.read_bytes() == next(signs.state.glob("runs/*/report.html")).read_bytes()


def test_a_version_is_made_anew_from_its_own_definition(signs, cloud, first_run):
    """Against an evaluation whose accuracy was falsified, so that both outcomes are seen."""
    (version,) = signs.json("models", "list")
    before = signs.json("endpoint", "describe")
    bucket, _, key = version["statistics"].removeprefix("s3://").partition("/")
    original = read(cloud, version["statistics"])
    falsified = json.loads(original)
    falsified["metrics"]["accuracy"] += 0.001
    cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=json.dumps(falsified).encode())
    told = signs("reproduce", "1", code=5)
    assert "version 1 is not reproduced, different are: accuracy\n" in told
    cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=original)
    arn = executions.find(cloud, "traffic-signs-reproduction-1")
    snapshot = executions.look(cloud, arn)
    assert [(step.name, step.status, step.cached) for step in snapshot.steps] == [
        (name, "Succeeded", False) for name in STEPS[:4]
    ]
    found = registry.version(cloud, "traffic-signs", 1)
    facts = {fact.name: fact for fact in reproduction.compare(cloud, found, snapshot)}
    assert [name for name, fact in facts.items() if fact.judged and not fact.same] == []
    assert {"manifest of the data", "weights", "test split", "accuracy", "expected_calibration_error"} <= set(facts)
    assert not facts["latency_p50_milliseconds"].judged
    assert len(signs.json("models", "list")) == 1
    assert signs.json("endpoint", "describe")["LastModifiedTime"] == before["LastModifiedTime"]


def test_the_endpoint_serves_it_and_answers_about_pictures(signs, first_run):
    (version,) = signs.json("models", "list")
    described = signs.json("endpoint", "describe")
    assert described["EndpointStatus"] == "InService"
    assert described["ModelPackageArn"] == version["arn"]
    samples = next(signs.state.glob("runs/*/samples"))
    pictures = sorted(str(path) for path in samples.glob("*.png"))[:2]
    answers = signs.json("predict", *pictures)
    assert set(answers) == set(pictures)
    assert all(0 <= answer["class_id"] < 43 and len(answer["top"]) == 5 for answer in answers.values())


def test_the_same_run_again_is_answered_by_the_cache(signs, first_run):
    signs("run", *LOOSE)
    steps = {step["name"]: step for step in signs.json("status")["steps"]}
    # The first run's model is now the champion, which evaluation has not met yet.
    assert {name for name, step in steps.items() if step["cached"]} == set(STEPS[:3])
    assert steps["RegisterModel"]["detail"] == "version 2"
    assert signs.json("endpoint", "describe")["ModelPackageArn"].endswith("/2")


def test_two_versions_are_shown_side_by_side(signs, first_run):
    told = signs("models", "compare", "1", "2")
    assert re.search(r"│ accuracy +│ +[\d.]+ +│ +[\d.]+ +│ += ", told)
    compared = signs.json("models", "compare", "1", "2")
    differing = {row["name"] for row in compared["parameters"]}
    # The second run met the first one's model.
    assert differing == {"Champion"}
    assert {"Execution"} <= {row["name"] for row in compared["lineage"]} <= {"Execution", "Commit"}
    assert compared["classes"] == []
    assert "has no version 9" in signs("models", "compare", "1", "9", code=1)


def test_the_newest_approved_model_explains_a_picture(signs, first_run, tmp_path):
    picture = next(signs.state.glob("runs/*/samples/*.png"))
    output = tmp_path / "sheet.png"
    assert "with probability" in signs("explain", str(picture), "--output", str(output))
    assert output.read_bytes().startswith(b"\x89PNG")


def test_what_is_no_picture_is_refused_by_the_model(signs, first_run, tmp_path):
    text = tmp_path / "letter.png"
    text.write_text("Dear model")
    assert "neither a PNG nor a JPEG picture" in signs("predict", str(text), code=1)


def test_a_model_below_the_gate_is_neither_registered_nor_deployed(signs, first_run):
    before = signs.json("endpoint", "describe")
    output = signs("run", "--set", "Epochs=1", "--set", "Preset=lenet5", "--set", "MinimumAccuracy=0.999", code=4)
    assert re.search(r"accuracy \(lower end\) 0\.\d+ needs 0\.999", output)
    assert re.search(r"^missed: accuracy \(lower end\) 0\.\d+ needs 0\.999 \(MinimumAccuracy\)$", output, re.MULTILINE)
    snapshot = signs.json("status", code=4)
    names = [step["name"] for step in snapshot["steps"]]
    assert names == [*STEPS[:5], "QualityGateFailed"]
    assert "did not pass the quality gate" in snapshot["reason"]
    assert len(signs.json("models", "list")) == 2
    assert signs.json("endpoint", "describe")["EndpointConfigName"] == before["EndpointConfigName"]


def test_rejecting_the_newest_brings_back_the_one_before_it(signs, first_run):
    said = signs("models", "reject", "2", "--reason", "a test")
    assert "version 2 is Rejected" in said
    assert "version 2 serves now; version 1 serves next" in said
    newest, oldest = signs.json("models", "list")
    assert (newest["status"], oldest["status"]) == ("Rejected", "Approved")
    assert re.fullmatch(r"a test \(Rejected by .+, 20\d\d-\d\d-\d\d \d\d:\d\d UTC\)", newest["description"])
    signs("deploy")
    assert signs.json("endpoint", "describe")["ModelPackageArn"] == oldest["arn"]


def test_without_an_approved_version_deploying_fails_loudly_and_the_endpoint_stays(signs, first_run):
    assert "version 1 serves, and none is approved" in signs("models", "reject", "1")
    assert "no version in traffic-signs is approved" in signs("deploy", code=3)
    assert signs.json("endpoint", "describe")["EndpointStatus"] == "InService"
    refused = signs("models", "approve", "1", code=1)
    assert re.search(r"version 1 would be turned down today: .*accuracy \(lower end\) 0\.\d+ needs 0\.96", refused)
    assert "against today's bounds" in signs("models", "approve", "1", "--force")


def test_an_endpoint_can_be_deleted_and_deployed_again(signs, first_run):
    signs("endpoint", "delete", "--yes")
    assert "there is no endpoint traffic-signs" in signs("endpoint", "describe", code=1)
    signs("deploy")
    assert signs.json("endpoint", "describe")["EndpointStatus"] == "InService"
