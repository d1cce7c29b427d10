from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from trafficsigns import lenet
from trafficsigns.layers import LocalContrast, Standardise, Straighten, local_mean
from trafficsigns.presets import PRESETS


def test_lenet5_is_the_network_the_project_began_with():
    network = lenet.build(PRESETS["lenet5"], 43)
    shapes = [tuple(weight.shape) for weight in network.weights if len(weight.shape) > 1]
    assert shapes == [(5, 5, 3, 6), (5, 5, 6, 16), (400, 120), (120, 84), (84, 43)]
    assert network.count_params() == 64_811
    kinds = [layer for layer in network.layers if not isinstance(layer, (keras.layers.InputLayer, Standardise))]
    stage = ["Conv2D", "ReLU", "AveragePooling2D"]
    assert [type(layer).__name__ for layer in kinds] == [*stage, *stage, "Flatten", "Dense", "Dense", "Dense"]
    assert [layer.activation.__name__ for layer in kinds[-3:]] == ["relu", "relu", "linear"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_network_stays_below_a_million_parameters(preset):
    assert lenet.build(PRESETS[preset], 43).count_params() < 1_000_000


def test_multiscale_joins_every_scale():
    network = lenet.build(PRESETS["standard"], 43)
    assert len(network.get_layer("scales").input) == len(PRESETS["standard"].network.blocks)


def test_a_shape_may_do_without_scales_colour_transform_and_straightening():
    shape = replace(PRESETS["standard"].network, scales=1, colours=0)
    network = lenet.multiscale(shape, 43)
    assert network.get_layer("hidden").input.shape == (None, 2 * 2 * 128), "what the last block ends with"
    assert "colour" not in {layer.name for layer in network.layers}
    assert network.get_layer("conv1").input is network.get_layer("straightened").output
    plain = lenet.multiscale(replace(shape, straighten=False), 43)
    assert plain.get_layer("conv1").input is plain.get_layer("seen").output


@pytest.mark.parametrize("preset", ["standard", "best", "lenet5"])
def test_bytes_and_floats_of_the_same_values_give_the_same_logits(preset):
    images = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    network = lenet.build(PRESETS[preset], 7)
    logits = network(tf.constant(images)).numpy()
    assert logits.shape == (4, 7)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, network(tf.constant(images.astype(np.float32))).numpy())
    assert logits.sum(axis=1) != pytest.approx(1.0), "these are logits, not probabilities"


@pytest.mark.parametrize("preset", ["standard", "best", "lenet5"])
def test_every_trainable_weight_gets_a_gradient(preset):
    network = lenet.build(PRESETS[preset], 5)
    images = tf.random.stateless_uniform((8, 32, 32, 3), (1, 2), 0, 255)
    # What lies before a layer that starts at zero learns from the second step on.
    for number, variable in enumerate(network.trainable_variables):
        if not np.any(variable):
            variable.assign(tf.random.stateless_normal(variable.shape, (number, 2), stddev=0.01))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(8) % 5, network(images)))
    gradients = tape.gradient(loss, network.trainable_variables)
    dead = [
        variable.path
        for variable, gradient in zip(network.trainable_variables, gradients, strict=True)
        if gradient is None or not np.any(gradient)
    ]
    assert dead == []


def test_normalisation_forgives_exposure():
    night = tf.random.stateless_uniform((2, 32, 32, 3), (1, 2), 10, 40)
    standardise = Standardise()
    np.testing.assert_allclose(standardise(night), standardise(3.0 * night + 20.0), atol=1e-4)
    assert not np.any(standardise(tf.fill((1, 32, 32, 3), 9.0))), "an image of one value has no contrast to stretch"


def test_local_contrast_sees_a_drawing_half_in_the_shade():
    drawing = np.indices((32, 32)).sum(axis=0) // 4 % 2 * 40.0 + 60.0
    shaded = drawing * np.where(np.arange(32) < 16, 0.25, 1.0)
    plain, half = (
        LocalContrast()(np.repeat(image[None, :, :, None], 3, -1)).numpy()[0, :, :, 0] for image in (drawing, shaded)
    )
    inside = np.r_[2:8, 24:30]  # away from the border of light and shade, which is contrast too

    def likeness(first, second):
        return np.corrcoef(first[:, inside].ravel(), second[:, inside].ravel())[0, 1]

    assert likeness(drawing, shaded) < 0.5
    assert likeness(plain, half) > 0.85
    assert not np.any(LocalContrast()(np.full((1, 32, 32, 3), 9.0))), "nothing to see"


@pytest.mark.parametrize("shape", [(2, 32, 32, 1), (1, 32, 20, 1), (1, 3, 7, 1)])
def test_local_means_are_those_of_pooling_twice(shape):
    values = tf.random.stateless_uniform(shape, (1, 2), 0, 255)
    pooled = tf.nn.avg_pool2d(tf.nn.avg_pool2d(values, 5, 1, "SAME"), 5, 1, "SAME")
    np.testing.assert_allclose(local_mean(values), pooled, atol=1e-3)


def test_straightening_by_nothing_changes_nothing_and_by_half_a_side_shifts():
    images = tf.random.stateless_uniform((2, 32, 32, 3), (1, 2))
    np.testing.assert_allclose(Straighten()([images, tf.zeros((2, 6))]), images, atol=1e-5)
    # Two units of the third number are half of the half side that the map is measured in: 7.75 pixels.
    shifted = Straighten()([images, tf.constant([[0.0, 0.0, 2.0, 0.0, 0.0, 0.0]] * 2)]).numpy()
    expected = 0.25 * images[:, :, 7:31] + 0.75 * images[:, :, 8:32]
    np.testing.assert_allclose(shifted[:, :, :24], expected, atol=1e-4)
    np.testing.assert_allclose(shifted[:, :, 26:], np.repeat(images[:, :, 31:], 6, axis=2), atol=1e-4)


def test_an_image_straightened_by_what_is_no_number_is_none_either_and_leaves_the_others_alone():
    """So the loss tells of broken weights, and not an index outside of the image."""
    images = tf.random.stateless_uniform((2, 32, 32, 3), (1, 2))
    broken, whole = Straighten()([images, tf.constant([[np.nan] * 6, [0.0] * 6])]).numpy()
    assert np.isnan(broken).all()
    np.testing.assert_allclose(whole, images[1], atol=1e-5)


def test_a_committee_answers_with_the_mean_of_its_columns():
    network = lenet.build(PRESETS["best"], 5)
    images = tf.random.stateless_uniform((2, 32, 32, 3), (1, 2), 0, 255)
    voices = lenet.voices(network)(images)
    assert len(voices) == 3
    assert not np.allclose(voices[0], voices[1])
    np.testing.assert_allclose(network(images), np.mean(voices, axis=0), atol=1e-5)
    assert list(lenet.stages(network).output)[-1] == "17_relu4", "of the first column alone"


def test_a_fresh_network_begins_with_the_image_as_it_is():
    network = lenet.build(PRESETS["standard"], 5)
    change = keras.Model(network.input, network.get_layer("change").output)
    assert not np.any(change(tf.random.stateless_uniform((2, 32, 32, 3), (1, 2), 0, 255)))
