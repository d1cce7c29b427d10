"""The parts that a picture is divided into where an answer is explained: a disc, a ring around it in four, the rest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NAMES = ("centre", "top", "right", "bottom", "left", "surroundings")

CENTRE, RING = 0.42, 0.85
"""Radii of disc and ring, in half sides. Signs of the benchmark fill the picture but for a border of a tenth."""


def masks(side: int) -> npt.NDArray[np.bool_]:
    """Return the pixels of each part, ``[parts, side, side]``; each pixel belongs to one."""
    line = (np.arange(side) + 0.5) * 2 / side - 1
    down, right = np.meshgrid(line, line, indexing="ij")
    radius = np.hypot(down, right)
    ring = (radius >= CENTRE) & (radius < RING)
    upright = np.abs(down) > np.abs(right)
    sectors = (upright & (down < 0), ~upright & (right > 0), upright & (down > 0), ~upright & (right < 0))
    return np.stack([radius < CENTRE, *(ring & sector for sector in sectors), radius >= RING])
