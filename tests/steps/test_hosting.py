"""What is asked of AWS for an endpoint, and which options make no sense together."""

import argparse
from dataclasses import replace

import pytest
from botocore.session import get_session
from botocore.validate import validate_parameters

from trafficsigns.hosting import requests
from trafficsigns.hosting.target import add_options, target_of

PACKAGE = {
    "ModelPackageArn": "arn:aws:sagemaker:eu-central-1:123456789012:model-package/signs/7",
    "ModelPackageVersion": 7,
}
ROLE = "arn:aws:iam::123456789012:role/serving"


def target(*options: str):
    parser = argparse.ArgumentParser()
    add_options(parser)
    given = ["--model-package-group=signs", "--endpoint-name=signs", f"--role-arn={ROLE}"]
    return target_of(parser.parse_args([*given, *options]))


REALTIME = target()
CANARY = target("--instance-count=2", "--traffic=canary", "--step-percentage=50", "--bake-seconds=300")
LINEAR = target("--instance-count=4", "--traffic=linear", "--step-percentage=25")
SCALING = target(
    "--instance-count=2", "--maximum-instance-count=5", "--capture-percentage=10", "--capture-uri=s3://b/c"
)
SERVERLESS = target("--mode=serverless", "--memory-mb=1024", "--maximum-concurrency=3", "--capture-percentage=10")
PROTECTED = target(
    "--capture-percentage=10", "--capture-uri=s3://b/c", "--subnet=subnet-1", "--subnet=subnet-2",
    "--security-group=sg-1",
    "--kms-key=arn:aws:kms:eu-central-1:123456789012:key/1", "--tag=team=signs", "--tag=note=a=b",
)  # fmt: skip
ALL = {
    "protected": PROTECTED,
    "realtime": REALTIME,
    "canary": CANARY,
    "linear": LINEAR,
    "scaling": SCALING,
    "serverless": SERVERLESS,
}


def fits(service: str, action: str, request: dict) -> None:
    """Hold a request against botocore's model of AWS's API: members, types and enums."""
    shape = get_session().get_service_model(service).operation_model(action).input_shape
    validate_parameters(request, shape)


@pytest.mark.parametrize("name", ALL)
def test_every_request_is_one_that_aws_knows(name):
    wanted = ALL[name]
    called = requests.name(wanted, PACKAGE)
    assert len(called) <= 63
    fits("sagemaker", "CreateModel", requests.model(wanted, PACKAGE, called))
    fits("sagemaker", "CreateEndpointConfig", requests.configuration(wanted, called))
    both = {"EndpointName": "e", "EndpointConfigName": called}
    fits("sagemaker", "UpdateEndpoint", {**both, **requests.update(wanted, ["one"])})
    fits("sagemaker", "UpdateEndpoint", {**both, **requests.way_back(wanted)})
    for alarm in requests.alarms(wanted):
        fits("cloudwatch", "PutMetricAlarm", alarm)
    fits("application-autoscaling", "PutScalingPolicy", requests.scaling_policy(wanted))
    bounds = {"MinCapacity": 1, "MaxCapacity": 2}
    fits("application-autoscaling", "RegisterScalableTarget", {**requests.scalable(wanted), **bounds})


def test_one_instance_is_replaced_at_once_under_alarms():
    update = requests.update(REALTIME, ["errors", "latency"])
    routing = update["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing == {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 60}
    rollback = update["DeploymentConfig"]["AutoRollbackConfiguration"]
    assert rollback == {"Alarms": [{"AlarmName": "errors"}, {"AlarmName": "latency"}]}
    assert "RetainAllVariantProperties" not in update


def test_a_canary_and_linear_steps_have_their_size():
    def routing(wanted):
        return requests.update(wanted, [])["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]

    half = {"Type": "CAPACITY_PERCENT", "Value": 50}
    assert routing(CANARY) == {"Type": "CANARY", "WaitIntervalInSeconds": 300, "CanarySize": half}
    assert routing(LINEAR)["LinearStepSize"] == {"Type": "CAPACITY_PERCENT", "Value": 25}


def test_without_an_alarm_nothing_rolls_back_by_itself():
    assert "AutoRollbackConfiguration" not in requests.update(CANARY, [])["DeploymentConfig"]


def test_an_endpoint_that_scales_keeps_its_size_and_a_serverless_one_takes_no_guard():
    assert requests.update(SCALING, [])["RetainAllVariantProperties"] is True
    assert requests.way_back(SCALING) == {"RetainAllVariantProperties": True}
    assert requests.update(SERVERLESS, ["errors"]) == {}
    (variant,) = requests.configuration(SERVERLESS, "m")["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 1024, "MaxConcurrency": 3}
    assert "DataCaptureConfig" not in requests.configuration(SERVERLESS, "m")
    assert requests.configuration(SCALING, "m")["DataCaptureConfig"]["InitialSamplingPercentage"] == 10


@pytest.mark.parametrize("field", ["instance_type", "instance_count", "role_arn", "capture_percentage", "mode"])
def test_what_a_configuration_is_made_of_is_in_its_name(field):
    other = {"instance_type": "ml.m5.large", "instance_count": 3, "role_arn": "arn:other", "mode": "serverless"}
    changed = replace(REALTIME, **{field: other.get(field, 5)})
    assert requests.name(changed, PACKAGE) != requests.name(REALTIME, PACKAGE)
    assert requests.name(REALTIME, PACKAGE) == requests.name(replace(REALTIME, keep=9, bake_seconds=1), PACKAGE)
    later = {**PACKAGE, "ModelPackageVersion": 8}
    assert requests.name(REALTIME, later).startswith("signs-v8-")


def test_what_protects_a_model_is_asked_for_and_in_its_name():
    model, config = requests.model(PROTECTED, PACKAGE, "m"), requests.configuration(PROTECTED, "m")
    assert model["VpcConfig"] == {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}
    assert model["Tags"] == [{"Key": "team", "Value": "signs"}, {"Key": "note", "Value": "a=b"}]
    assert config["KmsKeyId"] == config["DataCaptureConfig"]["KmsKeyId"] == PROTECTED.kms_key
    for other in (replace(PROTECTED, subnet=("subnet-3",)), replace(PROTECTED, kms_key="")):
        assert requests.name(other, PACKAGE) != requests.name(PROTECTED, PACKAGE)
    assert requests.name(replace(PROTECTED, tag=()), PACKAGE) == requests.name(PROTECTED, PACKAGE)
    serverless = replace(PROTECTED, mode="serverless")
    # SageMaker takes neither for these.
    assert "VpcConfig" not in requests.model(serverless, PACKAGE, "m")
    assert "KmsKeyId" not in requests.configuration(serverless, "m")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--subnet=subnet-1"], "need each other"),
        (["--traffic=canary"], "--traffic canary needs --instance-count 2 or more"),
        (["--traffic=linear", "--instance-count=2", "--step-percentage=51"], "at most half"),
        (["--bake-seconds=4501"], "moving traffic would take 9002 s, and the deployment waits 9000 s"),
        (["--traffic=canary", "--instance-count=2", "--bake-seconds=3001"], "--bake-seconds 3001: .* 9003 s"),
        (
            ["--traffic=linear", "--instance-count=10", "--step-percentage=15", "--bake-seconds=1126"],
            "--bake-seconds 1126: .* 9008 s",
        ),
        (["--instance-count=3", "--maximum-instance-count=2"], "--maximum-instance-count 2 is below"),
        (["--capture-percentage=5"], "needs a --capture-uri"),
        (["--capture-percentage=5", "--capture-uri=/tmp"], "needs a --capture-uri"),
    ],
)
def test_options_that_make_no_sense_together(options, words):
    with pytest.raises(ValueError, match=words):
        target(*options)


def test_an_update_may_take_as_long_as_the_deployment_waits():
    assert target("--bake-seconds=4500").update_seconds == 9000
    assert target("--traffic=canary", "--instance-count=2", "--bake-seconds=3000").update_seconds == 9000
    linear = target("--traffic=linear", "--instance-count=10", "--step-percentage=15", "--bake-seconds=1125")
    assert linear.update_seconds == 9000


@pytest.mark.parametrize(
    "option",
    ["--instance-count=0", "--instance-count=one", "--step-percentage=101", "--bake-seconds=-1", "--mode=async",
     "--maximum-error-rate=2", "--traffic=rolling", "--keep=some", "--maximum-error-rate=nan", "--tag=team",
     "--tag==signs"],
)  # fmt: skip
def test_values_that_no_endpoint_can_have(option, capsys):
    with pytest.raises(SystemExit):
        target(option)
    assert option.partition("=")[0] in capsys.readouterr().err
