"""Which test images to show and which to keep; the same answers always give the same choice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trafficsigns.metrics import Floats, Integers


def clearest(probabilities: Floats, labels: Integers, count: int = 1) -> tuple[tuple[int, ...], ...]:
    """Find for each class the images whose true class leads all others by most, best first.

    Takes float ``[images, classes]`` and integers ``[images]``; returns up to ``count`` indices for each class. The
    lead of a wrongly answered image is negative, so one represents its class only where there is nothing better.
    """
    lead = _lead(probabilities, labels)
    return tuple(_best(lead, np.flatnonzero(labels == c), count) for c in range(probabilities.shape[1]))


def golden(probabilities: Floats, labels: Integers, count: int = 10) -> tuple[int, ...]:
    """Choose images whose answers a deployed copy of the model must repeat.

    Returns at most ``count`` indices, evenly spread over the classes that have a rightly answered image, each the one
    with the largest lead of its class: a healthy copy cannot answer differently there by rounding alone.
    """
    lead = _lead(probabilities, labels)
    right = [best[0] for best in clearest(probabilities, labels) if best and lead[best[0]] > 0]
    spread = np.linspace(0, len(right) - 1, min(count, len(right))).round().astype(int)
    return tuple(right[position] for position in spread)


def worst_mistakes(probabilities: Floats, labels: Integers, names: Sequence[str], count: int = 24) -> tuple[int, ...]:
    """Find the wrong answers given with the highest probability, worst first; equals are ordered by name."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    confidence = probabilities.max(axis=1)
    return tuple(sorted((int(index) for index in wrong), key=lambda index: (-confidence[index], names[index]))[:count])


def _best(lead: Floats, members: Integers, count: int) -> tuple[int, ...]:
    # A stable sort leaves equals, of which a saturated softmax has many, in the order of the test split.
    return tuple(int(index) for index in members[np.argsort(-lead[members], kind="stable")[:count]])


def _lead(probabilities: Floats, labels: Integers) -> Floats:
    """Subtract the best other class's probability from the true class's, for each image."""
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -1.0
    lead: Floats = probabilities[rows, labels] - others.max(axis=1)
    return lead


def drawn(images: int, count: int = 12, seed: int = 0) -> tuple[int, ...]:
    """Draw images at random, right or wrong ones alike; fewer where there are not so many."""
    return tuple(int(index) for index in np.random.default_rng(seed).permutation(images)[:count])
