"""What training learns from: the shards in memory, and the stream of batches drawn from them.

A batch is a function of the seed and the step's number alone. Nothing is consumed on the way, so a run is repeated, or
picked up in its middle, by repeating numbers; and several machines share a batch by each making its own part of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trafficsigns import augmentation, records
from trafficsigns.augmentation import Dice
from trafficsigns.failures import StepError
from trafficsigns.presets import Disturbances


@dataclass(frozen=True)
class Images:
    """A split in memory: uint8 ``[n, 32, 32, 3]`` and int64 ``[n]``; 3 KB an image, so all of GTSRB is 120 MB."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """How a split becomes batches."""

    batch_size: int
    """Images in one step, of all machines together."""
    epochs: int
    seed: int
    disturbances: Disturbances | None
    """``None``: images come as they are."""


def read_names(path: Path) -> list[str]:
    """Read the class names, ordered by identifier, from a JSON list.

    Raises ``StepError`` if there is no such file or it holds anything else.
    """
    if not path.is_file():
        raise StepError(f"no {path}: it is written beside the training shards by steps/preprocess.py")
    try:
        names = json.loads(path.read_text())
    except ValueError as error:
        raise StepError(f"{path} is no JSON: {error}; steps/preprocess.py writes it anew") from error
    if not (isinstance(names, list) and len(names) > 1 and all(isinstance(name, str) for name in names)):
        raise StepError(
            f"{path} must be a JSON list of two or more class names, ordered by identifier: "
            "steps/preprocess.py writes it so"
        )
    return names


def load(directory: Path, classes: int) -> Images:
    """Read a split's shards into memory.

    Raises ``StepError`` without shards, without images, on a label that no class has, and where a shard cannot be read.
    """
    try:
        batches = list(records.pixels(directory).batch(1024).as_numpy_iterator())
    except FileNotFoundError as error:
        raise StepError(str(error)) from error
    except tf.errors.OpError as error:
        raise StepError(
            f"{directory} holds a shard that is damaged, of another format or closed to this program: {error.message}; "
            "steps/preprocess.py writes them anew"
        ) from error
    if not batches:
        raise StepError(f"the shards in {directory} hold no image: see the manifest of steps/preprocess.py")
    pixels, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    if labels.min() < 0 or labels.max() >= classes:
        raise StepError(
            f"{directory} holds labels {labels.min()} to {labels.max()}, but labels.json names {classes} classes: "
            "both must come from the same run of steps/preprocess.py"
        )
    return Images(pixels, labels)


def shown(labels: npt.NDArray[np.int64], exponent: float) -> npt.NDArray[np.int64]:
    """Say which images an epoch shows: those of a class ``r`` times rarer than the commonest ``r ** exponent`` times.

    Takes labels ``[n]``; returns places in them, int64 ``[m]``. 0 shows each image once, 1 makes all classes equally
    common. Where images cannot all be repeated alike, those that come once more are spread over the class. Source of
    the square root between the two: Mahajan et al., "Exploring the limits of weakly supervised pretraining", ECCV 2018,
    who sample hashtags so.
    """
    counts = np.bincount(labels)
    wanted = np.round(counts.max() ** exponent * counts ** (1.0 - exponent)).astype(np.int64)
    if np.array_equal(wanted, counts):
        return np.arange(len(labels))
    return np.concatenate(
        [np.flatnonzero(labels == label)[np.arange(wanted[label]) * counts[label] // wanted[label]]
         for label in np.flatnonzero(counts)]
    )  # fmt: skip


def stream(
    images: Images,
    places: npt.NDArray[np.int64],
    plan: Plan,
    skip: int = 0,
    share: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Stream the shuffled, augmented batches of all epochs but the first ``skip``.

    An epoch shows the images at ``places`` (see ``shown``) in an order of its own, and leaves out those that fill no
    batch. A batch is uint8 ``[batch_size / shares, 32, 32, 3]`` and int64 labels; ``share`` is which of how many
    equal pieces of each batch is wanted.
    """
    count, size = len(places), plan.batch_size
    steps = count // size
    pixels, labels, order = tf.constant(images.pixels), tf.constant(images.labels), tf.constant(places)
    seed = tf.constant([plan.seed, 0], tf.int64)
    own = tf.split(tf.range(size, dtype=tf.int64), share[1])[share[0]]

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        key = tf.stack([seed[0], step // steps])
        drawn = tf.random.experimental.index_shuffle((step % steps) * size + own, key, count - 1)
        chosen = tf.gather(order, drawn)
        taken = tf.gather(pixels, chosen)
        if plan.disturbances is not None:
            dice = Dice(tf.random.fold_in(seed, step), size, share)
            taken = augmentation.augment(taken, dice, plan.disturbances)
        return taken, tf.gather(labels, chosen)

    numbers = tf.data.Dataset.range(steps * skip, steps * plan.epochs)
    return numbers.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)
