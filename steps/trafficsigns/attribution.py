"""Which parts of a picture an answer rests on, found by covering them and asking again.

The questions go through the signature that serves clients, so that what is explained is the graph that the endpoint
runs; no gradient is needed, and any archive can be explained. What is covered takes the picture's own mean colour.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from trafficsigns import images, zones
from trafficsigns.metrics import Floats, Integers
from trafficsigns.robustness import sample

Answer = Callable[[Sequence[bytes]], Floats]
"""Takes encoded pictures; returns probabilities ``[pictures, classes]``."""

Pixels = npt.NDArray[np.uint8]

_STRIDE, _WINDOW = 3, 2.5
"""Pixels between the middles of two covered places, and the standard deviation of each one's soft edge."""

_SMALLEST = 1e-6
"""A probability below this counts as this: its logarithm would be rounding noise."""


@dataclass(frozen=True)
class Part:
    """What one part adds to the probability of the answer; over pictures, in mean and in mean absolute value."""

    name: str
    mean: float
    mean_absolute: float


@dataclass(frozen=True)
class Explanation:
    """What answers rest on, over a sample of test images."""

    images: int
    covered: float
    """The mean probability of the answer when nothing of a picture is seen."""
    seen: float
    """The same when all of it is seen; ``covered`` and the parts' means add up to it."""
    parts: tuple[Part, ...]


def explain(answer: Answer, encoded: Sequence[bytes], labels: Integers) -> Explanation:
    """Attribute the answers on one test image of each class, drawn at random, to its parts.

    Each part's share is its exact Shapley value in the game whose payoff is the probability of the answer. Source:
    Lundberg and Lee, "A unified approach to interpreting model predictions", NeurIPS 2017.
    """
    chosen = sample(labels, per_class=1)
    payoffs = np.array([_payoffs(answer, look(encoded[index])) for index in chosen])
    shares = shapley(payoffs)
    parts = tuple(
        Part(name, float(column.mean()), float(np.abs(column).mean()))
        for name, column in zip(zones.NAMES, shares.T, strict=True)
    )
    return Explanation(len(chosen), float(payoffs[:, 0].mean()), float(payoffs[:, -1].mean()), parts)


def shapley(payoffs: Floats) -> Floats:
    """Share a game's payoff among its players.

    Takes ``[games, 2**players]``, where bit ``p`` of the second index says whether player ``p`` takes part; returns
    ``[games, players]``. Source: Shapley, "A value for n-person games" (1953).
    """
    coalitions = np.arange(payoffs.shape[1])
    players = payoffs.shape[1].bit_length() - 1
    sizes = np.array([int(coalition).bit_count() for coalition in coalitions])
    orders = np.array([math.factorial(size) * math.factorial(players - size - 1) for size in range(players)])
    shares = []
    for player in range(players):
        without = coalitions[coalitions >> player & 1 == 0]
        gained = payoffs[:, without | 1 << player] - payoffs[:, without]
        shares.append(gained @ (orders[sizes[without]] / math.factorial(players)))
    return np.stack(shares, axis=1)


def reasons(answer: Answer, encoded: bytes, answered: int, true: int) -> Floats:
    """Map what speaks for a wrong answer and against the right one; returns ``[32, 32]``.

    A place's value is by how much the logarithm of the two probabilities' quotient falls when the place is covered:
    above 0 it speaks for ``answered``, below for ``true``. Source: Zeiler and Fergus, "Visualizing and understanding
    convolutional networks", ECCV 2014, section 4.2, with soft windows.
    """
    pixels, windows = look(encoded), _windows()
    pictures = [_png(pixels), *(_png(_cover(pixels, window)) for window in windows)]
    pair = np.log(np.maximum(answer(pictures)[:, [answered, true]], _SMALLEST))
    scores = pair[:, 0] - pair[:, 1]
    mapped: Floats = np.tensordot(scores[0] - scores[1:], windows, axes=1) / windows.sum(axis=0)
    return mapped


def clarify(explanation: Explanation) -> dict[str, Any]:
    """Lay out an explanation as ``analysis.json`` of SageMaker Clarify, which is also its baseline for drift.

    There is one label, the answer, under the name that Clarify gives a label without a name. Sources: SageMaker
    developer guide, "Analysis results" and "Feature attribution drift for models in production".
    """
    values = {part.name: part.mean_absolute for part in explanation.parts}
    label = {"global_shap_values": values, "expected_value": explanation.covered}
    return {"version": "1.0", "explanations": {"kernel_shap": {"label0": label}}}


def _payoffs(answer: Answer, pixels: Pixels) -> Floats:
    """Ask about a picture with every choice of its parts seen; returns the answer's probability ``[2**parts]``."""
    coalitions = np.arange(2 ** len(zones.NAMES))
    seen = (coalitions[:, None] >> np.arange(len(zones.NAMES)) & 1).astype(bool)
    covers = 1.0 - seen.astype(np.float64) @ zones.masks(len(pixels)).reshape(len(zones.NAMES), -1)
    probabilities = answer([_png(_cover(pixels, cover.reshape(pixels.shape[:2]))) for cover in covers])
    payoffs: Floats = probabilities[:, probabilities[-1].argmax()].astype(np.float64)
    return payoffs


def _windows() -> Floats:
    middles = np.arange(_STRIDE // 2, images.SIDE, _STRIDE)
    line = np.exp(-((np.arange(images.SIDE) - middles[:, None]) ** 2) / (2 * _WINDOW**2))
    windows: Floats = np.einsum("ay,bx->abyx", line, line).reshape(-1, images.SIDE, images.SIDE)
    return windows


def _cover(pixels: Pixels, cover: Floats) -> Pixels:
    # cover [height, width]: 0 leaves a pixel as it is, 1 covers it whole.
    mean = pixels.mean(axis=(0, 1))
    covered: Pixels = np.rint(pixels + cover[:, :, None] * (mean - pixels)).astype(np.uint8)
    return covered


def look(encoded: bytes) -> Pixels:
    """Decode a picture and bring it to the network's size, where resizing changes nothing any more."""
    resized: Pixels = images.resize(images.decode(encoded)).numpy()
    return resized


def _png(pixels: Pixels) -> bytes:
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "PNG", compress_level=1)
    return body.getvalue()
