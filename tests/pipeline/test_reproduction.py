"""What a reproduction runs of a version's own definition, and what it calls the same."""

import json

import pytest

from pipeline import clouds, definitions, reproduction, settings
from pipeline.commands.comparisons import compared
from pipeline.executions import ExecutionError
from pipeline.reproduction import Fact, ReproductionError

LOADED = settings.load()


@pytest.fixture(scope="module")
def original():
    return definitions.render(LOADED, clouds.offline(LOADED))[LOADED.training_pipeline]


def test_the_jobs_are_run_as_they_were_and_nothing_is_registered_or_deployed(original):
    before, after = json.loads(original), json.loads(reproduction.definition(original))
    assert {key: value for key, value in after.items() if key != "Steps"} == {
        key: value for key, value in before.items() if key != "Steps"
    }
    steps = {step["Name"]: step for step in before["Steps"]}
    assert [step["Name"] for step in after["Steps"]] == ["Preprocess", "ValidateData", "TrainLeNet", "Evaluate"]
    for step in after["Steps"]:
        own = dict(steps[step["Name"]])
        assert own.pop("CacheConfig")["Enabled"]
        given = {key: value for key, value in step["Arguments"].items() if key != "CheckpointConfig"}
        assert given == {key: value for key, value in own["Arguments"].items() if key != "CheckpointConfig"}
        assert {**step, "Arguments": 0} == {**own, "Arguments": 0}


def test_neither_cache_nor_checkpoints_of_another_execution_can_answer(original):
    steps = {step["Name"]: step for step in json.loads(reproduction.definition(original))["Steps"]}
    assert all("CacheConfig" not in step for step in steps.values())
    checkpoints = steps["TrainLeNet"]["Arguments"]["CheckpointConfig"]
    assert checkpoints["LocalPath"] == "/opt/ml/checkpoints"
    address, execution = checkpoints["S3Uri"]["Std:Join"]["Values"]
    assert address.endswith("/traffic-signs/checkpoints")
    assert execution == {"Get": "Execution.PipelineExecutionId"}


def test_a_job_that_needs_what_is_left_out_is_refused():
    gate = {"Name": "Gate", "Type": "Condition", "Arguments": {"Conditions": [], "IfSteps": [], "ElseSteps": []}}
    job = {"Name": "Job", "Type": "Processing", "Arguments": {"RoleArn": {"Get": "Steps.Gate.Outcome"}}}
    later = {"Name": "Later", "Type": "Processing", "Arguments": {}, "DependsOn": ["Gate"]}
    for step in (job, later):
        with pytest.raises(ReproductionError, match=f"step {step['Name']} needs Gate, which is no job"):
            reproduction.definition(json.dumps({"Steps": [gate, step]}))


def test_only_the_very_same_is_the_same():
    assert Fact("weights", "abc", "abc").same
    assert not Fact("weights", "abc", "abd").same
    assert not Fact("accuracy", 0.5, 0.5000000001).same
    assert not Fact("accuracy", 0.5, None).same


# What cannot be made anew is said before any job runs

GONE = "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/signs-training/execution/0123456789ab"


@pytest.mark.parametrize(
    ("properties", "digests", "error", "said"),
    [
        ({}, {"weights": "a"}, ReproductionError, r"version 1 does not say which execution made it"),
        ({"Execution": GONE}, {}, ReproductionError, r"version 1 holds no digest of the weights"),
        ({"Execution": GONE}, {"weights": "a"}, ExecutionError, rf"{GONE} cannot be read: .*does not exist"),
    ],
    ids=["no execution", "no digest", "gone"],
)
def test_a_version_that_cannot_be_made_anew_is_refused(register, place, loaded, properties, digests, error, said):
    found = register({"accuracy": 1.0}, properties, digests=digests)
    with pytest.raises(error, match=said):
        reproduction.start(loaded, place, found)
    pipelines = place.client("sagemaker").list_pipelines(PipelineNamePrefix=loaded.name)["PipelineSummaries"]
    assert pipelines == []


def test_versions_that_do_not_say_what_made_them_are_compared_all_the_same(register, place):
    first = register(
        {"accuracy": 0.9},
        {"Data": "s3://a"},
        digests={"test split": "a"},
        classes=[{"class_name": "Stop", "recall": 0.5}],
    )
    second = register(
        {"accuracy": 0.8},
        {"Data": "s3://b"},
        digests={"test split": "b"},
        classes=[{"class_name": "Stop", "recall": 0.75}],
    )
    found = compared(place, first, second)
    assert [(row.name, row.verdict) for row in found.metrics] == [("accuracy", "worse")]
    assert [(row.name, row.verdict) for row in found.classes] == [("Stop", "better")]
    assert found.parameters == []
    assert [row.name for row in found.lineage] == ["Data"]
    different, unknown = found.notes
    assert "tested on different pictures" in different
    assert "does not say which execution made it" in unknown


def test_of_an_execution_that_is_gone_the_parameters_are_not_compared(register, place):
    versions = [register({"accuracy": 0.9}, {"Execution": GONE}, digests={"test split": "a"}) for _ in range(2)]
    (note,) = compared(place, *versions).notes
    assert note.startswith(f"parameters cannot be compared: {GONE} cannot be read")


def test_without_a_digest_nobody_knows_whether_the_pictures_were_the_same(register, place):
    versions = [register({"accuracy": 0.9}), register({"accuracy": 0.9}, digests={"test split": "a"})]
    assert "whether they were tested on the same pictures is not known" in compared(place, *versions).notes
