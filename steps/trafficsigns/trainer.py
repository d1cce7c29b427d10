"""One network in training: its optimiser, its averaged weights, the steps, and the state that a run goes on from."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trafficsigns import lenet
from trafficsigns.failures import StepError
from trafficsigns.presets import Preset

logger = logging.getLogger(__name__)

_SLOWEST_AVERAGE = 0.998
_STEPS_AT_ONCE = 32
"""Steps that TensorFlow takes before control returns to Python: a small network's step is shorter than a call."""

_SILENCE = 60.0
"""Seconds after which a long epoch tells how far it is."""

Arrays = list[npt.NDArray[Any]]


@dataclass(frozen=True)
class Options:
    """How a network is trained, whichever it is."""

    epochs: int
    batch_size: int
    """Images in one step, of all processors together."""
    learning_rate: float
    precision: str = "float32"
    """A policy of Keras: mixed precision computes in 16 bits and keeps weights in 32."""


class Trainer:
    """A network in training, beside it the same network with averaged weights, and the best of those so far.

    Judged and kept are moving averages of the weights (Polyak and Juditsky, SIAM J. Control Optim. 30, 1992; as
    exponential ones Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017), which are better and
    calmer than the weights of any single step. With several processors each holds the same weights, takes its part of
    every batch, and normalises by the statistics of the whole batch.

    Sources: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015; Loshchilov and Hutter, "SGDR",
    ICLR 2017 (rates that fall as a cosine); Szegedy et al., "Rethinking the Inception architecture for computer
    vision", CVPR 2016 (label smoothing); Micikevicius et al., "Mixed precision training", ICLR 2018.
    """

    def __init__(
        self, preset: Preset, options: Options, classes: int, steps: int, strategy: tf.distribute.Strategy
    ) -> None:
        self._preset, self._options, self._classes = preset, options, classes
        self._steps, self._strategy = steps, strategy
        with strategy.scope():
            self.network = _under(options.precision, lambda: lenet.build(preset, classes))
            self.averaged = lenet.build(preset, classes)
            self.averaged.set_weights(self.network.get_weights())
            self._voices = lenet.voices(self.network)
            self._optimizer = _optimizer(options, steps * options.epochs)
            self._optimizer.build(self.network.trainable_variables)
        self._loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=preset.label_smoothing, reduction="sum"
        )
        self._best: Arrays = self.averaged.get_weights()
        self._take = tf.function(self._take_steps)

    @property
    def images_per_epoch(self) -> int:
        """How many images an epoch's steps take, of all processors together."""
        return self._steps * self._options.batch_size

    def epoch(self, stream: Iterator[tuple[tf.Tensor, tf.Tensor]], number: int) -> tuple[float, float]:
        """Take an epoch's steps; return the mean loss and accuracy on the augmented images.

        Raises ``StepError`` when the loss is no longer a number.
        """
        sums, done, started = np.zeros(2), 0, time.perf_counter()
        told = started
        while done < self._steps:
            added, taken = self._take(stream, tf.constant(min(_STEPS_AT_ONCE, self._steps - done)))
            sums, done = sums + added.numpy(), done + int(taken)
            if not math.isfinite(sums[0]):
                raise StepError(
                    f"the loss is no number since epoch {number}, step {done}: try a lower --learning-rate "
                    f"(it is {float(self._optimizer.learning_rate):.2g} at this step)"
                )
            now = time.perf_counter()
            if now - told > _SILENCE:
                told, share = now, done / self._steps
                remaining = (now - started) * ((self._options.epochs - number + 1) / share - 1)
                logger.info("epoch %d step %d/%d eta %.0fs", number, done, self._steps, remaining)
        loss, accuracy = sums / self._steps
        return float(loss), float(accuracy)

    def keep(self) -> None:
        """Remember the averaged weights as the best so far."""
        self._best = self.averaged.get_weights()

    def kept(self) -> keras.Model:
        """Return a network with the best weights, in full precision and on one processor."""
        network = lenet.build(self._preset, self._classes)
        network.set_weights(self._best)
        return network

    def state(self) -> list[Arrays]:
        """Return everything that the coming steps depend on, and the best weights."""
        return [[np.asarray(variable) for variable in self._variables()], self._best]

    def resume(self, state: list[Arrays]) -> None:
        """Go on from a state. Raises ``ValueError`` for one of another network's."""
        values, self._best = state
        for variable, value in zip(self._variables(), values, strict=True):
            variable.assign(value)

    def _variables(self) -> list[keras.Variable]:
        return [*self.network.weights, *self.averaged.weights, *self._optimizer.variables]

    def _take_steps(
        self, stream: Iterator[tuple[tf.Tensor, tf.Tensor]], steps: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # AutoGraph makes this a loop inside the graph. It ends early at the first loss that is no number.
        sums, taken = tf.zeros(2), 0
        while taken < steps and tf.math.is_finite(sums[0]):
            parts = self._strategy.run(self._learn, args=next(stream))
            sums += self._strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None)
            self._follow()
            taken += 1
        return sums, taken

    def _learn(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        # Each processor divides by the size of the whole batch, since the optimiser adds up their gradients.
        with tf.GradientTape() as tape:
            voices = tf.nest.flatten(self._voices(images, training=True))
            wanted = tf.one_hot(labels, self._classes)
            loss = tf.add_n([self._loss(wanted, logits) for logits in voices]) / self._options.batch_size
            scaled = self._optimizer.scale_loss(loss)
        variables = self.network.trainable_variables
        self._optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        right = tf.reduce_sum(tf.cast(tf.argmax(tf.add_n(voices), 1) == labels, tf.float32))
        return tf.stack([loss / len(voices), right / self._options.batch_size])

    def _follow(self) -> None:
        # Early on the average follows quickly, so that it does not remember the random start; the formula is that of
        # tf.train.ExponentialMovingAverage.
        step = tf.cast(self._optimizer.iterations, tf.float32)
        decay = tf.minimum(_SLOWEST_AVERAGE, (1.0 + step) / (10.0 + step))
        for average, variable in zip(self.averaged.weights, self.network.weights, strict=True):
            average.assign(decay * average + (1.0 - decay) * variable)


def _under(precision: str, build: Any) -> keras.Model:
    """Build a network under a policy of precision, and leave the policy as it was."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(precision)
    try:
        return build()
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def _optimizer(options: Options, total_steps: int) -> keras.optimizers.Optimizer:
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(options.learning_rate, total_steps))
    # Sixteen bits of float16 lose small gradients.
    return keras.optimizers.LossScaleOptimizer(optimizer) if options.precision == "mixed_float16" else optimizer
