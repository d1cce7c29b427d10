import pytest

from pipeline import settings

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
