"""A preset is what the table says: its repetition, schedule, averages, precision and order."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from three_signs import CLASSES, SETTINGS

from trafficsigns import dataset, presets, trainer, training

pytest_plugins = ["three_signs"]


@pytest.mark.parametrize(("exponent", "expected"), [(0.0, [2, 8, 32]), (0.5, [8, 16, 32]), (1.0, [32, 32, 32])])
def test_rare_classes_are_repeated_as_far_as_asked_and_each_image_alike(exponent, expected):
    labels = np.repeat([0, 1, 2], [2, 8, 32])
    found = dataset.shown(labels, exponent)
    assert np.bincount(labels[found]).tolist() == expected
    repeated = np.bincount(found)
    for label in range(3):
        assert np.ptp(repeated[labels == label]) <= 1


def test_a_class_without_images_stays_without_when_balanced():
    labels = np.array([0, 2, 2, 2, 2])
    assert np.bincount(labels[dataset.shown(labels, 0.5)]).tolist() == [2, 0, 4]


def test_the_rate_falls_as_a_cosine():
    rate = trainer._optimizer(trainer.Options(3, 16, 0.01), 1000)._learning_rate
    told = [float(rate(step)) for step in (0, 333, 500, 1000)]
    assert told == pytest.approx([0.01, 0.0075, 0.005, 0], abs=1e-5)


def test_the_loss_wants_nine_tenths_of_the_right_class_and_shares_the_rest():
    """Worked by hand: logits 2, 0, 0 say 0.787, 0.107, 0.107, and wanted are 0.933, 0.033, 0.033."""
    learner = trainer.Trainer(
        presets.PRESETS["lenet5"], trainer.Options(1, 16, 0.01), 3, 6, tf.distribute.get_strategy()
    )
    loss = learner._loss(tf.constant([[1.0, 0.0, 0.0]]), tf.constant([[2.0, 0.0, 0.0]]))
    assert float(loss) == pytest.approx(0.93333 * 0.23955 + 2 * 0.03333 * 2.23955, abs=1e-4)


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
    outcome = training.fit(*images, CLASSES, replace(SETTINGS, precision=precision, epochs=4))
    assert outcome.history[-1].validation_accuracy > 0.8, "and an eighth of the labels is wrong"
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
    before = [np.asarray(variable) for variable in learner.averaged.trainable_variables]
    stream = training._stream(images[0], np.arange(96), plan, 0, alone)
    # Loss scaling begins so high that float16's first steps may overflow; it leaves them out, as it should.
    losses = [learner.epoch(stream, 1)[0] for _ in range(3)]
    assert np.all(np.isfinite(losses))
    moved = zip(before, learner.averaged.trainable_variables, strict=True)
    assert any(np.any(old != variable) for old, variable in moved if "conv" in variable.path)


def test_a_preset_is_trained_by_its_own_recipe(images, monkeypatch):
    """The table says how rare classes are repeated and what augmentation does; nothing else tells the loop."""
    taken = {}
    stream = training._stream

    def noted(learnt, places, plan, *more):
        taken.update(labels=learnt.labels[places], plan=plan)
        return stream(learnt, places, plan, *more)

    monkeypatch.setattr(training, "_stream", noted)
    chosen = np.append(
        np.flatnonzero(images[0].labels == 0), [np.argmax(images[0].labels == label) for label in (1, 2)]
    )
    rare = dataset.Images(images[0].pixels[chosen], images[0].labels[chosen])
    settings = training.Hyperparameters.of("best", 1, epochs=1, batch_size=16)
    outcome = training.fit(rare, images[1], CLASSES, settings)
    best = presets.PRESETS["best"]
    expected = rare.labels[dataset.shown(rare.labels, best.balance)]
    assert np.bincount(taken["labels"]).tolist() == np.bincount(expected).tolist()
    assert len(taken["labels"]) > len(rare.labels)
    assert taken["plan"].disturbances == best.disturbances != presets.PRESETS["fast"].disturbances
    assert len([layer for layer in outcome.network.layers if layer.name.startswith("logits")]) == 3


def test_an_epoch_shows_an_image_as_often_as_its_place_is_named_and_no_other():
    """Beside its own label; 12 images, of which one is left out and one comes three times."""
    pixels = np.zeros((12, 32, 32, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(12)
    places = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10])
    plan = dataset.Plan(13, epochs=1, seed=1, disturbances=None)
    ((batch, labels),) = dataset.stream(dataset.Images(pixels, np.arange(12) % 3), places, plan)
    assert sorted(batch[:, 0, 0, 0].numpy()) == places.tolist()
    assert (batch[:, 0, 0, 0] % 3).numpy().tolist() == labels.numpy().tolist()


def test_the_pieces_of_a_batch_are_the_batch(images):
    """In order, which is how processors share it, and augmented alike."""
    plan = dataset.Plan(32, epochs=1, seed=1, disturbances=presets.PRESETS["standard"].disturbances)
    whole, *pieces = (
        list(dataset.stream(images[0], np.arange(96), plan, 0, share).as_numpy_iterator())
        for share in ((0, 1), (0, 2), (1, 2))
    )
    for batch, *halves in zip(whole, *pieces, strict=True):
        for together, parts in zip(batch, zip(*halves, strict=True), strict=True):
            np.testing.assert_array_equal(together, np.concatenate(parts))


def test_an_epoch_shows_each_image_once_and_the_next_in_another_order(images):
    plan = dataset.Plan(32, epochs=2, seed=1, disturbances=None)
    stream = list(dataset.stream(images[0], np.arange(96), plan).as_numpy_iterator())
    known = [image.tobytes() for image in images[0].pixels]
    order = [known.index(image.tobytes()) for batch, _ in stream for image in batch]
    first, second = order[:96], order[96:]
    assert sorted(first) == sorted(second) == list(range(96))
    assert len({tuple(first), tuple(second), tuple(range(96))}) == 3
    assert [label for _, labels in stream for label in labels] == [images[0].labels[index] for index in order]
