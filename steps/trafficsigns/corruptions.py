"""Pictures as the street spoils them: eight corruptions in three severities, each a pure function of picture and seed.

The kinds are those of Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019, as far as they happen to a sign; the code and the strengths are our own. Strengths go by the
picture's side, so that a picture of 200 pixels is spoilt as much as one of 32.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

Pixels = npt.NDArray[np.uint8]
Generator = np.random.Generator

SEVERITIES = (1, 2, 3)


def noise(pixels: Pixels, severity: int, random: Generator) -> Pixels:
    """Add normal noise to each value."""
    return _clipped(pixels + random.normal(0.0, (12.0, 24.0, 40.0)[severity - 1], pixels.shape))


def blur(pixels: Pixels, severity: int, random: Generator) -> Pixels:
    """Blur as a lens out of focus does."""
    sigma = (0.03, 0.05, 0.075)[severity - 1] * _side(pixels)
    return _clipped(ndimage.gaussian_filter(pixels.astype(np.float64), (sigma, sigma, 0.0), mode="nearest"))


def motion(pixels: Pixels, severity: int, random: Generator) -> Pixels:
    """Blur along one direction, as a car in motion does."""
    length = max(3, round((0.12, 0.2, 0.3)[severity - 1] * _side(pixels)))
    angle = random.uniform(0.0, np.pi)
    steps = np.linspace(-0.5, 0.5, 2 * length + 1) * length
    offsets = np.rint(np.outer(steps, (np.sin(angle), np.cos(angle)))).astype(int)
    reach = int(np.abs(offsets).max())
    height, width = pixels.shape[:2]
    wide = np.pad(pixels.astype(np.float64), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    smeared = np.zeros(pixels.shape)
    # The line has few points in the square around it, so the picture is moved along it: a kernel would cost its square.
    for (down, right), count in zip(*np.unique(offsets + reach, axis=0, return_counts=True), strict=True):
        smeared += count * wide[down : down + height, right : right + width]
    return _clipped(smeared / len(offsets))


def light(pixels: Pixels, severity: int, random: Generator) -> Pixels:
    """Make the picture darker or brighter by a power, as an exposure that went wrong."""
    strength = (1.6, 2.2, 3.0)[severity - 1]
    power = strength if random.random() < 0.5 else 1.0 / strength
    return _clipped(255.0 * (pixels / 255.0) ** power)


def contrast(pixels: Pixels, severity: int, random: Generator) -> Pixels:
    """Pull all values towards their mean, as fog does."""
    kept = (0.5, 0.3, 0.15)[severity - 1]
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return _clipped(mean + kept * (pixels - mean))


def jpeg(pixels: Pixels, severity: int, random: Generator) -> Pixels:
    """Compress as JPEG and decode again."""
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "JPEG", quality=(30, 18, 10)[severity - 1])
    decoded: Pixels = np.asarray(Image.open(body).convert("RGB"))
    return decoded


def occlusion(pixels: Pixels, severity: int, random: Generator) -> Pixels:
    """Cover a square part with a single grey, as a branch, a sticker or snow does."""
    height, width = pixels.shape[:2]
    share = (0.2, 0.3, 0.4)[severity - 1]
    high, wide = max(1, round(share * height)), max(1, round(share * width))
    top, left = random.integers(0, height - high + 1), random.integers(0, width - wide + 1)
    covered = pixels.copy()
    covered[top : top + high, left : left + wide] = random.integers(40, 216)
    return covered


def rotation(pixels: Pixels, severity: int, random: Generator) -> Pixels:
    """Turn the picture about its middle; what enters from outside repeats the edge."""
    angle = (10.0, 18.0, 26.0)[severity - 1] * (1 if random.random() < 0.5 else -1)
    turned = ndimage.rotate(pixels.astype(np.float64), angle, reshape=False, order=1, mode="nearest")
    return _clipped(turned)


CORRUPTIONS: dict[str, Callable[[Pixels, int, Generator], Pixels]] = {
    each.__name__: each for each in (noise, blur, motion, light, contrast, jpeg, occlusion, rotation)
}
"""All kinds, by name. Each takes uint8 ``[height, width, 3]`` and returns the same."""


def corrupt(image: bytes, kind: str, severity: int, seed: int) -> bytes:
    """Spoil an encoded picture and encode the result as PNG.

    The same picture, kind, severity and seed give the same bytes.
    """
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
    random = np.random.default_rng([seed, list(CORRUPTIONS).index(kind), severity])
    body = io.BytesIO()
    Image.fromarray(CORRUPTIONS[kind](pixels, severity, random)).save(body, "PNG", compress_level=1)
    return body.getvalue()


def _side(pixels: Pixels) -> float:
    return float(np.sqrt(pixels.shape[0] * pixels.shape[1]))


def _clipped(values: npt.NDArray[Any]) -> Pixels:
    clipped: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return clipped
