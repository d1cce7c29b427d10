"""What years outdoors and the sun of the moment do to a sign's face."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from trafficsigns.synthetic.noise import FloatArray, clouds

_DIRT = np.array((92, 78, 58), np.float32)


def _faded(rgb: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Bleach towards grey and white, as red paint does in the sun."""
    bleach, grey = rng.uniform(0, 0.35) ** 1.5, rng.uniform(0, 0.4)
    rgb = rgb + (rgb.mean(axis=2, keepdims=True) - rgb) * np.float32(grey)
    return rgb + (230 - rgb) * np.float32(bleach)


def _dirty(rgb: FloatArray, rng: np.random.Generator) -> FloatArray:
    strength = np.float32(rng.uniform(0, 0.6) ** 1.5)
    share = clouds(rng, len(rgb), 32, roughness=0.7) ** 2 * strength
    return rgb + (_DIRT - rgb) * share[..., None]


def _shaded(rgb: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Let a shadow fall on part of the sign: an edge's, or the flecked one of leaves."""
    kind = rng.random()
    side = len(rgb)
    if kind < 0.15:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5)
        axis = np.linspace(-1, 1, side, dtype=np.float32)
        depth = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None] - offset
    elif kind < 0.25:
        depth = 4 * (clouds(rng, side, 16, roughness=0.7) - np.float32(rng.uniform(0.4, 0.6)))
    else:
        return rgb
    shadow = np.clip(0.5 + 6 * depth, 0, 1)[..., None] * rng.uniform(0.3, 0.6)
    return np.asarray(rgb * (1 - shadow), np.float32)


def _soiled(image: Image.Image, rng: np.random.Generator) -> None:
    """Stick a few small things on: stickers, snow, droppings."""
    pen = ImageDraw.Draw(image)
    for _ in range(rng.poisson(0.3)):
        x, y = rng.uniform(0.2, 0.8, 2) * image.width
        reach = rng.uniform(0.02, 0.07) * image.width
        corners = [(x + reach * dx, y + reach * dy) for dx, dy in rng.uniform(-1, 1, (5, 2))]
        pen.polygon(corners, fill=(*(int(value) for value in rng.uniform(20, 250, 3)), 255))


def aged(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a used copy of a clean face: faded, dirty, with stickers and a shadow.

    Takes and returns RGBA, square; the outline (alpha) stays that of the clean face.
    """
    copy = face.copy()
    _soiled(copy, rng)
    rgb = np.asarray(copy.convert("RGB"), dtype=np.float32)
    rgb = _shaded(_dirty(_faded(rgb, rng), rng), rng)
    used = Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))
    used.putalpha(face.getchannel("A"))
    return used
