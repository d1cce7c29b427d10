"""Random fields: smooth at large, rough at small scales, like most surfaces outdoors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

FloatArray = npt.NDArray[np.float32]


def enlarged(field: FloatArray, side: int) -> FloatArray:
    """Enlarge a square float32 field to ``[side, side]``, smoothly."""
    return np.asarray(Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)


def clouds(rng: np.random.Generator, side: int, finest: int, roughness: float = 0.5) -> FloatArray:
    """Sum octaves of smooth noise.

    Returns float32 ``[side, side]``, stretched to span 0 to 1 exactly. Grids of 2, 4, 8, ... up to ``finest`` points a
    side are added, each weighing ``roughness`` times the one before (value noise, as in Ebert et al., "Texturing and
    Modeling", 2002).
    """
    points, weight = 2, 1.0
    field = rng.random((points, points), dtype=np.float32)
    while points < finest:
        # Each octave is added on its own grid: enlarging the sum step by step costs a tenth of enlarging every octave.
        points, weight = 2 * points, weight * roughness
        field = enlarged(field, points) + np.float32(weight) * rng.random((points, points), dtype=np.float32)
    field = enlarged(field, side)
    low, high = field.min(), field.max()
    return np.asarray((field - low) / (high - low), dtype=np.float32)
