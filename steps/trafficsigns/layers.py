"""Layers that Keras lacks: looking at images as eyes do, whatever the light and the angle."""

from __future__ import annotations

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers

_WINDOW = 5
"""Side of the window of a local mean; it is applied twice, so that what is near counts more."""

_FLOOR = 1.0
"""Grey levels, squared, below which a difference is noise."""


class Standardise(layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Give every image zero mean and unit variance, so that night and noon look alike to the network.

    Takes uint8 or float ``[n, height, width, 3]``; returns float32 of the same shape. An image of one single value
    becomes zeros. It has no weights. Source: LeCun et al., "Efficient BackProp", 1998.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(dtype="float32", name=name)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Standardise each image over all of its pixels and channels."""
        return tf.image.per_image_standardization(tf.cast(images, tf.float32))


class LocalContrast(layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Measure how much lighter each pixel is than its surroundings, in units of how much they vary.

    Takes uint8 or float ``[n, height, width, 3]``; returns float32 ``[n, height, width, 1]``. A sign half in the shade
    keeps its drawing. It has no weights. Source: Jarrett et al., "What is the best multi-stage architecture for object
    recognition?", ICCV 2009.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(dtype="float32", name=name)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Subtract the local mean of the grey values and divide by their local deviation."""
        grey = tf.reduce_mean(tf.cast(images, tf.float32), axis=-1, keepdims=True)
        difference = grey - local_mean(grey)
        deviation = tf.sqrt(local_mean(difference**2) + _FLOOR)
        # Where nothing is to be seen, the typical deviation of the image keeps noise small.
        return difference / tf.maximum(deviation, tf.reduce_mean(deviation, axis=(1, 2, 3), keepdims=True))


def local_mean(values: tf.Tensor) -> tf.Tensor:
    """Average over a window, which is smaller at the edges, twice: float32 ``[n, height, width, 1]`` to the same."""
    # Pooling of a single channel keeps no processor busy: as a product of matrices the same mean takes a tenth of it.
    _, height, width, _ = values.shape
    rows = tf.reshape(values, (-1, width)) @ _windows(width)
    columns = tf.transpose(tf.reshape(rows, (-1, height, width)), (0, 2, 1))
    means = tf.reshape(tf.reshape(columns, (-1, height)) @ _windows(height), (-1, width, height))
    return tf.transpose(means, (0, 2, 1))[..., None]


def _windows(side: int) -> npt.NDArray[np.float32]:
    """Return ``[side, side]``: in each column how much every pixel of a line counts in one pixel's mean."""
    distances = np.abs(np.subtract.outer(np.arange(side), np.arange(side)))
    once = (distances <= _WINDOW // 2).astype(np.float64)
    once /= once.sum(axis=0)  # at the edges the window is smaller
    return (once @ once).astype(np.float32)


class Straighten(layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Fetch each image anew through an affine map of its own; what lies outside repeats the edge.

    Takes float32 ``[n, side, side, channels]`` and ``[n, 6]``, by how much the map differs from no change, in half
    sides; returns the images' shape. Differentiable in both. It is the sampler of Jaderberg et al., "Spatial
    transformer networks", NeurIPS 2015.
    """

    _IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    _STRIDE = 0.25  # how far one unit of the network's output moves the map

    def __init__(self, name: str | None = None) -> None:
        super().__init__(dtype="float32", name=name)

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Interpolate between the four pixels around each place."""
        images, changes = inputs
        side, channels = images.shape[1], images.shape[-1]
        places = _places(tf.constant(self._IDENTITY) + self._STRIDE * changes, side)
        corner = tf.minimum(tf.floor(places), side - 2.0)
        right, down = tf.unstack((places - corner)[..., None], axis=1)
        # One look-up for the four neighbours, laid side by side beforehand, is cheaper than four.
        padded = tf.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)))
        four = [padded[:, y : side + y, x : side + x] for y in (0, 1) for x in (0, 1)]
        table = tf.reshape(tf.concat(four, axis=-1), (-1, side * side, 4 * channels))
        # A place that is no number must find some pixel: the result is NaN all the same, and the loss tells of it.
        index = tf.maximum(tf.cast(corner[:, 1] * side + corner[:, 0], tf.int32), 0)
        here, beside, below, across = tf.split(tf.gather(table, index, batch_dims=1), 4, axis=-1)
        upper, lower = here + (beside - here) * right, below + (across - below) * right
        return tf.reshape(upper + (lower - upper) * down, (-1, side, side, channels))

    def compute_output_shape(self, shapes: tuple[tuple[int | None, ...], ...]) -> tuple[int | None, ...]:
        """Return the images' shape."""
        return tuple(shapes[0])


def _places(maps: tf.Tensor, side: int) -> tf.Tensor:
    # Returns [n, 2, side * side], column and row where each pixel of the result is fetched, inside the image.
    line = tf.linspace(-1.0, 1.0, side)
    down, right = tf.meshgrid(line, line, indexing="ij")
    grid = tf.stack([tf.reshape(right, [-1]), tf.reshape(down, [-1]), tf.ones(side * side)])
    places = (tf.reshape(maps, (-1, 2, 3)) @ grid + 1.0) * ((side - 1) / 2)
    return tf.clip_by_value(places, 0.0, side - 1.0)


def normalisation(name: str) -> keras.layers.Layer:
    """Return batch normalisation whose averages follow quickly enough for a run of a few hundred steps.

    Where several processors share a batch it takes the statistics of the whole batch, so that their number does not
    change what is learned. Source: Ioffe and Szegedy, "Batch normalization", ICML 2015.
    """
    shared = tf.distribute.get_strategy().num_replicas_in_sync > 1
    return layers.BatchNormalization(momentum=0.9, synchronized=shared, name=name)
