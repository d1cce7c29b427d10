"""Training from images in memory to the weights of the best epoch, with everything that a long run needs."""

from __future__ import annotations

import json
import logging
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trafficsigns import calibration, dataset, machines
from trafficsigns.checkpoint import Checkpoint, digest
from trafficsigns.dataset import Images, Plan
from trafficsigns.failures import StepError
from trafficsigns.images import SIDE
from trafficsigns.presets import PRESETS
from trafficsigns.trainer import Options, Trainer

logger = logging.getLogger(__name__)

_EVALUATION_BATCH = 512
_CODE = (
    "training.py",
    "trainer.py",
    "dataset.py",
    "augmentation.py",
    "presets.py",
    "calibration.py",
    "lenet.py",
    "layers.py",
    "machines.py",
)


@dataclass(frozen=True)
class Hyperparameters:
    """What a training run is asked to do."""

    preset: str
    epochs: int
    batch_size: int
    """Images in one step, of all machines together."""
    learning_rate: float
    seed: int
    patience: int = 0
    """Epochs without a better one after which training ends early; 0: it never does."""
    precision: str = "float32"

    @classmethod
    def of(cls, preset: str, seed: int, **changes: Any) -> Hyperparameters:
        """Take a preset's own, but for the changes that are not zero; raises ``KeyError`` for a preset that is none."""
        row = PRESETS[preset]
        own = cls(preset, row.epochs, row.batch_size, row.learning_rate, seed)
        return replace(own, **{name: value for name, value in changes.items() if value})


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images achieved.

    The validation figures are those of the averaged weights; the loss is the cross entropy at the temperature that
    suits the epoch best, since with such a temperature it would be served.
    """

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
    settings: Hyperparameters
    """As they were used: the batch may have become smaller than what was asked for."""


def fit(
    training: Images,
    validation: Images,
    classes: int,
    settings: Hyperparameters,
    checkpoint: Checkpoint | None = None,
    team: machines.Team | None = None,
) -> Outcome:
    """Train a network and keep the epoch with the lowest validation loss.

    With a ``checkpoint`` the state is saved after each epoch, and a state found there is continued to the same weights
    as without the interruption. Of the machines of a ``team`` each calls this with the same arguments, and each gets
    the same outcome; only the chief saves. A batch has no more images than there are. Raises ``StepError`` when the
    loss is no longer a number, when guessing would be better than what is learned, or when a batch cannot be shared
    equally.
    """
    team = team or machines.alone()
    keras.utils.set_random_seed(settings.seed)
    preset = PRESETS[settings.preset]
    places = dataset.shown(training.labels, preset.balance)
    replicas = team.strategy.num_replicas_in_sync
    batch_size = min(settings.batch_size, len(places) // replicas * replicas)
    machines.check(batch_size, settings.precision, replicas)
    if batch_size < settings.batch_size:
        logger.warning("a batch has %d images instead of %d: there are no more", batch_size, settings.batch_size)
        settings = replace(settings, batch_size=batch_size)
    options = Options(settings.epochs, batch_size, settings.learning_rate, settings.precision)
    trainer = Trainer(preset, options, classes, len(places) // batch_size, team.strategy)
    history = _restore(trainer, checkpoint, team) if checkpoint else []
    plan = Plan(batch_size, settings.epochs, settings.seed, preset.disturbances)
    stream = _stream(training, places, plan, len(history), team.strategy)
    answer = answering(trainer.averaged)
    while len(history) < settings.epochs and not _out_of_patience(history, settings.patience):
        history.append(_epoch(trainer, stream, answer, validation, len(history) + 1, team))
        _report(history, settings.epochs)
        _require_learning(history, settings.epochs, classes)
        if selected(history) == len(history):
            trainer.keep()
        if checkpoint:
            # Every machine asks for the state: what is spread over them can only be read by all together.
            state = trainer.state()
            if team.is_chief:
                checkpoint.save(state, [asdict(epoch) for epoch in history])
    return Outcome(trainer.kept(), selected(history), history, settings)


def _stream(
    training: Images,
    places: npt.NDArray[np.int64],
    plan: Plan,
    skip: int,
    strategy: tf.distribute.Strategy,
) -> Any:
    """Return an iterator over what each processor of this machine learns from."""

    def of_machine(context: tf.distribute.InputContext) -> tf.data.Dataset:
        share = (context.input_pipeline_id, context.num_input_pipelines)
        batches = dataset.stream(training, places, plan, skip, share)
        own, each = plan.batch_size // share[1], plan.batch_size // context.num_replicas_in_sync
        return batches if own == each else batches.rebatch(each)

    return iter(strategy.distribute_datasets_from_function(of_machine))


def _epoch(
    trainer: Trainer,
    stream: Any,
    answer: Callable[[tf.Tensor], tf.Tensor],
    validation: Images,
    number: int,
    team: machines.Team,
) -> Epoch:
    started = time.perf_counter()
    loss, accuracy = trainer.epoch(stream, number)
    images_per_second = trainer.images_per_epoch / (time.perf_counter() - started)
    # The chief's word counts: another processor's last bits could end a machine's training earlier than the others'.
    validation_loss, validation_accuracy = map(float, team.told(judge(answer, validation))[0])
    seconds = time.perf_counter() - started
    return Epoch(number, loss, accuracy, validation_loss, validation_accuracy, images_per_second, seconds)


def _restore(trainer: Trainer, checkpoint: Checkpoint, team: machines.Team) -> list[Epoch]:
    """Take over a saved state, if every machine has the same one, and return the history that led to it."""
    stored = checkpoint.restore()
    epochs = team.told([len(stored[1]) if stored else 0]).ravel().astype(int).tolist()
    if len(set(epochs)) > 1:
        logger.warning("the machines have states of epochs %s: training starts from the beginning", epochs)
        return []
    if stored is None:
        return []
    state, history = stored
    trainer.resume(state)
    logger.info("continuing after epoch %d of an interrupted run", len(history))
    return [Epoch(**epoch) for epoch in history]


def identity(training: Images, validation: Images, classes: int, settings: Hyperparameters, replicas: int = 1) -> str:
    """Name a run by a digest of all that decides its outcome.

    That is code, data, number of classes, hyper-parameters, seed, and how many processors share a batch.
    """
    code = [Path(__file__).with_name(name).read_bytes() for name in _CODE]
    options = json.dumps([asdict(settings), classes, replicas, tf.__version__, keras.__version__]).encode()
    data = (training.pixels, training.labels, validation.pixels, validation.labels)
    return digest([*code, options, *(array.tobytes() for array in data)])


def selected(history: Sequence[Epoch]) -> int:
    """Name the epoch that validation prefers, by its loss: good networks differ by a handful of wrong answers."""
    return min(history, key=lambda epoch: epoch.validation_loss).epoch


def _require_learning(history: Sequence[Epoch], epochs: int, classes: int) -> None:
    """Raise ``StepError`` where the hours that are left would be wasted.

    Within the first quarter, and two epochs at least, a rate that still rises may shake a network without harm.
    """
    last, guessing = history[-1], math.log(classes)
    if not math.isfinite(last.validation_loss):
        raise StepError(f"the validation loss is no number after epoch {last.epoch}: try a lower --learning-rate")
    if last.epoch > max(2, epochs / 4) and last.loss > guessing:
        raise StepError(
            f"after epoch {last.epoch} the loss is {last.loss:.4g}, and guessing one of {classes} classes would make "
            f"it {guessing:.4g}: try a lower --learning-rate"
        )


def _out_of_patience(history: Sequence[Epoch], patience: int) -> bool:
    if not (patience and history) or len(history) - selected(history) < patience:
        return False
    logger.info("no better epoch than %d in %d more: training ends early", selected(history), patience)
    return True


def answering(network: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Compile a network's way from uint8 ``[n, 32, 32, 3]`` to logits, as it works when it does not learn."""
    signature = [tf.TensorSpec((None, SIDE, SIDE, 3), tf.uint8)]
    answer: Callable[[tf.Tensor], tf.Tensor] = tf.function(lambda pixels: network(pixels, training=False), signature)
    return answer


def logits(answer: Callable[[tf.Tensor], tf.Tensor], pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Ask a compiled network about images in batches: uint8 ``[n, 32, 32, 3]`` to float32 ``[n, classes]``."""
    starts = range(0, len(pixels), _EVALUATION_BATCH)
    return np.concatenate([answer(tf.constant(pixels[start : start + _EVALUATION_BATCH])).numpy() for start in starts])


def judge(answer: Callable[[tf.Tensor], tf.Tensor], images: Images) -> tuple[float, float]:
    """Return a network's mean cross entropy, once its temperature is fitted, and its accuracy on images as they are."""
    outputs = logits(answer, images.pixels)
    loss = calibration.loss(outputs, images.labels, calibration.fit_temperature(outputs, images.labels))
    return loss, float(np.mean(outputs.argmax(axis=1) == images.labels))


def _report(history: Sequence[Epoch], epochs: int) -> None:
    last = history[-1]
    # The median: an epoch in which the machine slept for an hour says nothing of the next ones.
    remaining = (epochs - last.epoch) * statistics.median(epoch.seconds for epoch in history)
    logger.info(
        "epoch %d/%d loss %.4f accuracy %.4f validation_loss %.4f validation_accuracy %.4f images/s %.0f eta %.0fs",
        last.epoch, epochs, last.loss, last.accuracy, last.validation_loss, last.validation_accuracy,
        last.images_per_second, remaining,
    )  # fmt: skip


def describe(outcome: Outcome, names: Sequence[str], temperature: float) -> dict[str, Any]:
    """Collect what ``training.json`` tells about how a network came to be."""
    return {
        "architecture": outcome.network.name,
        "preset": outcome.settings.preset,
        "parameters": outcome.network.count_params(),
        "classes": list(names),
        "temperature": temperature,
        "selected_epoch": outcome.selected_epoch,
        "history": [asdict(epoch) for epoch in outcome.history],
        "hyperparameters": asdict(outcome.settings),
        "seed": outcome.settings.seed,
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }
