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
============  =====================================================================
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf

from trafficsigns.failures import StepError
from trafficsigns.images import SIDE

SHARD_SIZE = 4096
"""Records in one shard; the last one of a split holds the rest."""

_FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
    "name": tf.io.FixedLenFeature([], tf.string),
}


def example(image: bytes, label: int, track: str, name: str) -> bytes:
    """Serialise one record; ``image`` is raw pixels or a PNG file, as the table above says."""

    def text(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        "image": text(image),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "track": text(track.encode()),
        "name": text(name.encode()),
    }
    message = tf.train.Example(features=tf.train.Features(feature=features))
    # Protocol buffers keep maps in no fixed order unless asked; the same images must give the same bytes.
    serialized: bytes = message.SerializeToString(deterministic=True)
    return serialized


def write(records: Iterable[bytes], directory: Path) -> int:
    """Write serialised records as shards ``00000.tfrecord``, ``00001.tfrecord``, ... and return how many records.

    Raises ``StepError`` when the folder cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    remaining, count = iter(records), 0
    while (first := next(remaining, None)) is not None:
        path = directory / f"{count // SHARD_SIZE:05d}.tfrecord"
        try:
            with tf.io.TFRecordWriter(str(path)) as writer:
                for record in itertools.chain([first], itertools.islice(remaining, SHARD_SIZE - 1)):
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
