"""TFRecord shards: what preprocessing writes, and training and evaluation read.

Two kinds of record. ``train/`` and ``validation/`` hold pixels ready for the network; ``test/`` holds the images still
encoded, so that evaluation sends them the whole way that a client's bytes go.

============  =====================================================================
feature       content
============  =====================================================================
``image``     train, validation: 3,072 raw bytes, uint8 [32, 32, 3]; test: a PNG file
``label``     int64, the class identifier
``track``     bytes, the physical sign that the frame shows (empty: unknown)
``name``      bytes, the file's name inside the archive
``roi``       float [4], the sign's left, top, right and bottom as shares of the image
============  =====================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import tensorflow as tf

from trafficsigns.failures import StepError
from trafficsigns.images import SIDE

SHARD_SIZE = 4096
"""Records that a shard holds at most; the shards of a split differ by one at most."""

WHOLE = (0.0, 0.0, 1.0, 1.0)
"""The region of interest of an image that is all sign, or of which nothing is known."""

_FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
    "name": tf.io.FixedLenFeature([], tf.string),
}


class Serializer:
    """Turns images into records. One message serves them all: building one anew for each takes three times as long."""

    def __init__(self) -> None:
        self._message = tf.train.Example()
        features = self._message.features.feature
        self._text = {name: features[name].bytes_list.value for name in ("image", "track", "name")}
        self._label, self._roi = features["label"].int64_list.value, features["roi"].float_list.value
        for values in self._text.values():
            values.append(b"")
        self._label.append(0)

    def __call__(self, image: bytes, label: int, track: str, name: str, roi: Sequence[float] = WHOLE) -> bytes:
        """Serialise one record; ``image`` is raw pixels or a PNG file, as the table above says."""
        self._text["image"][0], self._text["track"][0], self._text["name"][0] = image, track.encode(), name.encode()
        self._label[0] = label
        self._roi[:] = roi
        # Protocol buffers keep maps in no fixed order unless asked; the same images must give the same bytes.
        serialized: bytes = self._message.SerializeToString(deterministic=True)
        return serialized


def example(image: bytes, label: int, track: str, name: str, roi: Sequence[float] = WHOLE) -> bytes:
    """Serialise a single record."""
    return Serializer()(image, label, track, name, roi)


def sizes(images: int) -> list[int]:
    """Say how many images go into each shard: as even as can be, none above ``SHARD_SIZE``."""
    count = -(-images // SHARD_SIZE)
    return [images // count + (number < images % count) for number in range(count)]


def write(records: Iterable[bytes], directory: Path, number: int = 0) -> int:
    """Write serialised records as the shard of a number, ``00000.tfrecord``, and return how many there were.

    Raises ``StepError`` when it cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path, count = directory / f"{number:05d}.tfrecord", 0
    try:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(record)
                count += 1
    except tf.errors.OpError as error:
        raise StepError(f"{path} cannot be written: {error.message or type(error).__name__}") from error
    return count


def shards(directory: Path) -> list[str]:
    """List a split's shards in order.

    Raises ``FileNotFoundError`` when there is none, naming the folder: an empty channel must not train an empty model.
    """
    found = sorted(str(path) for path in directory.glob("*.tfrecord"))
    if not found:
        raise FileNotFoundError(f"no .tfrecord shard in {directory}: was it written by steps/preprocess.py?")
    return found


def pixels(directory: Path) -> tf.data.Dataset:
    """Stream a ``train/`` or ``validation/`` folder as pairs (uint8 ``[32, 32, 3]``, int64 label)."""

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        fields = tf.io.parse_single_example(record, _FEATURES)
        image = tf.reshape(tf.io.decode_raw(fields["image"], tf.uint8), (SIDE, SIDE, 3))
        return image, fields["label"]

    return tf.data.TFRecordDataset(shards(directory)).map(parse, num_parallel_calls=tf.data.AUTOTUNE)


def encoded(directory: Path) -> tf.data.Dataset:
    """Stream a ``test/`` folder as triples (string PNG, int64 label, string name)."""

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        fields = tf.io.parse_single_example(record, _FEATURES)
        return fields["image"], fields["label"], fields["name"]

    return tf.data.TFRecordDataset(shards(directory)).map(parse)
