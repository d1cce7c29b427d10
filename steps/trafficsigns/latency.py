"""How long a model takes for one picture, beside a reference that never changes.

Milliseconds say more about the machine and its other guests than about the model. The reference, LeNet-5 behind the
same decoding, is asked in turn with the model, so whatever slows one slows the other: their ratio is the model's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from trafficsigns import images

WARM_UP, CALLS = 20, 200


@dataclass(frozen=True)
class Latency:
    """Times for a single picture; ``ratio`` compares medians."""

    p50_milliseconds: float
    p99_milliseconds: float
    reference_p50_milliseconds: float
    ratio: float


def reference(classes: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return LeNet-5 with some weights, behind the decoding and resizing that every archive has, as a graph.

    It stands here a second time, apart from what is trained: a measure that changes with the model measures nothing.
    """
    network = keras.Sequential([keras.Input((images.SIDE, images.SIDE, 3)), layers.Rescaling(1 / 255)])
    for filters in (6, 16):
        network.add(layers.Conv2D(filters, 5, activation="relu"))
        network.add(layers.AveragePooling2D(2))
    network.add(layers.Flatten())
    for units in (120, 84):
        network.add(layers.Dense(units, activation="relu"))
    network.add(layers.Dense(classes))

    def answer(encoded: tf.Tensor) -> tf.Tensor:
        pixels = tf.map_fn(
            lambda image: images.resize(images.decode(image)),
            encoded,
            fn_output_signature=tf.TensorSpec((images.SIDE, images.SIDE, 3), tf.uint8),
        )
        return tf.nn.softmax(network(pixels, training=False))

    graph: Callable[[tf.Tensor], tf.Tensor] = tf.function(answer, [tf.TensorSpec([None], tf.string)])
    return graph


def measure(model: Callable[[tf.Tensor], object], other: Callable[[tf.Tensor], object], image: bytes) -> Latency:
    """Time two functions of an encoded picture ``[1]`` in turn."""
    encoded = tf.constant([image])
    times = np.zeros((WARM_UP + CALLS, 2))
    for row in times:
        for column, function in enumerate((model, other)):
            started = time.perf_counter()
            function(encoded)
            row[column] = (time.perf_counter() - started) * 1000.0
    timed = times[WARM_UP:]
    (own, fixed), worst = np.median(timed, axis=0), np.percentile(timed[:, 0], 99)
    return Latency(float(own), float(worst), float(fixed), float(own / fixed))
