"""Training by its command line and as a function: what comes out, and what is refused."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from three_signs import CLASSES, NAMES, SETTINGS, course, failure, run, same

import train
from trafficsigns import calibration, dataset, training
from trafficsigns.failures import StepError

pytest_plugins = ["three_signs"]


@pytest.fixture(scope="module")
def outcome(images):
    return training.fit(*images, CLASSES, SETTINGS)


def test_the_environment_of_a_training_job_suffices_for_a_complete_archive(channels, images):
    assert run("--epochs", "4", "--seed", "9") == 0
    assert (channels / "model/code/inference.py").read_text() == "# the endpoint's handler\n"
    record = json.loads((channels / "model/1/assets.extra/training.json").read_text())
    assert [record[key] for key in ("preset", "classes", "seed")] == ["lenet5", NAMES, 9]
    assert [epoch["epoch"] for epoch in record["history"]] == [1, 2, 3, 4]
    assert set(record["history"][0]) == {
        "epoch", "loss", "accuracy", "validation_loss", "validation_accuracy", "images_per_second", "seconds",
    }  # fmt: skip
    assert record["parameters"] == 61_411
    assert record["hyperparameters"]["learning_rate"] == 0.01
    assert set(record["versions"]) == {"python", "tensorflow", "keras", "numpy"}

    served = tf.saved_model.load(str(channels / "model/1"))
    encoded = [tf.io.encode_png(image) for image in images[1].pixels]
    answer = served.signatures["serving_default"](image_bytes=tf.stack(encoded))
    accuracy = np.mean(answer["class_id"].numpy() == images[1].labels)
    assert accuracy == pytest.approx(record["history"][record["selected_epoch"] - 1]["validation_accuracy"])


def test_what_is_served_has_the_temperature_that_suits_validation_best(channels, images):
    assert run("--epochs", "4") == 0
    temperature = json.loads((channels / "model/1/assets.extra/training.json").read_text())["temperature"]
    served = tf.saved_model.load(str(channels / "model/1"))
    encoded = tf.stack([tf.io.encode_png(image) for image in images[1].pixels])
    # But for a constant, these are the network's logits: what divided them must be what suits them best.
    logits = np.log(served.signatures["serving_default"](image_bytes=encoded)["probabilities"].numpy()) * temperature
    assert calibration.fit_temperature(logits, images[1].labels) == pytest.approx(temperature, rel=0.01)
    assert abs(temperature - 1.0) > 0.05, "or nothing is shown"


def test_a_separable_set_is_learnt(outcome):
    assert outcome.history[-1].loss < 0.7 * outcome.history[0].loss
    assert outcome.history[-1].validation_accuracy > 0.8, "and an eighth of the labels is wrong"


def test_the_selected_epoch_is_the_one_whose_weights_come_back(outcome, images):
    best = outcome.history[outcome.selected_epoch - 1]
    assert best.validation_loss == min(epoch.validation_loss for epoch in outcome.history)
    judged = training.judge(training.answering(outcome.network), images[1])
    assert judged == (best.validation_loss, best.validation_accuracy)


def test_selection_prefers_the_lower_loss_to_one_image_more():
    def epochs(*validation):
        return [
            training.Epoch(number, 0, 0, loss, accuracy, 0, 0) for number, (loss, accuracy) in enumerate(validation, 1)
        ]

    assert training.selected(epochs((0.3, 0.90), (0.2, 0.91), (0.1, 0.90), (0.1, 0.9))) == 3


def test_the_seed_decides_the_weights(outcome, images):
    again = training.fit(*images, CLASSES, SETTINGS)
    assert course(again.history) == course(outcome.history)
    assert same(again.network, outcome.network)
    assert not same(training.fit(*images, CLASSES, replace(SETTINGS, seed=2)).network, outcome.network)


def test_the_seed_decides_the_weights_of_the_default_network(images, slim):
    first, again = (training.fit(*images, CLASSES, replace(slim, epochs=2)) for _ in range(2))
    assert course(first.history) == course(again.history)
    assert same(first.network, again.network)


def test_without_shards_the_folder_is_named(channels, capsys):
    for shard in (channels / "validation").iterdir():
        shard.unlink()
    assert run() == 1
    assert f"no .tfrecord shard in {channels / 'validation'}" in failure(channels, capsys)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "preprocess"), ("[1, 2]", "class names"), ("{", "no JSON"), ('["Stop", "Yield"]', "names 2 classes")],
)
def test_class_names_that_do_not_fit_the_shards_are_refused(channels, capsys, content, reason):
    labels = channels / "train/labels.json"
    labels.unlink()
    if content is not None:
        labels.write_text(content)
    assert run() == 1
    assert reason in failure(channels, capsys)


def test_a_damaged_shard_is_refused(channels, capsys):
    (shard,) = (channels / "train").glob("*.tfrecord")
    shard.write_bytes(shard.read_bytes()[:-100])
    assert run() == 1
    assert f"{channels / 'train'} holds a shard that is damaged" in failure(channels, capsys)


def test_a_folder_in_place_of_a_shard_is_refused(channels, capsys):
    (channels / "train" / "99999.tfrecord").mkdir()
    assert run() == 1
    assert f"{channels / 'train'} holds a shard that is damaged" in failure(channels, capsys)


def test_a_place_that_takes_no_archive_is_noticed_before_training(channels, capsys):
    (channels / "model").write_text("")
    assert run() == 1
    told = capsys.readouterr()
    assert told.err == f"{channels / 'model' / '.1.part'}: Not a directory\n"
    assert "epoch" not in told.out


def test_a_missing_handler_is_noticed_before_training(channels, capsys, monkeypatch):
    monkeypatch.setattr(train, "HANDLER", channels / "absent.py")
    assert run() == 1
    assert "absent.py" in failure(channels, capsys)


def test_an_empty_split_is_refused(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "00000.tfrecord")):
        pass
    with pytest.raises(StepError, match="hold no image"):
        dataset.load(tmp_path, 3)


@pytest.mark.parametrize(
    "option",
    [
        ("--epochs", "1.5"),
        ("--batch-size", "-1"),
        ("--learning-rate", "nan"),
        ("--seed", "-1"),
        ("--preset", "worst"),
        ("--epochs", str(2**31)),
    ],
    ids=" ".join,
)
def test_hyperparameters_out_of_range_are_refused_by_name(channels, capsys, option):
    with pytest.raises(SystemExit, match="2"):
        run(*option)
    reason = (channels / "output/failure").read_text()
    assert reason.startswith(f"argument {option[0]}: ")
    assert f"error: {reason}" in capsys.readouterr().err


def test_a_batch_has_no_more_images_than_there_are_and_the_archive_says_how_many(channels, caplog):
    assert run("--epochs", "1", "--batch-size", "4096") == 0
    assert "a batch has 96 images instead of 4096" in caplog.text
    record = json.loads((channels / "model/1/assets.extra/training.json").read_text())
    assert record["hyperparameters"]["batch_size"] == 96


def test_help_is_complete_and_needs_no_tensorflow():
    script = Path(train.__file__)
    code = (
        "import runpy, sys; sys.modules['tensorflow'] = None; sys.argv = ['train.py', '--help']; "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=script.parent, check=True)
    for option in ("--train-dir", "--validation-dir", "--model-dir", "--checkpoint-dir", "--preset", "--seed"):
        assert option in shown.stdout
