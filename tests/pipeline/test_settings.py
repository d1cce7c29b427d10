import argparse
from dataclasses import asdict

import pytest

from pipeline import settings
from trafficsigns.hosting.target import UPDATE_SECONDS, add_options, target_of

TEXT = settings.DEFAULT_FILE.read_text()


def test_the_projects_own_settings_load():
    loaded = settings.load()
    assert loaded.training_pipeline == "traffic-signs-training"
    assert loaded.state_dir == settings.ROOT / ".signs"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("minimum_accuracy = 0.96", "minimum_accuracy = 1.5", "gate.minimum_accuracy"),
        ("minimum_accuracy = 0.96", "minimum_acuracy = 0.96", "gate.minimum_ac"),
        ("epochs = 0", "epochs = -1", "training.epochs"),
        ("epochs = 0", 'epochs = "many"', "training.epochs"),
        ('preset = "standard"', 'preset = "resnet"', "training.preset"),
        ("training_spot = false", "training_spot = 1", "instances.training_spot"),
        ("port = 8770", "port = 70000", "local.port"),
        ("validation_fraction = 0.1", "validation_fraction = 1.0", "data.validation_fraction"),
        ('name = "traffic-signs"', "", "name"),
        ("[gate]", "[gate", "not TOML"),
    ],
)
def test_settings_that_cannot_be_used_are_named(tmp_path, old, new, named):
    assert old in TEXT
    file = tmp_path / "settings.toml"
    file.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(settings.SettingsError, match=named) as refusal:
        settings.load(file)
    assert str(file) in str(refusal.value)


def test_a_settings_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(settings.SettingsError, match=r"none\.toml: No such file"):
        settings.load(tmp_path / "none.toml")


def test_a_profile_can_be_chosen_and_every_one_fits_the_deployment_script():
    parser = argparse.ArgumentParser()
    add_options(parser)
    others = {"capture_uri": "s3://b/c", "role_arn": "arn", "model_package_group": "g", "endpoint_name": "e"}
    for name in ("dev", "staging", "prod"):
        profile = asdict(settings.load(profile=name).deployment.chosen)
        assert profile == asdict(getattr(settings.load().deployment, name))
        words = [f"--{key.replace('_', '-')}={value}" for key, value in (profile | others).items()]
        target = asdict(target_of(parser.parse_args(words)))
        assert {key: target[key] for key in profile} == profile


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('traffic = "all-at-once"', 'traffic = "canary"', "needs instance_count of two or more"),
        ("maximum_instance_count = 2\n", "maximum_instance_count = 1\n", "below instance_count"),
        ("step_percentage = 50 ", "step_percentage = 60 ", "less than or equal to 50"),
        ("bake_seconds = 120\n", "bake_seconds = 3001\n", "bake_seconds, 3 times in one update, are more than 9000 s"),
        ('profile = "dev"', 'profile = "production"', "'dev', 'staging' or 'prod'"),
    ],
)
def test_a_profile_that_no_endpoint_could_have_is_refused(tmp_path, old, new, words):
    text = settings.DEFAULT_FILE.read_text()
    assert old in text
    (tmp_path / "settings.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(settings.SettingsError, match=words):
        settings.load(tmp_path / "settings.toml")


def test_the_settings_allow_no_update_that_the_deployment_does_not_wait_for():
    assert settings.UPDATE_SECONDS == UPDATE_SECONDS
