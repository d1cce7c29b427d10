"""Network, key, tags and wheels: from the settings and what the stacks made to the definition and the deployment."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

import deploy
from pipeline import clouds, definitions, protection, settings, wheels
from pipeline.clouds import CloudError
from pipeline.code import STEPS
from pipeline.settings import DEFAULT_FILE
from trafficsigns.hosting import requests
from trafficsigns.hosting.target import target_of

KEY = "arn:aws:kms:eu-central-1:123456789012:key/1"
OWN = {"Subnets": "subnet-0a,subnet-0b", "SecurityGroups": "sg-0a"}


def changed(tmp_path, **changes):
    """The project's settings with other lines."""
    text = DEFAULT_FILE.read_text()
    for old, new in changes.items():
        assert f"\n{old} = " in text
        lines = [f"{old} = {new}" if line.startswith(f"{old} = ") else line for line in text.splitlines()]
        text = "\n".join(lines)
    (tmp_path / "settings.toml").write_text(text)
    return settings.load(tmp_path / "settings.toml")


def jobs(loaded, outputs):
    """Each job's arguments in both definitions, by step; and what is expected to lie in the bucket."""
    cloud = replace(clouds.offline(loaded), outputs=outputs)
    built = definitions.build(loaded, cloud)

    def flat(steps):
        for step in steps:
            yield step["Name"], step["Arguments"]
            for branch in ("IfSteps", "ElseSteps"):
                if step["Type"] == "Condition":
                    yield from flat(step["Arguments"][branch])

    found = dict(flat(json.loads(built.texts[loaded.training_pipeline])["Steps"]))
    named = {name: found[name] for name in ("Preprocess", "ValidateData", "TrainLeNet", "Evaluate", "DeployEndpoint")}
    return named, built.staging.expected


def networks(named):
    """Isolation and subnets of each job."""
    plain = {name: job.get("NetworkConfig", {}) for name, job in named.items()}
    plain["TrainLeNet"] = named["TrainLeNet"]
    return {
        name: (bool(found.get("EnableNetworkIsolation")), tuple(found.get("VpcConfig", {}).get("Subnets", ())))
        for name, found in plain.items()
    }


def test_without_a_wish_nothing_stands_in_the_definition():
    named, expected = jobs(settings.load(), {})
    text = json.dumps(named)
    assert not any(word in text for word in ("VpcConfig", "NetworkConfig", "KmsKeyId", "WHEELS_DIR", '"Tags"'))
    assert not named["TrainLeNet"].get("EnableNetworkIsolation")
    assert expected == set()


def test_isolated_jobs_bring_wheels_and_those_that_call_somebody_are_not_isolated(tmp_path):
    loaded = changed(tmp_path, isolated="true")
    named, expected = jobs(loaded, {})
    isolated = {name for name, (alone, _) in networks(named).items() if alone}
    assert isolated == {"ValidateData", "TrainLeNet", "Evaluate"}
    assert sorted(place.split("/")[-2] for place in expected) == ["evaluate", "validate"]
    for name in ("ValidateData", "Evaluate"):
        (mounted,) = (each for each in named[name]["ProcessingInputs"] if each["InputName"] == "wheels")
        assert mounted["S3Input"]["S3Uri"] in expected
        assert named[name]["Environment"]["WHEELS_DIR"] == mounted["S3Input"]["LocalPath"]
    assert "WHEELS_DIR" not in named["Preprocess"]["Environment"]


def test_in_a_network_of_ones_own_every_job_and_the_model_run_in_its_subnets(tmp_path):
    loaded = changed(tmp_path, own="true")
    named, expected = jobs(loaded, OWN)
    assert set(networks(named).values()) == {(False, ("subnet-0a", "subnet-0b"))}
    assert sorted(place.split("/")[-2] for place in expected) == ["deploy", "evaluate", "preprocess", "validate"]
    words = named["DeployEndpoint"]["AppSpecification"]["ContainerArguments"]
    pairs = {(one, other) for one, other in pairwise(words) if isinstance(one, str) and isinstance(other, str)}
    assert {("--subnet", "subnet-0a"), ("--subnet", "subnet-0b"), ("--security-group", "sg-0a")} <= pairs
    # The script takes them.
    given = [word if isinstance(word, str) else "ml.m6i.large" for word in words]
    target = target_of(deploy._parser().parse_args(given))
    assert (target.subnet, target.security_group) == (("subnet-0a", "subnet-0b"), ("sg-0a",))
    request = requests.model(target, {"ModelPackageArn": "arn:p"}, "m")
    assert request["VpcConfig"] == {"Subnets": ["subnet-0a", "subnet-0b"], "SecurityGroupIds": ["sg-0a"]}


def test_in_a_network_that_is_there_a_package_index_may_be_within_reach(tmp_path):
    loaded = changed(tmp_path, subnets='["subnet-1"]', security_groups='["sg-1"]')
    named, expected = jobs(loaded, {})
    assert set(networks(named).values()) == {(False, ("subnet-1",))}
    assert expected == set()


def test_in_a_network_that_is_there_without_an_index_every_job_brings_wheels(tmp_path):
    loaded = changed(tmp_path, subnets='["subnet-1"]', security_groups='["sg-1"]', offline="true")
    _, expected = jobs(loaded, {})
    assert sorted(place.split("/")[-2] for place in expected) == ["deploy", "evaluate", "preprocess", "validate"]


def test_the_key_is_the_stacks_and_encrypts_volumes_outputs_and_the_endpoint(tmp_path):
    loaded = changed(tmp_path, encryption='"KMS"')
    named, _ = jobs(loaded, {"KeyArn": KEY})
    for name in ("Preprocess", "ValidateData", "Evaluate", "DeployEndpoint"):
        assert named[name]["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] == KEY
        assert named[name]["ProcessingOutputConfig"]["KmsKeyId"] == KEY
    assert named["TrainLeNet"]["ResourceConfig"]["VolumeKmsKeyId"] == KEY
    assert named["TrainLeNet"]["OutputDataConfig"]["KmsKeyId"] == KEY
    words = named["DeployEndpoint"]["AppSpecification"]["ContainerArguments"]
    assert words[words.index("--kms-key") + 1] == KEY


def test_tags_are_on_every_job_and_on_what_the_deployment_makes(tmp_path):
    text = DEFAULT_FILE.read_text().replace("[tags] ", '[tags]\n"cost-center" = "42"\n#')
    (tmp_path / "settings.toml").write_text(text)
    named, _ = jobs(settings.load(tmp_path / "settings.toml"), {})
    assert [job["Tags"] for job in named.values()] == [[{"Key": "cost-center", "Value": "42"}]] * 5
    words = named["DeployEndpoint"]["AppSpecification"]["ContainerArguments"]
    assert words[words.index("--tag") + 1] == "cost-center=42"


@pytest.mark.parametrize(
    ("wish", "named"), [({"own": "true"}, r"\[network\] own"), ({"encryption": '"KMS"'}, r"encryption = \"KMS\"")]
)
def test_what_no_stack_has_made_yet_is_asked_for(tmp_path, wish, named):
    loaded = changed(tmp_path, **wish)
    with pytest.raises(CloudError, match=f"{named}.*signs infra deploy"):
        protection.of("train", loaded, replace(clouds.offline(loaded), outputs={}))


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"subnets": '["subnet-1"]'}, "need each other"),
        ({"own": "true", "subnets": '["subnet-1"]', "security_groups": '["sg-1"]'}, "choose"),
        ({"offline": "true"}, "there are none"),
        ({"encryption": '"none"'}, "'S3' or 'KMS'"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(tmp_path, wish, words):
    with pytest.raises(settings.SettingsError, match=words):
        changed(tmp_path, **wish)


def test_roles_and_topic_come_from_the_stacks_unless_the_settings_name_others(tmp_path):
    outputs = {"TrainRoleArn": "arn:aws:iam::123456789012:role/of-the-stack", "AlertTopicArn": "arn:aws:sns:r:a:t"}
    named, _ = jobs(settings.load(), outputs)
    assert named["TrainLeNet"]["RoleArn"].endswith(":role/of-the-stack")
    assert named["Preprocess"]["RoleArn"] == clouds.LOCAL_ROLE
    words = named["DeployEndpoint"]["AppSpecification"]["ContainerArguments"]
    assert words[words.index("--alarm-topic-arn") + 1] == "arn:aws:sns:r:a:t"
    named, _ = jobs(changed(tmp_path, train='"arn:aws:iam::123456789012:role/mine"'), outputs)
    assert named["TrainLeNet"]["RoleArn"].endswith(":role/mine")


def test_an_image_of_ones_own_takes_the_place_of_awss(tmp_path):
    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/traffic-signs:1"
    named, _ = jobs(changed(tmp_path, training_uri=f'"{image}"'), {})
    assert named["TrainLeNet"]["AlgorithmSpecification"]["TrainingImage"] == image
    assert named["Evaluate"]["AppSpecification"]["ImageUri"] == image
    _, expected = jobs(changed(tmp_path, training_uri=f'"{image}"', isolated="true"), {})
    assert expected == set()  # such an image holds what AWS's lacks


def test_wheels_lie_where_their_lock_says(tmp_path):
    loaded = settings.load()
    cloud = clouds.offline(loaded)
    first = wheels.address("validate", loaded, cloud)
    assert first == wheels.address("validate", loaded, cloud) != wheels.address("evaluate", loaded, cloud)
    other = replace(loaded, images=replace(loaded.images, python="py313"))
    assert wheels.address("validate", other, cloud) != first
    assert {path.stem for path in (STEPS / "requirements").glob("*.txt")} == {
        step for step in ("preprocess", "validate", "train", "evaluate", "deploy") if wheels.needed(step)
    }
