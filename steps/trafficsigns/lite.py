"""The model for LiteRT (once TensorFlow Lite), which serves in a fraction of TensorFlow's memory and time to start.

LiteRT decodes no pictures and has no operation for anti-aliased resizing. Whoever serves the model decodes; resizing is
written here as two products of matrices. That is a second implementation of ``images.resize``: it gives the same pixels
but for ties in rounding, which may end one step of 255 apart.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import tensorflow as tf

from trafficsigns.images import SIDE

Answer = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def convert(answer: Answer, trackable: tf.Module) -> bytes:
    """Convert a function of pixels ``[n, 32, 32, 3]`` to a LiteRT model that takes images of any one size.

    Its only signature is ``serving_default``, its input ``image_bytes``: uint8 ``[n, height, width, 3]``, decoded. The
    name is that of the SavedModel's input, so that one client serves both. ``trackable`` holds what ``answer`` reads.
    """

    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(resize(image_bytes))

    module = tf.Module()
    module.inner = trackable
    module.serve = tf.function(serve, [tf.TensorSpec([None, None, None, 3], tf.uint8, name="image_bytes")])
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
        converted: bytes = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    return converted


def resize(pixels: tf.Tensor) -> tf.Tensor:
    """Resize images of one size to the network's side.

    Takes uint8 ``[n, height, width, 3]``; returns float32 ``[n, 32, 32, 3]`` of whole values 0 to 255.
    """
    shape = tf.shape(pixels)
    count, height, width = shape[0], shape[1], shape[2]
    columns = tf.reshape(tf.cast(pixels, tf.float32), (count, height, width * 3))
    rows = tf.reshape(tf.matmul(_weights(height), columns), (count, SIDE, width, 3))
    sideways = tf.reshape(tf.transpose(rows, (0, 2, 1, 3)), (count, width, SIDE * 3))
    resized = tf.reshape(tf.matmul(_weights(width), sideways), (count, SIDE, SIDE, 3))
    return tf.round(tf.transpose(resized, (0, 2, 1, 3)))


def _weights(size: tf.Tensor) -> tf.Tensor:
    """Return ``[32, size]``: how much each pixel of a side has in each of the resized side's.

    The triangle kernel of ``tf.image.resize(..., "bilinear", antialias=True)``, as wide as the side shrinks.
    """
    scale = tf.cast(size, tf.float32) / SIDE
    centres = (tf.range(SIDE, dtype=tf.float32) + 0.5) * scale
    pixels = tf.cast(tf.range(size), tf.float32) + 0.5
    distances = tf.abs(pixels[None, :] - centres[:, None]) / tf.maximum(scale, 1.0)
    weights = tf.maximum(0.0, 1.0 - distances)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)
