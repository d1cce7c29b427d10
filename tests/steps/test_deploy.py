"""One endpoint's life in the embedded SageMaker, in the order of the file: a test begins where the one before ended."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from deployment_world import PICTURES, ROLE, World, golden, line, reach

import deploy
from pipeline.approvals import EARLIER
from trafficsigns.hosting import golden as golden_pictures

pytestmark = pytest.mark.integration

ENDPOINT = GROUP = "signs-under-test"


@pytest.fixture(scope="module")
def world(client, tmp_path_factory):
    world = World(client, ENDPOINT, tmp_path_factory.mktemp("models"))
    yield world
    if world.endpoint():
        world.sagemaker.delete_endpoint(EndpointName=ENDPOINT)


@pytest.fixture(scope="module")
def sure(world):
    """A model that answers with 0.9."""
    return world.put_model(0.9)


@pytest.fixture(scope="module")
def unsure(world):
    """A model that answers with 0.7."""
    return world.put_model(0.7)


@pytest.fixture(scope="module")
def versions() -> dict[str, str]:
    """ARNs of the versions that a test leaves for those after it."""
    return {}


@pytest.fixture(autouse=True)
def quick(embedded, monkeypatch):
    reach(embedded, monkeypatch)


def test_without_an_approved_version_no_endpoint_is_made(world, sure, tmp_path, capsys):
    world.register(sure, {golden_pictures.KEY: world.put_golden("waiting", golden(0.9))}, "PendingManualApproval")
    assert world.deploy(tmp_path) == 1
    assert f"no version in {GROUP} is approved" in line(capsys)
    assert world.endpoint() is None
    assert list(tmp_path.iterdir()) == []


def test_a_first_version_that_answers_wrong_does_not_stay(world, sure, tmp_path, capsys):
    arn = world.register(sure, {golden_pictures.KEY: world.put_golden("first", golden(0.7))}, "PendingManualApproval")
    world.approve(arn, ApprovalDescription="as good as the last (Approved by Ann)")
    assert world.deploy(tmp_path) == 1
    reason = "00.png: the endpoint answers dark (0.900), evaluation said dark (0.700)"
    assert line(capsys) == f"{reason}\n"
    assert world.endpoint() is None
    assert world.status(arn) == (
        "Rejected",
        f"rejected by deployment: {reason}{EARLIER}as good as the last (Approved by Ann)",
    )
    assert list(tmp_path.iterdir()) == []


def test_the_first_deployment_makes_an_endpoint_that_answers(world, sure, versions, tmp_path):
    versions["old"] = world.register(sure, {golden_pictures.KEY: world.put_golden("old", golden(0.9))})
    assert world.deploy(tmp_path) == 0
    assert world.serving() == versions["old"]
    assert world.ask(PICTURES["01.png"])["class_name"] == "bright"
    assert json.loads((tmp_path / "deployment.json").read_text()) == {
        "EndpointName": ENDPOINT,
        "EndpointConfigName": world.endpoint()["EndpointConfigName"],
        "ModelPackageArn": versions["old"],
        "ModelPackageVersion": 3,
    }


def test_a_repeated_deployment_changes_nothing(world, tmp_path):
    before = world.endpoint()
    assert world.deploy(tmp_path) == 0
    assert world.endpoint() == before
    assert (tmp_path / "deployment.json").is_file()


def test_two_jobs_at_once_update_to_the_newer_version_and_agree(world, unsure, versions, tmp_path):
    versions["new"] = world.register(unsure, {golden_pictures.KEY: world.put_golden("new", golden(0.7))})
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(world.deploy, [tmp_path / "chain", tmp_path / "event"]))
    assert codes == [0, 0]
    assert world.serving() == versions["new"]
    assert world.ask(PICTURES["01.png"])["probability"] == pytest.approx(0.7)
    first, second = ((tmp_path / name / "deployment.json").read_text() for name in ("chain", "event"))
    assert first == second


@pytest.mark.parametrize("probability", [0.5, float("nan")])
def test_a_serving_version_that_answers_otherwise_fails_the_job_and_serves_on(
    probability, world, versions, tmp_path, capsys
):
    before = world.endpoint()
    world.put_golden("new", golden(probability))
    assert world.deploy(tmp_path) == 1
    assert "the endpoint answers dark (0.700)" in line(capsys)
    assert world.endpoint() == before
    assert world.status(versions["new"])[0] == "Approved"


def test_rejecting_the_newest_version_goes_back_to_the_older_one(world, versions, tmp_path):
    world.approve(versions["new"], "Rejected")
    assert world.deploy(tmp_path) == 0
    assert world.serving() == versions["old"]
    assert world.ask(PICTURES["01.png"])["probability"] == pytest.approx(0.9)


def test_a_version_that_answers_wrong_is_rejected_and_the_old_one_serves_again(
    world, unsure, versions, tmp_path, capsys
):
    swapped = [{**row, "class_id": 1 - row["class_id"]} for row in golden(0.7)]
    arn = world.register(unsure, {golden_pictures.KEY: world.put_golden("swapped", swapped)})
    assert world.deploy(tmp_path) == 1
    assert "00.png: the endpoint answers dark" in line(capsys)
    assert world.serving() == versions["old"]
    assert world.ask(PICTURES["01.png"])["probability"] == pytest.approx(0.9)
    status, reason = world.status(arn)
    assert status == "Rejected"
    assert reason.startswith("rejected by deployment: 00.png: the endpoint answers dark")


def test_a_version_that_does_not_start_is_rejected_and_the_old_one_serves_on(world, versions, tmp_path, capsys):
    arn = world.register(world.put_broken_model(), {golden_pictures.KEY: world.put_golden("broken", golden(0.9))})
    assert world.deploy(tmp_path) == 1
    assert "did not pass the ping health check" in line(capsys)
    assert world.serving() == versions["old"]
    assert world.status(arn)[0] == "Rejected"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "has no property GoldenImages"),
        ([], "golden.json lists no picture"),
        ({}, "golden.json lists no picture"),
        ([{"file": "00.png"}], "golden.json is not what steps/evaluate.py writes"),
        (["00.png"], "golden.json is not what steps/evaluate.py writes"),
        (7, "golden.json is not what steps/evaluate.py writes"),
        ([{**golden(0.9)[0], "probability": None}], "golden.json is not what steps/evaluate.py writes"),
        ([{**golden(0.9)[0], "file": "absent.png"}], "NoSuchKey"),
    ],
    ids=["no property", "empty", "object", "no answers", "text", "number", "null", "no picture"],
)
def test_a_version_that_cannot_be_proved_is_not_tried(content, reason, world, unsure, versions, tmp_path, capsys):
    before = world.endpoint()
    properties = {} if content is None else {golden_pictures.KEY: world.put_golden("unprovable", content)}
    arn = world.register(unsure, properties)
    assert world.deploy(tmp_path) == 1
    assert reason in line(capsys)
    assert world.endpoint() == before
    # The reason may be missing rights or a missing file: a person decides what becomes of the version.
    assert world.status(arn)[0] == "Approved"
    world.approve(arn, "Rejected")


def test_without_any_approved_version_the_endpoint_serves_on(world, versions, tmp_path, capsys):
    world.approve(versions["old"], "Rejected")
    before = world.endpoint()
    assert world.deploy(tmp_path) == 1
    assert "the endpoint stays as it is" in line(capsys)
    assert world.endpoint() == before
    assert world.ask(PICTURES["01.png"])["class_name"] == "bright"


def test_an_unknown_group_is_one_line(tmp_path, capsys):
    options = ["--model-package-group=absent", f"--endpoint-name={ENDPOINT}", f"--role-arn={ROLE}"]
    assert deploy.main([*options, f"--output-dir={tmp_path}"]) == 1
    assert line(capsys).startswith("AWS refused: ")


def test_a_missing_region_is_one_line(world, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert world.deploy(tmp_path) == 1
    assert "region" in line(capsys)


def test_an_output_that_cannot_be_written_is_found_before_anything_is_deployed(world, tmp_path, capsys):
    (tmp_path / "out").write_text("a file stands where the folder should")
    assert world.deploy(tmp_path / "out") == 1
    assert str(tmp_path / "out") in line(capsys)
