"""How a model does on spoilt pictures: the share of right answers by kind and severity of corruption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trafficsigns.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from trafficsigns.metrics import Integers

PER_CLASS = 10
"""Test images of each class that are spoilt; all of them in every way would be 24 test sets."""


@dataclass(frozen=True)
class Corrupted:
    """The share of right answers on pictures of one kind and severity."""

    kind: str
    severity: int
    accuracy: float


@dataclass(frozen=True)
class Robustness:
    """The answers on spoilt pictures; ``mean`` is over all kinds and severities alike."""

    images: int
    clean: float
    """The share of right answers on the same pictures, unspoilt."""
    mean: float
    corrupted: tuple[Corrupted, ...]


def sample(labels: Integers, per_class: int = PER_CLASS) -> Integers:
    """Draw up to ``per_class`` images of each class, always the same ones; returns their positions in order."""
    random = np.random.default_rng(0)  # Models are compared on the same pictures.
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.sort(np.concatenate([random.permutation(each)[:per_class] for each in members]))


def measure(answer: Callable[[Sequence[bytes]], Integers], images: Sequence[bytes], labels: Integers) -> Robustness:
    """Spoil a sample of the test images in every way and count the right answers.

    ``answer`` takes encoded pictures and returns class identifiers; ``labels`` are integers ``[images]``.
    """
    chosen = sample(labels)
    truth = labels[chosen]
    corrupted = []
    for kind in CORRUPTIONS:
        for severity in SEVERITIES:
            spoilt = [corrupt(images[index], kind, severity, seed=int(index)) for index in chosen]
            corrupted.append(Corrupted(kind, severity, float((answer(spoilt) == truth).mean())))
    clean = float((answer([images[index] for index in chosen]) == truth).mean())
    return Robustness(len(chosen), clean, float(np.mean([each.accuracy for each in corrupted])), tuple(corrupted))
