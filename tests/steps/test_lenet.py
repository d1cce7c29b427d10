import numpy as np
import pytest
import tensorflow as tf

from trafficsigns import lenet


def test_lenet5_is_the_network_the_project_began_with():
    network = lenet.build("lenet5", 43)
    shapes = [tuple(weight.shape) for weight in network.weights if len(weight.shape) > 1]
    assert shapes == [(5, 5, 3, 6), (5, 5, 6, 16), (400, 120), (120, 84), (84, 43)]
    assert network.count_params() == 64_811


def test_multiscale_stays_below_a_million_parameters_and_joins_every_scale():
    network = lenet.build("multiscale", 43)
    assert network.count_params() < 1_000_000
    joined = next(layer for layer in network.layers if "concatenate" in layer.name)
    assert len(joined.input) == 4


@pytest.mark.parametrize("architecture", lenet.ARCHITECTURES)
def test_bytes_and_floats_of_the_same_values_give_the_same_logits(architecture):
    images = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    network = lenet.build(architecture, 7)
    logits = network(tf.constant(images)).numpy()
    assert logits.shape == (4, 7)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, network(tf.constant(images.astype(np.float32))).numpy())
    assert logits.sum(axis=1) != pytest.approx(1.0), "these are logits, not probabilities"


@pytest.mark.parametrize("architecture", lenet.ARCHITECTURES)
def test_every_trainable_weight_gets_a_gradient(architecture):
    network = lenet.build(architecture, 5)
    images = tf.random.stateless_uniform((8, 32, 32, 3), (1, 2), 0, 255)
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
    standardise = lenet.Standardise()
    np.testing.assert_allclose(standardise(night), standardise(3.0 * night + 20.0), atol=1e-4)
    assert not np.any(standardise(tf.fill((1, 32, 32, 3), 9.0))), "an image of one value has no contrast to stretch"


def test_an_unknown_architecture_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="multiscale, lenet5"):
        lenet.build("resnet", 43)
