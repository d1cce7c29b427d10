import json

import pytest

from infra.local.pipelines import cache
from infra.local.pipelines.cache import StepCache
from infra.local.store import Store

PIPELINE = "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/p"
STEP = {"Name": "Work", "CacheConfig": {"Enabled": True, "ExpireAfter": "30d"}}
ARGUMENTS = {
    "AppSpecification": {"ImageUri": "image", "ContainerArguments": ["--x", "1"]},
    "Environment": {"A": "1"},
    "ProcessingInputs": [{"InputName": "in", "S3Input": {"S3Uri": "s3://bucket/in"}}],
    "ProcessingOutputConfig": {"Outputs": []},
    "ProcessingResources": {"ClusterConfig": {"InstanceType": "ml.m6i.large"}},
}


@pytest.fixture
def steps(tmp_path):
    steps = StepCache(Store(tmp_path / "records.sqlite"), PIPELINE)
    steps.keep(STEP, "ProcessingJob", ARGUMENTS, "job-1", "execution-1")
    return steps


def changed(path, value):
    arguments = json.loads(json.dumps(ARGUMENTS))
    *way, last = path
    target = arguments
    for key in way:
        target = target[key]
    target[last] = value
    return arguments


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("ProcessingOutputConfig", "Outputs"), [{"OutputName": "more"}]),
        (("ProcessingResources", "ClusterConfig", "InstanceType"), "ml.m6i.xlarge"),
    ],
)
def test_outputs_and_machines_do_not_count(steps, path, value):
    assert steps.find(STEP, "ProcessingJob", changed(path, value))["Arn"] == "job-1"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("AppSpecification", "ContainerArguments"), ["--x", "2"]),
        (("AppSpecification", "ImageUri"), "other"),
        (("Environment",), {"A": "2"}),
        (("ProcessingInputs",), []),
    ],
)
def test_what_the_job_is_given_counts(steps, path, value):
    assert steps.find(STEP, "ProcessingJob", changed(path, value)) is None


def test_another_steps_and_another_pipelines_success_do_not_answer(steps, tmp_path):
    assert steps.find({**STEP, "Name": "Other"}, "ProcessingJob", ARGUMENTS) is None
    other = StepCache(Store(tmp_path / "records.sqlite"), f"{PIPELINE}2")
    assert other.find(STEP, "ProcessingJob", ARGUMENTS) is None


def test_the_latest_success_answers(steps):
    steps.keep(STEP, "ProcessingJob", ARGUMENTS, "job-2", "execution-2")
    assert steps.find(STEP, "ProcessingJob", ARGUMENTS)["Arn"] == "job-2"


@pytest.mark.parametrize("config", [{}, {"Enabled": False}, {"Enabled": True, "ExpireAfter": "T0S"}])
def test_a_cache_that_is_off_or_expired_does_not_answer(steps, config, monkeypatch):
    later = cache.now() + 1
    monkeypatch.setattr(cache, "now", lambda: later)
    assert steps.find({**STEP, "CacheConfig": config}, "ProcessingJob", ARGUMENTS) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30d", 30 * 86_400),
        ("P30D", 30 * 86_400),
        ("T16m", 960),
        ("PT5H", 18_000),
        ("30dT5h", 2_610_000),
        ("P2W", 1_209_600),
    ],
)
def test_durations(text, seconds):
    assert cache.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "P", "T", "30", "5h", "d30", "-P1D"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="no ISO 8601 duration"):
        cache.seconds(text)
