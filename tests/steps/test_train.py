import json
import logging
import re
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import train
from pipeline import clouds, definitions, settings
from trafficsigns import calibration, dataset, lenet, presets, records, trainer, training
from trafficsigns.checkpoint import Checkpoint
from trafficsigns.failures import StepError

NAMES = ["Stop", "Keep left", "Keep right"]
SETTINGS = training.Hyperparameters("lenet5", epochs=3, batch_size=16, learning_rate=0.01, seed=1)


def signs(count: int, seed: int) -> dataset.Images:
    """Draw a set that anyone can tell apart: a disc, a bar on the left, a bar on the right, on noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    pixels = random.integers(0, 80, (count, 32, 32, 3), dtype=np.uint8)
    rows, columns = np.mgrid[0:32, 0:32]
    shapes = np.stack([(rows - 16) ** 2 + (columns - 16) ** 2 < 70, abs(columns - 6) < 4, abs(columns - 26) < 4])
    pixels[shapes[labels]] += 150
    return dataset.Images(pixels, labels.astype(np.int64))


@pytest.fixture(scope="module")
def images():
    return signs(96, seed=1), signs(48, seed=2)


@pytest.fixture(scope="module")
def outcome(images):
    return training.fit(*images, NAMES, SETTINGS)


def write_split(directory: Path, images: dataset.Images) -> None:
    pairs = zip(images.pixels, images.labels, strict=True)
    records.write((records.example(image.tobytes(), int(label), "", "") for image, label in pairs), directory)


@pytest.fixture
def channels(tmp_path, monkeypatch, images):
    for split, content in zip(("train", "validation"), images, strict=True):
        write_split(tmp_path / split, content)
    (tmp_path / "train/labels.json").write_text(json.dumps(NAMES))
    (tmp_path / "output").mkdir()
    handler = tmp_path / "inference.py"
    handler.write_text("# the endpoint's handler\n")
    monkeypatch.setattr(train, "HANDLER", handler)
    for variable, folder in {
        "SM_CHANNEL_TRAIN": "train",
        "SM_CHANNEL_VALIDATION": "validation",
        "SM_MODEL_DIR": "model",
        "SM_OUTPUT_DIR": "output",
    }.items():
        monkeypatch.setenv(variable, str(tmp_path / folder))
    return tmp_path


def run(*options: str) -> int:
    return train.main(["--preset", "lenet5", "--batch-size", "16", "--learning-rate", "0.01", *options])


def same(first, second) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


def failure(directory: Path, capsys) -> str:
    """Return the one reason that people and SageMaker were both given, once nothing else was written."""
    text = capsys.readouterr().err.strip()
    assert "\n" not in text
    assert (directory / "output/failure").read_text() == text
    assert not (directory / "model").exists()
    return text


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
    """Every eighth label is wrong, so that no network can be sure and right."""
    wrong = np.arange(48) % 8 == 0
    labels = np.where(wrong, (images[1].labels + 1) % 3, images[1].labels)
    for shard in (channels / "validation").iterdir():
        shard.unlink()
    write_split(channels / "validation", dataset.Images(images[1].pixels, labels))
    assert run("--epochs", "4") == 0
    temperature = json.loads((channels / "model/1/assets.extra/training.json").read_text())["temperature"]
    served = tf.saved_model.load(str(channels / "model/1"))
    encoded = tf.stack([tf.io.encode_png(image) for image in images[1].pixels])
    # But for a constant, these are the network's logits: what divided them must be what suits them best.
    logits = np.log(served.signatures["serving_default"](image_bytes=encoded)["probabilities"].numpy()) * temperature
    assert calibration.fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.01)
    assert abs(temperature - 1.0) > 0.05, "or nothing is shown"


@pytest.mark.parametrize(("exponent", "expected"), [(0.0, [2, 8, 32]), (0.5, [8, 16, 32]), (1.0, [32, 32, 32])])
def test_rare_classes_are_repeated_as_far_as_asked_and_each_image_alike(exponent, expected):
    labels = np.repeat([0, 1, 2], [2, 8, 32])
    pixels = np.zeros((42, 32, 32, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(42)
    found = dataset.balanced(dataset.Images(pixels, labels), exponent)
    assert np.bincount(found.labels).tolist() == expected
    np.testing.assert_array_equal(labels[found.pixels[:, 0, 0, 0]], found.labels, "an image keeps its label")
    repeated = np.bincount(found.pixels[:, 0, 0, 0])
    for label in range(3):
        assert np.ptp(repeated[labels == label]) <= 1


def test_a_class_without_images_stays_without_when_balanced():
    found = dataset.balanced(dataset.Images(np.zeros((5, 32, 32, 3), np.uint8), np.array([0, 2, 2, 2, 2])), 0.5)
    assert np.bincount(found.labels).tolist() == [2, 0, 4]


def test_a_separable_set_is_learnt(outcome):
    assert outcome.history[-1].loss < 0.7 * outcome.history[0].loss
    assert outcome.history[-1].validation_accuracy > 0.9


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
    assert same(training.fit(*images, NAMES, SETTINGS).network, outcome.network)
    assert not same(training.fit(*images, NAMES, replace(SETTINGS, seed=2)).network, outcome.network)


def test_an_interrupted_run_goes_on_to_the_same_weights(images, tmp_path, monkeypatch):
    # Small, but with everything that a state must hold: the random numbers of dropout, the averages of normalisation.
    def network(classes):
        images = layers.Input((32, 32, 3))
        x = layers.BatchNormalization()(layers.Flatten()(layers.AveragePooling2D(4)(images)))
        return keras.Model(images, layers.Dense(classes, name="logits")(layers.Dropout(0.5)(x)))

    monkeypatch.setattr(lenet, "lenet5", network)
    whole = training.fit(*images, NAMES, SETTINGS)
    checkpoint = Checkpoint(tmp_path / "run")
    taken = trainer.Trainer.epoch

    def epoch(self, stream, number):
        if number == 3:
            raise KeyboardInterrupt
        return taken(self, stream, number)

    monkeypatch.setattr(trainer.Trainer, "epoch", epoch)
    with pytest.raises(KeyboardInterrupt):
        training.fit(*images, NAMES, SETTINGS, checkpoint)
    monkeypatch.setattr(trainer.Trainer, "epoch", taken)
    resumed = training.fit(*images, NAMES, SETTINGS, checkpoint)
    assert [epoch.loss for epoch in resumed.history] == [epoch.loss for epoch in whole.history]
    assert same(resumed.network, whole.network)


def test_a_job_killed_in_the_middle_and_started_again_ends_like_an_unbroken_one(channels):
    """As a spot interruption that left no time: SIGKILL, then a second job with the same checkpoints."""
    command = [sys.executable, train.__file__, "--preset", "lenet5", "--epochs", "4", "--batch-size", "16"]

    def job(name):
        folders = ["--model-dir", str(channels / name), "--checkpoint-dir", str(channels / "checkpoints")]
        return subprocess.Popen([*command, *folders], stdout=subprocess.PIPE, text=True)

    def left(name):
        record = json.loads((channels / name / "1/assets.extra/training.json").read_text())
        saved = tf.saved_model.load(str(channels / name / "1"))
        return [epoch["loss"] for epoch in record["history"]], [weight.numpy() for weight in saved.weights]

    unbroken = job("unbroken")
    assert unbroken.wait() == 0
    victim = job("victim")
    while "epoch 2/4" not in victim.stdout.readline():
        assert victim.poll() is None
    victim.kill()
    assert victim.wait() == -signal.SIGKILL
    second = job("second")
    output, _ = second.communicate()
    assert second.returncode == 0
    assert re.search(r"continuing after epoch [12] of an interrupted run", output)
    assert "epoch 1/4" not in output
    (losses, weights), (expected_losses, expected) = left("second"), left("unbroken")
    assert losses == expected_losses
    for weight, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_training_ends_early_when_patience_does(images, monkeypatch, caplog):
    judged = iter([(0.5, 0.7), (0.4, 0.9), (0.6, 0.8), (0.5, 0.9), (0.3, 0.99)])
    monkeypatch.setattr(training, "judge", lambda *_: next(judged))
    with caplog.at_level(logging.INFO, logger=training.__name__):
        outcome = training.fit(*images, NAMES, replace(SETTINGS, epochs=5, patience=2))
    assert (outcome.selected_epoch, len(outcome.history)) == (2, 4)
    assert "no better epoch than 2 in 2 more: training ends early" in caplog.text


def test_the_rate_rises_and_falls_as_a_cosine_and_decay_spares_offsets_and_norms():
    options = trainer.Options(3, 16, 0.01)
    optimizer = trainer._optimizer(presets.PRESETS["standard"], options, 1000)
    optimizer.build(lenet.build(presets.PRESETS["standard"], 3).trainable_variables)
    rate = optimizer._learning_rate
    warm_up = round(trainer._WARM_UP * 1000)
    assert [float(rate(step)) for step in (0, warm_up // 2, warm_up)] == pytest.approx([0, 0.005, 0.01], abs=2e-4)
    middle = warm_up + (1000 - warm_up) // 2
    assert [float(rate(step)) for step in (middle, 1000)] == pytest.approx([0.005, 0], abs=2e-5)
    decays = {variable.path: optimizer._use_weight_decay(variable) for variable in optimizer._trainable_variables}
    assert {path for path, decayed in decays.items() if not decayed} == {
        path for path in decays if path.endswith(("/bias", "/gamma", "/beta"))
    }
    assert any(decays.values())


def test_averages_follow_the_weights_quickly_at_first_and_slowly_later(images):
    """Worked by hand: after step n an average keeps (1 + n) / (10 + n) of itself, and at most the slowest share."""
    learner = trainer.Trainer(
        presets.PRESETS["lenet5"], trainer.Options(1, 16, 0.01), 3, 6, tf.distribute.get_strategy()
    )
    for iterations, kept in ((1, 2 / 11), (89, 90 / 99), (10**6, trainer._SLOWEST_AVERAGE)):
        for average, variable in zip(learner.averaged.weights, learner.network.weights, strict=True):
            average.assign(tf.ones_like(average))
            variable.assign(tf.zeros_like(variable))
        learner._optimizer.iterations.assign(iterations)
        learner._follow()
        assert {round(float(value), 5) for weight in learner.averaged.get_weights() for value in weight.flat} == {
            round(kept, 5)
        }


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_learns_and_leaves_weights_of_full_precision(images, precision):
    outcome = training.fit(*images, NAMES, replace(SETTINGS, precision=precision, epochs=4))
    assert outcome.history[-1].validation_accuracy > 0.9
    assert {weight.dtype for weight in outcome.network.get_weights()} == {np.dtype(np.float32)}
    assert keras.mixed_precision.dtype_policy().name == "float32", "the next network is not touched by it"


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["standard", "best"])
def test_a_network_computes_in_the_precision_that_was_asked_for(images, name, precision):
    alone, plan = tf.distribute.get_strategy(), dataset.Plan(16, 1, 1, None)
    learner = trainer.Trainer(presets.PRESETS[name], trainer.Options(1, 16, 0.001, precision), 3, 2, alone)
    computing = {layer.compute_dtype for layer in learner.network.layers if isinstance(layer, layers.Conv2D)}
    assert computing == {precision.removeprefix("mixed_")}
    assert learner.network.output.dtype == "float32", "of softmax and loss sixteen bits are too few"
    scales = isinstance(learner._optimizer, keras.optimizers.LossScaleOptimizer)
    assert scales is (precision == "mixed_float16")
    before = learner.averaged.get_weights()
    loss, _ = learner.epoch(training._stream(images[0], NAMES, plan, 0, alone), 1)
    assert np.isfinite(loss)
    moved = any(np.any(old != new) for old, new in zip(before, learner.averaged.get_weights(), strict=True))
    # Loss scaling begins so high that float16's first steps may overflow; it leaves them out, as it should.
    assert moved or scales


def test_a_preset_is_trained_by_its_own_recipe(images, monkeypatch):
    """The table says how rare classes are repeated and what augmentation does; nothing else tells the loop."""
    taken = {}
    stream = training._stream

    def noted(learnt, names, plan, *more):
        taken.update(labels=learnt.labels, plan=plan)
        return stream(learnt, names, plan, *more)

    monkeypatch.setattr(training, "_stream", noted)
    chosen = np.append(
        np.flatnonzero(images[0].labels == 0), [np.argmax(images[0].labels == label) for label in (1, 2)]
    )
    rare = dataset.Images(images[0].pixels[chosen], images[0].labels[chosen])
    settings = training.Hyperparameters.of("best", 1, epochs=1, batch_size=16)
    outcome = training.fit(rare, images[1], NAMES, settings)
    best = presets.PRESETS["best"]
    assert np.bincount(taken["labels"]).tolist() == np.bincount(dataset.balanced(rare, best.balance).labels).tolist()
    assert len(taken["labels"]) > len(rare.labels)
    assert taken["plan"].disturbances == best.disturbances != presets.PRESETS["fast"].disturbances
    assert len([layer for layer in outcome.network.layers if layer.name.startswith("logits")]) == 3


def test_a_damaged_state_is_reported_and_not_used(tmp_path, caplog):
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.restore(2) is None
    checkpoint.save([[np.ones(3)], []], [])
    assert checkpoint.restore(2) is not None
    content = (tmp_path / "state.npz").read_bytes()
    (tmp_path / "state.npz").write_bytes(content[: len(content) // 2])
    with caplog.at_level(logging.WARNING):
        assert checkpoint.restore(2) is None
    assert "state.npz" in caplog.text


def test_runs_share_a_state_only_if_nothing_between_them_differs(images):
    known = training.identity(*images, NAMES, SETTINGS)
    assert training.identity(*images, NAMES, SETTINGS) == known
    learnt, judged = images
    changes = {
        "preset": "standard", "epochs": 4, "batch_size": 32, "learning_rate": 0.02, "seed": 2, "patience": 1,
        "precision": "mixed_bfloat16",
    }  # fmt: skip
    assert set(changes) == set(asdict(SETTINGS))
    others = [
        *(training.identity(*images, NAMES, replace(SETTINGS, **{name: value})) for name, value in changes.items()),
        training.identity(*images, NAMES[::-1], SETTINGS),
        training.identity(signs(96, seed=3), judged, NAMES, SETTINGS),
        training.identity(replace(learnt, labels=learnt.labels[::-1]), judged, NAMES, SETTINGS),
        training.identity(learnt, signs(48, seed=3), NAMES, SETTINGS),
        training.identity(learnt, replace(judged, labels=judged.labels[::-1]), NAMES, SETTINGS),
    ]
    others.append(training.identity(*images, NAMES, SETTINGS, replicas=2))
    assert len({known, *others}) == len(others) + 1


def test_other_code_or_another_version_is_another_run(images, monkeypatch, tmp_path):
    known = training.identity(*images, NAMES, SETTINGS)
    monkeypatch.setattr(training.keras, "__version__", "0")
    assert training.identity(*images, NAMES, SETTINGS) != known
    monkeypatch.undo()
    package = Path(training.__file__).parent
    # Whatever decides what a network becomes, from its layers to its augmentation.
    decisive = ("trainer", "lenet", "layers", "augmentation", "dataset", "presets", "machines")
    assert {f"{name}.py" for name in decisive} <= set(training._CODE)
    for name in training._CODE:
        (tmp_path / name).write_bytes((package / name).read_bytes())
    monkeypatch.setattr(training, "__file__", str(tmp_path / "training.py"))
    assert training.identity(*images, NAMES, SETTINGS) == known
    for name in training._CODE:
        (tmp_path / name).write_bytes((package / name).read_bytes() + b"#")
        assert training.identity(*images, NAMES, SETTINGS) != known
        (tmp_path / name).write_bytes((package / name).read_bytes())


def test_a_finished_run_leaves_no_state(channels):
    assert run("--epochs", "1", "--checkpoint-dir", str(channels / "checkpoints")) == 0
    assert [path.stat().st_size for path in (channels / "checkpoints").rglob("*.npz")] == [0]


def test_an_epoch_shows_each_image_once_and_the_next_in_another_order(images, monkeypatch):
    plan = dataset.Plan(32, epochs=2, seed=1, disturbances=None)
    stream = list(dataset.stream(images[0], NAMES, plan).as_numpy_iterator())
    known = [image.tobytes() for image in images[0].pixels]
    order = [known.index(image.tobytes()) for batch, _ in stream for image in batch]
    first, second = order[:96], order[96:]
    assert sorted(first) == sorted(second) == list(range(96))
    assert len({tuple(first), tuple(second), tuple(range(96))}) == 3
    assert [label for _, labels in stream for label in labels] == [images[0].labels[index] for index in order]


def test_each_epoch_writes_one_line_with_the_time_that_is_left(images, caplog):
    with caplog.at_level(logging.INFO, logger=training.__name__):
        outcome = training.fit(*images, NAMES, replace(SETTINGS, epochs=2))
    number = r"([0-9.]+)"
    pattern = (
        f"epoch (\\d+)/2 loss {number} accuracy {number} validation_loss {number} validation_accuracy {number} "
        f"images/s {number} eta {number}s"
    )
    found = [re.fullmatch(pattern, record.message) for record in caplog.records]
    assert [int(match[1]) for match in found] == [1, 2]
    assert float(found[1][5]) == pytest.approx(outcome.history[1].validation_accuracy, abs=1e-4)
    assert float(found[0][7]) == pytest.approx(outcome.history[0].seconds, abs=0.5)
    assert float(found[1][7]) == 0


def test_sagemakers_metric_definitions_read_each_number_from_that_line(caplog):
    loaded = settings.load()
    text = definitions.render(loaded, clouds.offline(loaded))[loaded.training_pipeline]
    steps = {step["Name"]: step["Arguments"] for step in json.loads(text)["Steps"]}
    scraped = steps["TrainLeNet"]["AlgorithmSpecification"]["MetricDefinitions"]
    with caplog.at_level(logging.INFO, logger=training.__name__):
        training._report([training.Epoch(1, 1.25, 0.5, 0.75, 0.875, 900, 10)], 3)
    found = {each["Name"]: re.findall(each["Regex"], caplog.records[-1].message) for each in scraped}
    told = {"loss": "1.2500", "accuracy": "0.5000", "validation_loss": "0.7500", "validation_accuracy": "0.8750"}
    assert found == {name: [number] for name, number in told.items()}


def test_an_epoch_in_which_the_machine_slept_does_not_spoil_the_time_that_is_left(caplog):
    history = [training.Epoch(number, 1, 1, 1, 1, 1, seconds) for number, seconds in enumerate((9000, 30, 32), 1)]
    with caplog.at_level(logging.INFO, logger=training.__name__):
        training._report(history, 8)
    assert caplog.records[-1].message.endswith("eta 160s")


def test_a_long_epoch_tells_how_far_it_is(images, monkeypatch, caplog):
    """Three calls of ten seconds each make an epoch: after the first of epoch 2 of 3, five are left."""
    learner = trainer.Trainer(
        presets.PRESETS["lenet5"], trainer.Options(3, 16, 0.01), 3, 6, tf.distribute.get_strategy()
    )
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(trainer, "_STEPS_AT_ONCE", 2)
    monkeypatch.setattr(trainer, "_SILENCE", 9.0)
    stream = training._stream(images[0], NAMES, dataset.Plan(16, 1, 1, None), 0, tf.distribute.get_strategy())
    with caplog.at_level(logging.INFO, logger=trainer.__name__):
        learner.epoch(stream, 2)
    told = [record.message for record in caplog.records]
    assert told == [f"epoch 2 step {done}/6 eta {left}s" for done, left in ((2, 50), (4, 40), (6, 30))]


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


def test_a_training_that_diverges_stops_and_says_where(channels, capsys):
    assert run("--learning-rate", "1e30") == 1
    assert re.search(r"loss is no number since epoch \d+, step \d+: .*--learning-rate", failure(channels, capsys))


def test_a_training_that_learns_nothing_stops_and_says_so(channels, capsys):
    """Far too high a rate, and yet no loss that is no number: hours of it would lead to nothing."""
    assert run("--learning-rate", "30", "--epochs", "40") == 1
    reason = failure(channels, capsys)
    assert re.search(
        r"after epoch \d+ the loss is .*, and guessing one of 3 classes .* 1\.099: .*--learning-rate", reason
    )


def test_nobody_is_hurried_in_the_first_quarter():
    def history(*losses):
        return [training.Epoch(number, loss, 0, 1, 0, 0, 0) for number, loss in enumerate(losses, 1)]

    training._require_learning(history(9.0, 9.0), 4, 43)
    training._require_learning(history(*[9.0] * 10), 40, 43)
    training._require_learning(history(9.0, 9.0, 3.7), 4, 43)
    for hopeless in (history(9.0, 9.0, 3.8), history(*[9.0] * 11)):
        with pytest.raises(StepError, match=r"guessing one of 43 classes would make it 3\.761"):
            training._require_learning(hopeless, 4 if len(hopeless) == 3 else 40, 43)


def test_weights_that_break_in_the_last_step_are_not_exported(channels, capsys, monkeypatch):
    monkeypatch.setattr(training, "judge", lambda *_: (float("nan"), 0.3))
    assert run("--epochs", "1") == 1
    assert "the validation loss is no number after epoch 1" in failure(channels, capsys)


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
    [("--epochs", "1.5"), ("--batch-size", "-1"), ("--learning-rate", "nan"), ("--seed", "-1"), ("--preset", "worst")],
    ids=" ".join,
)
def test_hyperparameters_out_of_range_are_refused_by_name(channels, capsys, option):
    with pytest.raises(SystemExit, match="2"):
        run(*option)
    assert f"argument {option[0]}" in capsys.readouterr().err


def test_help_is_complete_and_needs_no_tensorflow():
    script = Path(train.__file__)
    code = (
        "import runpy, sys; sys.modules['tensorflow'] = None; sys.argv = ['train.py', '--help']; "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=script.parent, check=True)
    for option in ("--train-dir", "--validation-dir", "--model-dir", "--checkpoint-dir", "--preset", "--seed"):
        assert option in shown.stdout
