"""Going back to an earlier version of the pipeline: ``signs start --version``."""

import json

import pytest

from pipeline import clouds, executions
from pipeline.settings import load

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def signs(make_signs):
    """A pipeline in two versions, which differ in one default."""
    signs = make_signs("versions")
    signs("local", "start")
    assert "traffic-signs-training, version 1" in signs("upsert")
    signs.settings.write_text(signs.settings.read_text().replace("patience = 0 ", "patience = 3 "))
    assert "traffic-signs-training, version 2" in signs("upsert")
    return signs


@pytest.fixture(scope="module")
def cloud(signs):
    cloud = clouds.connect("local", load(signs.settings))
    cloud.client("s3").put_object(Bucket=cloud.bucket, Key="some/data", Body=b"no data set")
    return cloud


@pytest.mark.parametrize(("words", "patience"), [((), 3), (("--version", "1"), 0), (("--version", "2"), 3)])
def test_what_runs_is_the_version_that_was_asked_for(signs, cloud, words, patience):
    arn = signs.json("start", "--data", f"s3://{cloud.bucket}/some", *words)["PipelineExecutionArn"]
    declared = {each["Name"]: each for each in json.loads(executions.definition(cloud, arn))["Parameters"]}
    assert declared["Patience"]["DefaultValue"] == patience
    started = executions.parameters(cloud, arn)
    assert started["InputData"] == f"s3://{cloud.bucket}/some"
    assert started["Commit"] != "unknown", "both versions run the code that lies here"


def test_a_version_that_does_not_exist_is_refused_by_its_number(signs, cloud):
    said = signs("start", "--data", f"s3://{cloud.bucket}/some", "--version", "9", code=1)
    assert "Traceback" not in said
    assert "9" in said
