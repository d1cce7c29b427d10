"""What stands behind a sign: sky, leaves, walls and roads, with a post, branches or another sign in the way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from trafficsigns.pictograms.shapes import BLUE, RED, WHITE, YELLOW
from trafficsigns.synthetic.noise import FloatArray, clouds

SIDE = 96
"""Height and width of a scene, in pixels."""

Generator = np.random.Generator


def _blend(low: tuple[float, ...], high: tuple[float, ...], share: FloatArray) -> FloatArray:
    """Mix two colours by a field of shares: float32 ``[SIDE, SIDE, 3]``."""
    start, stop = np.array(low, np.float32), np.array(high, np.float32)
    return np.asarray(start + (stop - start) * share[..., None], dtype=np.float32)


def _sky(rng: Generator) -> FloatArray:
    horizon = np.linspace(0, 1, SIDE, dtype=np.float32)[:, None]
    zenith = (rng.uniform(70, 190), rng.uniform(120, 200), rng.uniform(190, 250))
    haze = tuple(rng.uniform(190, 255) + offset for offset in (-4, 0, 6))
    return _blend(zenith, haze, 0.5 * horizon + 0.5 * clouds(rng, SIDE, 8))


def _leaves(rng: Generator) -> FloatArray:
    autumn = rng.uniform(0, 1) ** 2
    dark = (15 + 30 * autumn, 25.0, 12.0)
    bright = (rng.uniform(70, 140) + 80 * autumn, rng.uniform(110, 170) - 20 * autumn, rng.uniform(30, 90))
    leaves = _blend(dark, bright, clouds(rng, SIDE, 64, roughness=0.85))
    gaps = clouds(rng, SIDE, 32, roughness=0.8) > rng.uniform(0.6, 1.0)
    leaves[gaps] = (225, 232, 240)
    return leaves


def _wall(rng: Generator) -> FloatArray:
    plaster = rng.uniform(90, 220) * rng.uniform((0.95, 0.8, 0.6), (1.1, 1.0, 0.95))
    wall = _blend(tuple(0.8 * plaster), tuple(1.1 * plaster), clouds(rng, SIDE, 64, roughness=0.7))
    course, brick = rng.integers(5, 14), rng.integers(12, 30)
    joint = rng.uniform(0.6, 1.0)
    rows = np.arange(SIDE)
    wall[rows % course == 0] *= joint
    for row in range(0, SIDE, int(course)):
        shift = (row // course) % 2 * brick // 2
        wall[row : row + course, (rows + shift) % brick == 0] *= joint
    return wall


def _road(rng: Generator) -> FloatArray:
    grey = rng.uniform(70, 150)
    return _blend((0.75 * grey,) * 3, (1.15 * grey,) * 3, clouds(rng, SIDE, 64, roughness=0.9))


_MATERIALS: tuple[Callable[[Generator], FloatArray], ...] = (_sky, _leaves, _wall, _road)
_ABOVE = (0.4, 0.4, 0.2, 0.0)
_BELOW = (0.0, 0.4, 0.3, 0.3)


def _post(rng: Generator, pen: ImageDraw.ImageDraw) -> None:
    centre, half, grey = SIDE / 2 + rng.uniform(-3, 3), rng.uniform(1.5, 4), int(rng.uniform(60, 190))
    top = 0 if rng.random() < 0.3 else SIDE / 2
    pen.rectangle((centre - half, top, centre + half, SIDE), fill=(grey, grey, grey + 6))
    pen.line((centre - half / 2, top, centre - half / 2, SIDE), fill=(grey + 40, grey + 40, grey + 40))


def _building(rng: Generator, pen: ImageDraw.ImageDraw) -> None:
    left, top = rng.uniform(0, SIDE, 2)
    shade = [int(value) for value in rng.uniform(50, 200) * rng.uniform(0.8, 1.2, 3)]
    pen.rectangle((left, top, left + rng.uniform(10, 50), top + rng.uniform(20, 80)), fill=(*shade,))


def _branches(rng: Generator, pen: ImageDraw.ImageDraw) -> None:
    for _ in range(rng.integers(3, 9)):
        points = [tuple(point) for point in np.cumsum(rng.normal(0, 14, (4, 2)), axis=0) + rng.uniform(0, SIDE, 2)]
        pen.line(points, fill=(40, 34, 30), width=int(rng.integers(1, 3)), joint="curve")


def _neighbour(rng: Generator, pen: ImageDraw.ImageDraw) -> None:
    """Put part of another sign at an edge, or a sign below, as on many posts."""
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(14, 24)
    x, y = SIDE / 2 + 54 * np.cos(angle), SIDE / 2 + 54 * np.sin(angle)
    colour = (RED, BLUE, WHITE, YELLOW)[rng.integers(4)]
    if rng.random() < 0.5:
        pen.circle((x, y), radius, fill=colour, outline=WHITE, width=2)
    else:
        pen.rectangle((x - radius, y - radius / 2, x + radius, y + radius / 2), fill=colour, outline=WHITE, width=2)


_PROPS = ((_building, 0.35), (_branches, 0.3), (_neighbour, 0.25), (_post, 0.7))


def scene(rng: Generator) -> Image.Image:
    """Paint one background: RGB, ``SIDE`` x ``SIDE`` pixels, with the place of the sign in its middle."""
    above = _MATERIALS[rng.choice(len(_MATERIALS), p=_ABOVE)](rng)
    below = _MATERIALS[rng.choice(len(_MATERIALS), p=_BELOW)](rng)
    slope = np.linspace(-1, 1, SIDE) * rng.uniform(-12, 12)
    horizon = SIDE * rng.uniform(0.3, 1.4) + slope
    is_below = np.arange(SIDE)[:, None] > horizon[None, :]
    pixels = np.where(is_below[..., None], below, above)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for prop, share in _PROPS:
        if rng.random() < share:
            prop(rng, pen)
    return image
