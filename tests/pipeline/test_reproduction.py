"""What a reproduction runs of a version's own definition, and what it calls the same."""

import json

import pytest

from pipeline import clouds, definitions, reproduction, settings
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
