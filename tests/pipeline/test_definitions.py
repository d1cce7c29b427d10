import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from pipeline import clouds, definitions, settings
from pipeline.settings import ROOT


def render(root):
    command = [sys.executable, "-m", "pipeline.cli", "definition"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PYTHON"))}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def text():
    return render(ROOT)


@pytest.fixture(scope="module")
def definition(text):
    return json.loads(text)


def flatten(steps):
    for step in steps:
        yield step
        if step["Type"] == "Condition":
            yield from flatten(step["Arguments"]["IfSteps"] + step["Arguments"]["ElseSteps"])


def test_another_checkout_and_process_give_the_same_bytes(text, tmp_path):
    other = tmp_path / "elsewhere"
    for folder in ("pipeline", "infra", "steps"):
        shutil.copytree(ROOT / folder, other / folder, ignore=shutil.ignore_patterns("__pycache__"))
    assert render(other) == text


def test_the_chain_has_its_steps_in_their_places(definition):
    gate = {step["Name"]: step for step in definition["Steps"]}["QualityGate"]["Arguments"]
    assert [step["Name"] for step in definition["Steps"]] == [
        "Preprocess", "ValidateData", "TrainLeNet", "Evaluate", "QualityGate",
    ]  # fmt: skip
    assert [step["Name"] for step in gate["IfSteps"]] == ["RegisterModel", "AutoApproved"]
    assert [step["Name"] for step in gate["ElseSteps"]] == ["QualityGateFailed"]
    auto = gate["IfSteps"][1]
    assert [step["Name"] for step in auto["Arguments"]["IfSteps"]] == ["DeployEndpoint"]
    assert auto["DependsOn"] == ["RegisterModel"]


def test_every_job_is_tried_again_when_the_failure_is_nobodys_mistake(definition):
    policies = {step["Name"]: step.get("RetryPolicies") for step in flatten(definition["Steps"])}
    jobs = {"Preprocess", "ValidateData", "TrainLeNet", "Evaluate", "DeployEndpoint"}
    assert {name for name, found in policies.items() if found} == jobs
    (policy,) = policies["TrainLeNet"]
    assert "SageMaker.CAPACITY_ERROR" in policy["ExceptionType"]
    # Four retries after 1, 2, 4 and 8 minutes.
    waits = [policy["IntervalSeconds"] * policy["BackoffRate"] ** n for n in range(policy["MaxAttempts"])]
    assert sum(waits) == 900


def test_training_waits_for_validated_data(definition):
    steps = {step["Name"]: step for step in definition["Steps"]}
    assert steps["TrainLeNet"]["DependsOn"] == ["ValidateData"]


def test_every_parameter_has_an_effect(definition):
    declared = {parameter["Name"] for parameter in definition["Parameters"]}
    text = json.dumps(definition["Steps"])
    assert {name for name in declared if f'"Parameters.{name}"' not in text} == set()


def test_preprocessing_is_shared_by_as_many_machines_as_are_asked_for(definition):
    """Listings and archives go to each machine, pictures by shares; what sees the whole set runs on one."""
    steps = {step["Name"]: step["Arguments"] for step in flatten(definition["Steps"]) if step["Type"] == "Processing"}
    counts = {name: step["ProcessingResources"]["ClusterConfig"]["InstanceCount"] for name, step in steps.items()}
    many = {"Get": "Parameters.ProcessingInstanceCount"}
    assert counts == {"Preprocess": many, "ValidateData": 1, "Evaluate": 1, "DeployEndpoint": 1}
    inputs = steps["Preprocess"]["ProcessingInputs"]
    spread = {given["InputName"]: given["S3Input"]["S3DataDistributionType"] for given in inputs}
    assert spread == {"code": "FullyReplicated", "archive": "FullyReplicated", "images": "ShardedByS3Key"}


def test_no_path_of_this_machine_stands_in_it(text):
    assert str(ROOT) not in text


def test_each_step_is_cached_but_the_deployment(definition):
    """A deployment looks at the world outside; an earlier one says nothing about it."""
    cached = {step["Name"] for step in flatten(definition["Steps"]) if step.get("CacheConfig", {}).get("Enabled")}
    assert cached == {"Preprocess", "ValidateData", "TrainLeNet", "Evaluate"}


@pytest.mark.parametrize(
    ("use", "images"),
    [
        ("processing", {"Preprocess": "gpu", "TrainLeNet": "cpu", "RegisterModel": "cpu"}),
        ("training", {"Preprocess": "cpu", "TrainLeNet": "gpu", "RegisterModel": "cpu"}),
        ("endpoint", {"Preprocess": "cpu", "TrainLeNet": "cpu", "RegisterModel": "gpu"}),
    ],
)
def test_each_image_is_for_the_machine_that_runs_it(use, images):
    loaded = settings.load()
    loaded = replace(loaded, instances=replace(loaded.instances, **{use: "ml.g5.xlarge"}))
    rendered = json.loads(definitions.render(loaded, clouds.offline(loaded))[loaded.training_pipeline])
    steps = {step["Name"]: json.dumps(step) for step in flatten(rendered["Steps"])}
    for name, processor in images.items():
        assert set(re.findall(r"tensorflow-\w+:[\d.]+-(cpu|gpu)", steps[name])) == {processor}


@pytest.mark.parametrize("spot", [False, True])
def test_spot_capacity_is_a_setting_and_checkpoints_are_kept_either_way(spot):
    loaded = settings.load()
    loaded = replace(loaded, instances=replace(loaded.instances, training_spot=spot))
    rendered = json.loads(definitions.render(loaded, clouds.offline(loaded))[loaded.training_pipeline])
    job = {step["Name"]: step for step in rendered["Steps"]}["TrainLeNet"]["Arguments"]
    assert job.get("EnableManagedSpotTraining", False) is spot
    assert job["CheckpointConfig"]["S3Uri"].endswith("/traffic-signs/checkpoints")
    times = job["StoppingCondition"]
    # AWS refuses a longest wait without spot capacity, and one that is shorter than the longest run with it.
    assert ("MaxWaitTimeInSeconds" in times) is spot
    assert times["MaxRuntimeInSeconds"] <= times.get("MaxWaitTimeInSeconds", times["MaxRuntimeInSeconds"])
