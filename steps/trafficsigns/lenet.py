"""The networks: the LeNet-5 that this project began with, and the multi-scale LeNet that replaced it.

Both take images as they are stored (values 0 to 255) and normalise them inside, so that nobody who calls a network can
normalise differently, and both return logits: calibration and softmax belong to the export.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf
from keras import layers

from trafficsigns.images import SIDE

_BLOCKS = ((32, 5), (64, 5), (128, 3), (128, 3))
"""Filters and kernel side of the multi-scale network's convolutions."""

_JOINED_SIDE = 4
"""Largest side of a feature map that the classifier sees; larger ones are pooled to it."""

_MOMENTUM = 0.9
"""Of the averages that batch normalisation keeps: quick enough for a run of a few hundred steps."""


class Standardise(layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Give every image zero mean and unit variance, so that night and noon look alike to the network.

    Takes uint8 or float ``[n, height, width, 3]``; returns float32 of the same shape. An image of one single value
    becomes zeros. It has no weights.
    """

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Standardise each image over all of its pixels and channels."""
        return tf.image.per_image_standardization(tf.cast(images, tf.float32))


def lenet5(classes: int) -> keras.Model:
    """Build LeNet-5 with average pooling: 64,811 parameters for 43 classes.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86 (1998), with ReLU
    instead of tanh and full instead of sparse connections.
    """
    images = keras.Input((SIDE, SIDE, 3), name="images")
    x = Standardise()(images)
    for filters in (6, 16):
        x = layers.Conv2D(filters, 5, activation="relu")(x)
        x = layers.AveragePooling2D(2)(x)
    x = layers.Flatten()(x)
    for units in (120, 84):
        x = layers.Dense(units, activation="relu")(x)
    return keras.Model(images, layers.Dense(classes, name="logits")(x), name="lenet5")


def multiscale(classes: int) -> keras.Model:
    """Build a LeNet whose classifier sees the features of every scale: below one million parameters.

    A learned 1x1 colour transform, then four blocks of convolution, max pooling, batch normalisation and ReLU.

    Sources: Sermanet and LeCun, "Traffic sign recognition with multi-scale convolutional networks", IJCNN 2011
    (features of all scales into the classifier); Mishkin et al., "Systematic evaluation of CNN advances on the
    ImageNet", CVIU 161 (2017) (learned colour transform).
    """
    images = keras.Input((SIDE, SIDE, 3), name="images")
    x = Standardise()(images)
    x = layers.Conv2D(8, 1, activation="leaky_relu", name="colour")(x)
    scales = []
    for filters, kernel in _BLOCKS:
        x = _block(x, filters, kernel)
        coarse = layers.MaxPooling2D(x.shape[1] // _JOINED_SIDE)(x) if x.shape[1] > _JOINED_SIDE else x
        scales.append(layers.Flatten()(coarse))
    x = layers.Dropout(0.5)(layers.Concatenate()(scales))
    x = layers.Dense(128, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=_MOMENTUM)(x))
    x = layers.Dropout(0.5)(x)
    return keras.Model(images, layers.Dense(classes, name="logits")(x), name="multiscale")


def _block(x: keras.KerasTensor, filters: int, kernel: int) -> keras.KerasTensor:
    # Pooling comes first because normalisation and ReLU then work on a quarter of the values; with the maximum, and
    # scales that stay positive, the result is the same.
    x = layers.Conv2D(filters, kernel, padding="same", use_bias=False)(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.BatchNormalization(momentum=_MOMENTUM)(x)
    return layers.ReLU()(x)


ARCHITECTURES: dict[str, Callable[[int], keras.Model]] = {"multiscale": multiscale, "lenet5": lenet5}
"""What can be trained, by name."""


def build(architecture: str, classes: int) -> keras.Model:
    """Build a network with fresh weights.

    It takes uint8 or uint8-valued float ``[n, 32, 32, 3]`` and returns float32 logits ``[n, classes]``. Raises
    ``ValueError`` on a name that is not in ``ARCHITECTURES``.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"no architecture {architecture!r}: choose one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[architecture](classes)
