"""The model archive: a SavedModel that takes encoded images and answers with names and calibrated probabilities.

Decoding, resizing, normalising, calibration, top five and labels are all in the graph, because the serving image has
nothing but the standard library around it, and because two implementations would disagree. For servers that are not
AWS's image the same network lies beside it as a LiteRT model (``lite.py``).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from trafficsigns import images, lenet, lite, signatures
from trafficsigns.failures import StepError

TOP = 5
"""How many classes an answer ranks, or all of them where there are fewer."""

_VERSION = "1"


class Classifier:
    """A trained network with everything that lies between a client's bytes and its answer."""

    def __init__(self, network: keras.Model, names: Sequence[str], temperature: float) -> None:
        self.network = network
        self._top = min(TOP, len(names))
        self._names = tf.constant(list(names))
        self._temperature = tf.constant(temperature, tf.float32)
        encoded = [tf.TensorSpec([None], tf.string, name=signatures.IMAGES)]
        self.signature = tf.function(self.classify, encoded)
        self._stages = lenet.stages(network)
        self.explanation = tf.function(self.explain, encoded)

    def trackable(self) -> tf.Module:
        """Return what ``tf.saved_model.save`` needs to find the weights.

        These are TensorFlow's variables, not the Keras network that wraps them: of the wrappers TensorFlow would store
        copies, and restore these instead of the variables that the signature reads. Python's loader sees through
        that, TensorFlow Serving's does not, and its first request fails with "Could not find variable".
        """
        module = tf.Module()
        module.weights = [variable.value for variable in self.network.weights]
        module.classify, module.explain = self.signature, self.explanation
        return module

    def classify(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answer for encoded images, string ``[n]``; any size, PNG, JPEG or GIF.

        Raises ``tf.errors.InvalidArgumentError`` if one of them is no such image, or if there is none at all.
        """
        return self.answer(_pixels(image_bytes))

    def answer(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answer for decoded images of the network's size, ``[n, 32, 32, 3]`` with values 0 to 255."""
        probabilities = tf.nn.softmax(self.network(pixels, training=False) / self._temperature)
        best, ids = tf.math.top_k(probabilities, k=self._top)
        names = tf.gather(self._names, ids)
        return {
            "probabilities": probabilities,
            "class_id": tf.cast(ids[:, 0], tf.int64),
            "class_name": names[:, 0],
            "probability": best[:, 0],
            "top_class_ids": tf.cast(ids, tf.int64),
            "top_class_names": names,
            "top_probabilities": best,
        }

    def explain(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answer with the feature maps of each stage, ``[n, height, width, channels]``, and the first filters."""
        kernel = tf.identity(self.network.get_layer("conv1").kernel)
        return {**self._stages(_pixels(image_bytes), training=False), signatures.FILTERS: kernel}


def _pixels(image_bytes: tf.Tensor) -> tf.Tensor:
    # Without this, an empty batch would fail too, but inside a convolution and with a message about its depth.
    some = tf.debugging.assert_positive(tf.size(image_bytes), "image_bytes is empty: send at least one image")
    with tf.control_dependencies([some]):
        return tf.map_fn(
            lambda encoded: images.resize(images.decode(encoded)),
            image_bytes,
            fn_output_signature=tf.TensorSpec((images.SIDE, images.SIDE, 3), tf.uint8),
        )


def require(handler: Path) -> None:
    """Raise ``StepError`` if the endpoint's handler is missing."""
    if not handler.is_file():
        raise StepError(f"no {handler}: the step's code must bring the endpoint's handler with it")


def prepare(directory: Path) -> None:
    """Make the archive's folder; raises ``OSError``, with the place, where nothing could be written into it."""
    part = _part(directory)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    part.rmdir()


def _part(directory: Path) -> Path:
    return directory / f".{_VERSION}.part"


def write_archive(classifier: Classifier, record: Mapping[str, Any], handler: Path, directory: Path) -> None:
    """Write what SageMaker packs as ``model.tar.gz`` and TensorFlow Serving opens: ``1/`` and ``code/inference.py``.

    ``record`` becomes ``1/assets.extra/training.json``, and the model for LiteRT ``1/assets.extra/model.tflite``. All
    is written beside its place and renamed last. Raises ``StepError`` if the endpoint's ``handler`` is missing, before
    anything is written, and if the archive cannot be written; no half of ``1/`` is left then.
    """
    require(handler)
    prepare(directory)
    try:
        _write(classifier, record, handler, directory)
    except (tf.errors.OpError, OSError) as error:
        shutil.rmtree(_part(directory), ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) else error.message
        raise StepError(f"the archive in {directory} cannot be written: {reason}") from error


def _write(classifier: Classifier, record: Mapping[str, Any], handler: Path, directory: Path) -> None:
    part = _part(directory)
    answering = {signatures.SERVING: classifier.signature, signatures.EXPLAIN: classifier.explanation}
    tf.saved_model.save(classifier.trackable(), str(part), signatures=answering)
    extra = part / "assets.extra"
    extra.mkdir()
    (extra / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    (extra / "model.tflite").write_bytes(lite.convert(classifier.answer, classifier.trackable()))
    _write_warm_up(extra / "tf_serving_warmup_requests")
    (directory / "code").mkdir(exist_ok=True)
    shutil.copyfile(handler, directory / "code" / "inference.py")
    shutil.rmtree(directory / _VERSION, ignore_errors=True)
    part.rename(directory / _VERSION)


def _write_warm_up(path: Path) -> None:
    # TensorFlow Serving answers this request to itself before it calls the model available, so that no client pays for
    # the first call. It is a tensorflow.serving.PredictionLog (apis/prediction_log.proto), put together by hand because
    # for its Python classes the training image would need one more package.
    image = tf.io.encode_png(tf.zeros((images.SIDE, images.SIDE, 3), tf.uint8))
    tensor = tf.make_tensor_proto([image.numpy()], tf.string, [1])
    named_input = _field(1, signatures.IMAGES.encode()) + _field(2, tensor.SerializeToString(deterministic=True))
    request = _field(2, named_input)
    predict_log = _field(1, request)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(_field(6, predict_log))


def _field(number: int, payload: bytes) -> bytes:
    # One length-delimited field of a protocol buffer; the length is written in groups of seven bits, lowest first.
    length, rest = bytearray(), len(payload)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([number << 3 | 2]) + bytes(length) + bytes([rest]) + payload
