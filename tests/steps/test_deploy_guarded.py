"""Deployments that are guarded, interrupted, refused or pruned; each test begins with version 1 serving, proved."""

import threading
import time
from contextlib import suppress

import pytest
from botocore.exceptions import ClientError
from deployment_world import PICTURES, World, golden, line, reach

import deploy
from trafficsigns.hosting import golden as golden_pictures

pytestmark = pytest.mark.integration

NAME = "signs-guarded"

# Answers as evaluation said, and fails on what evaluation never sent.
TREACHEROUS = """
_input_handler = input_handler

def input_handler(data, context):
    if context.custom_attributes == "odd":
        raise RuntimeError("nobody told me of this one")
    return _input_handler(data, context)
"""


@pytest.fixture(scope="module")
def world(client, tmp_path_factory):
    world = World(client, NAME, tmp_path_factory.mktemp("models"))
    yield world
    if world.endpoint():
        world.sagemaker.delete_endpoint(EndpointName=NAME)


@pytest.fixture(autouse=True)
def quick(embedded, monkeypatch):
    reach(embedded, monkeypatch)


@pytest.fixture(scope="module")
def models(world):
    return {confidence: world.put_model(confidence) for confidence in (0.9, 0.7)}


@pytest.fixture(scope="module")
def first(world, models):
    """Version 1, which every test leaves serving."""
    return world.register(models[0.9], {golden_pictures.KEY: world.put_golden("first", golden(0.9))})


@pytest.fixture
def serving(world, first, tmp_path):
    """The configuration of version 1, which serves."""
    assert world.deploy(tmp_path / "before") == 0
    assert world.serving() == first
    return world.endpoint()["EndpointConfigName"]


@pytest.fixture
def second(world, models):
    """Makes further versions, and turns them down after the test."""
    made = []

    def make(model: str | None = None, confidence: float = 0.7) -> str:
        properties = {golden_pictures.KEY: world.put_golden(f"next-{confidence}", golden(confidence))}
        made.append(world.register(model or models[0.7], properties))
        return made[-1]

    yield make
    for arn in made:
        world.approve(arn, "Rejected")


@pytest.fixture
def odd_requests(world):
    """Sends requests of a kind that no golden picture is, until the test ends."""
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.05):
            with suppress(ClientError):
                world.runtime.invoke_endpoint(
                    EndpointName=NAME, ContentType="image/png", Body=PICTURES["00.png"], CustomAttributes="odd"
                )

    thread = threading.Thread(target=send)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_the_endpoint_has_its_alarms(world, serving, client):
    alarms = client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{NAME}-")["MetricAlarms"]
    assert {(alarm["AlarmName"], alarm["MetricName"], alarm["Threshold"]) for alarm in alarms} == {
        (f"{NAME}-errors", "Invocation5XXErrors", 0.01),
        (f"{NAME}-latency", "ModelLatency", 1_000_000.0),
    }


@pytest.mark.usefixtures("odd_requests")
def test_a_version_that_fails_in_traffic_is_rolled_back_and_rejected(world, serving, second, tmp_path, capsys):
    arn = second(world.put_model(0.7, TREACHEROUS, name="treacherous"))
    assert world.deploy(tmp_path, bake_seconds=1200) == 1
    assert f"{NAME}-errors" in line(capsys)
    assert world.endpoint()["EndpointConfigName"] == serving
    status, reason = world.status(arn)
    assert status == "Rejected"
    assert f"{NAME}-errors" in reason


@pytest.mark.usefixtures("odd_requests")
def test_an_alarm_that_is_on_already_does_not_keep_the_remedy_out(world, serving, second, tmp_path, client):
    ill = second(world.put_model(0.7, TREACHEROUS, name="ill"))
    assert world.deploy(tmp_path / "ill", maximum_error_rate=1) == 0
    assert world.serving() == ill
    world.deploy(tmp_path / "ill", maximum_error_rate=0.01)
    alarm = {"AlarmNames": [f"{NAME}-errors"]}
    deadline = time.monotonic() + 30
    while client("cloudwatch").describe_alarms(**alarm)["MetricAlarms"][0]["StateValue"] != "ALARM":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    remedy = second(confidence=0.7)
    assert world.deploy(tmp_path, bake_seconds=60) == 0
    assert world.serving() == remedy


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        ("def input_handler(data, context):\n    raise RuntimeError('no')\n", "refuses a golden picture"),
        (
            "def output_handler(response, context):\n    return b'{\"answers\": []}', 'application/json'\n",
            "answer to a golden picture cannot be read",
        ),
    ],
    ids=["none", "unreadable"],
)
def test_a_version_that_gives_a_golden_picture_no_answer_is_rejected(
    handler, words, world, serving, second, tmp_path, capsys
):
    arn = second(world.put_model(0.7, f"\n{handler}", name=words.partition(" ")[0]))
    assert world.deploy(tmp_path) == 1
    assert words in line(capsys)
    assert world.status(arn)[0] == "Rejected"
    assert world.endpoint()["EndpointConfigName"] == serving


class Crash(BaseException):
    """The death of the job, at once after a call was answered."""


def crashing(monkeypatch, action: str) -> None:
    """Let the step die when the next call of an action has been answered."""
    session = deploy.boto3.Session

    def fragile(**options):
        made = session(**options)

        def die(**_):
            raise Crash(action)

        made.events.register(f"after-call.*.{action}", die)
        return made

    monkeypatch.setattr(deploy.boto3, "Session", fragile)


CALLS = ("CreateModel", "CreateEndpointConfig", "PutMetricAlarm", "UpdateEndpoint", "InvokeEndpoint", "AddTags")
"""What changes something on the way to a new version, in order, and the proof between them."""


def test_after_a_crash_at_any_call_the_next_job_goes_on(world, serving, second, tmp_path, monkeypatch):
    arn = second()
    for action in CALLS:
        with monkeypatch.context() as patch:
            crashing(patch, action)
            with pytest.raises(Crash, match=action):
                world.deploy(tmp_path)
    assert world.deploy(tmp_path) == 0
    assert world.serving() == arn
    assert world.ask(PICTURES["01.png"])["probability"] == pytest.approx(0.7)


def test_a_version_that_a_dead_job_left_unproved_gives_way_to_the_last_that_was(
    world, serving, second, tmp_path, monkeypatch, capsys
):
    arn = second(confidence=0.7)
    world.put_golden("next-0.7", golden(0.6))
    with monkeypatch.context() as patch:
        crashing(patch, "UpdateEndpoint")
        with pytest.raises(Crash):
            world.deploy(tmp_path)
    assert world.deploy(tmp_path) == 1
    assert "evaluation said dark (0.600)" in line(capsys)
    assert world.endpoint()["EndpointConfigName"] == serving
    assert world.status(arn)[0] == "Rejected"


def test_a_quota_rejects_no_version(world, serving, second, tmp_path, capsys):
    arn = second()
    assert world.deploy(tmp_path, instance_count=9) == 1
    assert "service limit" in line(capsys)
    assert world.endpoint()["EndpointConfigName"] == serving
    assert world.status(arn)[0] == "Approved"


@pytest.mark.parametrize("action", ["PutMetricAlarm", "UpdateEndpoint", "InvokeEndpoint"])
def test_missing_rights_reject_no_version(action, world, serving, second, tmp_path, monkeypatch, capsys):
    arn = second()
    session = deploy.boto3.Session

    def forbidden(**options):
        made = session(**options)

        def refuse(**_):
            # The embedded SageMaker asks nobody for rights; this is how IAM's answer reaches the step.
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": f"no right to {action}"}}, action)

        made.events.register(f"before-call.*.{action}", refuse)
        return made

    monkeypatch.setattr(deploy.boto3, "Session", forbidden)
    assert world.deploy(tmp_path) == 1
    assert f"no right to {action}" in line(capsys)
    assert world.endpoint()["EndpointConfigName"] == serving
    assert world.status(arn)[0] == "Approved"


def test_a_model_that_somebody_deleted_is_made_anew(world, serving, second, tmp_path):
    arn = second()
    assert world.deploy(tmp_path) == 0
    world.approve(arn, "Rejected")
    world.sagemaker.delete_model(ModelName=serving)
    assert world.deploy(tmp_path) == 0
    assert world.endpoint()["EndpointConfigName"] == serving


def test_the_latest_configurations_stay_and_older_ones_go(world, serving, second, tmp_path):
    names = []
    for count in (1, 2):
        second()
        assert world.deploy(tmp_path / str(count), keep=1) == 0
        names.append(world.endpoint()["EndpointConfigName"])
    listed = world.sagemaker.list_endpoint_configs(NameContains=f"{NAME}-v")["EndpointConfigs"]
    assert {each["EndpointConfigName"] for each in listed} == set(names)
    models = world.sagemaker.list_models(NameContains=f"{NAME}-v")["Models"]
    assert {each["ModelName"] for each in models} == set(names)


def sizes(client) -> list[tuple[int, int]]:
    """Between which sizes the endpoint is scaled."""
    found = client("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")
    ours = [each for each in found["ScalableTargets"] if each["ResourceId"].startswith(f"endpoint/{NAME}/")]
    return [(each["MinCapacity"], each["MaxCapacity"]) for each in ours]


def test_an_endpoint_that_is_to_scale_does_and_stops_when_it_is_not(world, serving, tmp_path, client):
    assert world.deploy(tmp_path, maximum_instance_count=3) == 0
    assert sizes(client) == [(1, 3)]
    policies = client("application-autoscaling").describe_scaling_policies(ServiceNamespace="sagemaker")
    assert f"{NAME}-invocations" in {policy["PolicyName"] for policy in policies["ScalingPolicies"]}
    assert world.endpoint()["EndpointConfigName"] == serving
    assert world.deploy(tmp_path) == 0
    assert sizes(client) == []


OTHER = {"instance_type": "ml.c6i.xlarge"}


def test_an_endpoint_that_scales_gets_other_machines_and_goes_on_scaling(world, serving, tmp_path, client):
    assert world.deploy(tmp_path, maximum_instance_count=3) == 0
    # What SageMaker, and so the embedded one, refuses as long as the variant is registered.
    (variant,) = world.sagemaker.describe_endpoint_config(EndpointConfigName=serving)["ProductionVariants"]
    changed = [{**variant, "InstanceType": OTHER["instance_type"]}]
    world.sagemaker.create_endpoint_config(EndpointConfigName=f"{NAME}-other", ProductionVariants=changed)
    with pytest.raises(ClientError, match="must be deregistered"):
        world.sagemaker.update_endpoint(EndpointName=NAME, EndpointConfigName=f"{NAME}-other")
    assert world.deploy(tmp_path, maximum_instance_count=4, **OTHER) == 0
    assert world.endpoint()["EndpointConfigName"] != serving
    assert sizes(client) == [(1, 4)]


def test_an_endpoint_that_does_not_get_its_other_machines_scales_as_before(
    world, models, first, serving, tmp_path, client
):
    assert world.deploy(tmp_path, maximum_instance_count=3) == 0
    # More instances than there may be: the update itself is refused.
    assert world.deploy(tmp_path, instance_count=9, **OTHER) == 1
    assert (world.endpoint()["EndpointConfigName"], sizes(client)) == (serving, [(1, 3)])
    # Wrong answers: it is put back.
    world.register(models[0.7], {golden_pictures.KEY: world.put_golden("wrong-machines", golden(0.9))})
    assert world.deploy(tmp_path, maximum_instance_count=4, **OTHER) == 1
    assert (world.serving(), sizes(client)) == (first, [(1, 3)])
    assert world.deploy(tmp_path) == 0


def test_an_endpoint_that_somebody_else_keeps_changing_scales_as_before(world, serving, tmp_path, client):
    assert world.deploy(tmp_path, maximum_instance_count=3) == 0
    session = deploy.boto3.Session

    def busy(**options):
        made = session(**options)

        def refuse(**_):
            told = {"Error": {"Code": "ValidationException", "Message": 'Cannot update in-progress endpoint "e".'}}
            raise ClientError(told, "UpdateEndpoint")

        made.events.register("before-call.*.UpdateEndpoint", refuse)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deploy.boto3, "Session", busy)
        assert world.deploy(tmp_path, maximum_instance_count=4, **OTHER) == 1
    assert (world.endpoint()["EndpointConfigName"], sizes(client)) == (serving, [(1, 3)])
    assert world.deploy(tmp_path) == 0


def test_an_endpoint_that_is_deleted_is_scaled_no_more(world, serving, tmp_path, client):
    assert world.deploy(tmp_path, maximum_instance_count=3) == 0
    world.sagemaker.delete_endpoint(EndpointName=NAME)
    assert sizes(client) == []


def test_an_endpoint_with_instances_does_not_become_serverless_silently(world, serving, tmp_path, capsys):
    assert world.deploy(tmp_path, mode="serverless") == 1
    assert "delete it, then deploy again" in line(capsys)
    assert world.endpoint()["EndpointConfigName"] == serving


def test_a_serverless_endpoint_is_made_and_proved(world, first, tmp_path):
    if world.endpoint():
        world.sagemaker.delete_endpoint(EndpointName=NAME)
    assert world.deploy(tmp_path, mode="serverless") == 0
    (variant,) = world.endpoint()["ProductionVariants"]
    assert variant["CurrentServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    assert world.deploy(tmp_path, mode="serverless", memory_mb=1024) == 0
    (variant,) = world.endpoint()["ProductionVariants"]
    assert variant["CurrentServerlessConfig"]["MemorySizeInMB"] == 1024


def test_options_that_make_no_sense_are_a_wrong_command_line(world, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        world.deploy(tmp_path, traffic="canary")
    assert stopped.value.code == 2
    assert "needs --instance-count 2 or more" in capsys.readouterr().err
