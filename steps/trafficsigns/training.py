"""The training loop: from images in memory to the weights of the best epoch.

Every batch is a function of the seed and the step's number alone. Nothing is consumed on the way, so a run is repeated,
or picked up in its middle, by repeating numbers.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trafficsigns import augmentation, lenet, records
from trafficsigns.checkpoint import Checkpoint, digest
from trafficsigns.failures import StepError

logger = logging.getLogger(__name__)

_WARM_UP = 0.05  # share of all steps over which the learning rate rises
_WEIGHT_DECAY = 0.05
_LABEL_SMOOTHING = 0.1
_SLOWEST_AVERAGE = 0.998
_EVALUATION_BATCH = 512
_CODE = ("training.py", "augmentation.py", "lenet.py")


@dataclass(frozen=True)
class Hyperparameters:
    """What a training run is asked to do."""

    architecture: str
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Images:
    """A split in memory: uint8 ``[n, 32, 32, 3]`` and int64 ``[n]``; 3 KB an image, so all of GTSRB is 120 MB."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images achieved; the validation figures are those of the averaged weights."""

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    images_per_second: float
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """The network with the selected epoch's weights, that epoch's number and the whole course of training."""

    network: keras.Model
    selected_epoch: int
    history: list[Epoch]


def read_names(path: Path) -> list[str]:
    """Read the class names, ordered by identifier, from a JSON list.

    Raises ``StepError`` if there is no such file or it holds anything else.
    """
    if not path.is_file():
        raise StepError(f"no {path}: it is written beside the training shards by steps/preprocess.py")
    try:
        names = json.loads(path.read_text())
    except ValueError as error:
        raise StepError(f"{path} is no JSON: {error}") from error
    if not (isinstance(names, list) and len(names) > 1 and all(isinstance(name, str) for name in names)):
        raise StepError(f"{path} must be a JSON list of two or more class names, ordered by identifier")
    return names


def load(directory: Path, classes: int) -> Images:
    """Read a split's shards into memory.

    Raises ``StepError`` without shards, without images and on a label that no class has.
    """
    try:
        batches = list(records.pixels(directory).batch(1024).as_numpy_iterator())
    except FileNotFoundError as error:
        raise StepError(str(error)) from error
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise StepError(f"{directory} holds a shard that is damaged or of another format: {error.message}") from error
    if not batches:
        raise StepError(f"the shards in {directory} hold no image: see the manifest of steps/preprocess.py")
    pixels, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    if labels.min() < 0 or labels.max() >= classes:
        raise StepError(
            f"{directory} holds labels {labels.min()} to {labels.max()}, but labels.json names {classes} classes: "
            "both must come from the same run of steps/preprocess.py"
        )
    return Images(pixels, labels)


def fit(
    training: Images,
    validation: Images,
    names: list[str],
    settings: Hyperparameters,
    checkpoint: Checkpoint | None = None,
) -> Outcome:
    """Train a network and keep the epoch with the best validation accuracy, at a tie the lowest validation loss.

    Judged and kept are exponential moving averages of the weights (Polyak and Juditsky, SIAM J. Control Optim. 30,
    1992), which are better and calmer than the weights of any single step. With a ``checkpoint`` the state is saved
    after each epoch, and a state found there is continued to the same weights as without the interruption. Raises
    ``StepError`` when the loss is no longer a number.
    """
    keras.utils.set_random_seed(settings.seed)
    batch_size = min(settings.batch_size, len(training.labels))
    steps = len(training.labels) // batch_size
    trainer = Trainer(settings, len(names), steps * settings.epochs)
    history = trainer.restore(checkpoint) if checkpoint else []
    stream = iter(batches(training, names, batch_size, settings, skip=len(history)))
    for number in range(len(history) + 1, settings.epochs + 1):
        started = time.perf_counter()
        loss, accuracy = trainer.epoch(stream, steps, number)
        images_per_second = steps * batch_size / (time.perf_counter() - started)
        validation_loss, validation_accuracy = judge(trainer.averaged, validation)
        seconds = time.perf_counter() - started
        history.append(Epoch(number, loss, accuracy, validation_loss, validation_accuracy, images_per_second, seconds))
        _report(history, settings.epochs)
        if selected(history) == number:
            trainer.keep()
        if checkpoint:
            trainer.save(checkpoint, history)
    return Outcome(trainer.kept(), selected(history), history)


def identity(training: Images, validation: Images, names: list[str], settings: Hyperparameters) -> str:
    """Name a run by a digest of all that decides its outcome: code, data, classes, hyper-parameters and seed."""
    code = [Path(__file__).with_name(name).read_bytes() for name in _CODE]
    options = json.dumps([asdict(settings), names, tf.__version__, keras.__version__]).encode()
    data = (training.pixels, training.labels, validation.pixels, validation.labels)
    return digest([*code, options, *(array.tobytes() for array in data)])


def selected(history: list[Epoch]) -> int:
    """Name the epoch that validation prefers."""
    return max(history, key=lambda epoch: (epoch.validation_accuracy, -epoch.validation_loss)).epoch


def batches(
    images: Images, names: list[str], batch_size: int, settings: Hyperparameters, skip: int = 0
) -> tf.data.Dataset:
    """Stream the shuffled, augmented batches of all epochs but the first ``skip``.

    A batch is uint8 ``[batch_size, 32, 32, 3]`` and int64 ``[batch_size]``. Each epoch has an order of its own and
    leaves out the images that fill no batch.
    """
    steps = len(images.labels) // batch_size
    pixels, labels = tf.constant(images.pixels), tf.constant(images.labels)
    mirrors = tf.constant(augmentation.mirror_table(names), tf.int64)
    seed = tf.constant([settings.seed, 0], tf.int64)

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        slots = (step % steps) * batch_size + tf.range(batch_size, dtype=tf.int64)
        key = tf.stack([seed[0], step // steps])
        chosen = tf.random.experimental.index_shuffle(slots, key, len(images.labels) - 1)
        return augmentation.augment(
            tf.gather(pixels, chosen), tf.gather(labels, chosen), tf.random.fold_in(seed, step), mirrors
        )

    stream = tf.data.Dataset.range(steps * skip, steps * settings.epochs)
    return stream.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


class Trainer:
    """A network in training, beside it the same network with averaged weights, and the best of those so far."""

    def __init__(self, settings: Hyperparameters, classes: int, total_steps: int) -> None:
        self.network = lenet.build(settings.architecture, classes)
        self.averaged = lenet.build(settings.architecture, classes)
        self.averaged.set_weights(self.network.get_weights())
        self._loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=_LABEL_SMOOTHING)
        self._classes = classes
        self._optimizer = _optimizer(settings, total_steps)
        self._optimizer.build(self.network.trainable_variables)
        self._best = self.averaged.get_weights()
        self._step = tf.function(self._train_on)

    def epoch(self, stream: Iterator[tuple[tf.Tensor, tf.Tensor]], steps: int, number: int) -> tuple[float, float]:
        """Take an epoch's steps; return the mean loss and accuracy on the augmented images."""
        sums = np.zeros(2)
        for step in range(steps):
            images, labels = next(stream)
            sums += [float(value) for value in self._step(images, labels)]
            if not math.isfinite(sums[0]):
                raise StepError(
                    f"the loss is no number since epoch {number}, step {step + 1}: try a lower --learning-rate "
                    f"(it is {float(self._optimizer.learning_rate):.2g} at this step)"
                )
        loss, accuracy = sums / steps
        return float(loss), float(accuracy)

    def keep(self) -> None:
        """Remember the averaged weights as the best so far."""
        self._best = self.averaged.get_weights()

    def kept(self) -> keras.Model:
        """Return the averaged network with the best weights."""
        self.averaged.set_weights(self._best)
        return self.averaged

    def save(self, checkpoint: Checkpoint, history: list[Epoch]) -> None:
        """Write everything that the coming steps depend on."""
        state = [np.asarray(variable) for variable in self._state()]
        checkpoint.save([state, self._best], [asdict(epoch) for epoch in history])

    def restore(self, checkpoint: Checkpoint) -> list[Epoch]:
        """Take over a saved state, if there is one, and return the history that led to it."""
        stored = checkpoint.restore(groups=2)
        if stored is None:
            return []
        (state, self._best), history = stored
        for variable, value in zip(self._state(), state, strict=True):
            variable.assign(value)
        logger.info("continuing after epoch %d of an interrupted run", len(history))
        return [Epoch(**epoch) for epoch in history]

    def _state(self) -> list[keras.Variable]:
        # A model's variables, unlike its weights, include the states of the random generators behind dropout.
        return [*self.network.variables, *self.averaged.weights, *self._optimizer.variables]

    def _train_on(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = self.network(images, training=True)
            loss = self._loss(tf.one_hot(labels, self._classes), logits)
        variables = self.network.trainable_variables
        self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        # Early on the average follows quickly, so that it does not remember the random start.
        step = tf.cast(self._optimizer.iterations, tf.float32)
        decay = tf.minimum(_SLOWEST_AVERAGE, (1.0 + step) / (10.0 + step))
        for average, variable in zip(self.averaged.weights, self.network.weights, strict=True):
            average.assign(decay * average + (1.0 - decay) * variable)
        return loss, tf.reduce_mean(tf.cast(tf.argmax(logits, 1) == labels, tf.float32))


def _optimizer(settings: Hyperparameters, total_steps: int) -> keras.optimizers.Optimizer:
    warm_up = max(1, round(_WARM_UP * total_steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, total_steps - warm_up), warmup_target=settings.learning_rate, warmup_steps=warm_up
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=_WEIGHT_DECAY)
    # Decay is for what multiplies features; pulling offsets and normalisation towards zero only hampers them.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def logits(network: keras.Model, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Run a network over images in batches: uint8 ``[n, 32, 32, 3]`` to float32 ``[n, classes]``."""
    result: npt.NDArray[np.float32] = network.predict(pixels, batch_size=_EVALUATION_BATCH, verbose=0)
    return result


def judge(network: keras.Model, images: Images) -> tuple[float, float]:
    """Return a network's mean cross entropy, without label smoothing, and its accuracy on images as they are."""
    outputs = logits(network, images.pixels).astype(np.float64)
    outputs -= outputs.max(axis=1, keepdims=True)
    chosen = outputs[np.arange(len(outputs)), images.labels]
    loss = np.mean(np.log(np.exp(outputs).sum(axis=1)) - chosen)
    return float(loss), float(np.mean(outputs.argmax(axis=1) == images.labels))


def _report(history: list[Epoch], epochs: int) -> None:
    last = history[-1]
    remaining = (epochs - last.epoch) * sum(epoch.seconds for epoch in history) / len(history)
    logger.info(
        "epoch %d/%d loss %.4f accuracy %.4f validation_loss %.4f validation_accuracy %.4f images/s %.0f eta %.0fs",
        last.epoch, epochs, last.loss, last.accuracy, last.validation_loss, last.validation_accuracy,
        last.images_per_second, remaining,
    )  # fmt: skip


def describe(outcome: Outcome, settings: Hyperparameters, names: list[str], temperature: float) -> dict[str, Any]:
    """Collect what ``training.json`` tells about how a network came to be."""
    return {
        "architecture": settings.architecture,
        "parameters": outcome.network.count_params(),
        "classes": names,
        "temperature": temperature,
        "selected_epoch": outcome.selected_epoch,
        "history": [asdict(epoch) for epoch in outcome.history],
        "hyperparameters": asdict(settings),
        "seed": settings.seed,
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }
