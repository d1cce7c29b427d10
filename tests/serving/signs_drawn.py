"""Drawn signs of twelve kinds: a pattern of coarse coloured squares each, in any size, with noise."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

NAMES = [f"sign {index}" for index in range(10)] + ['Give way, "soon"', "Vorfahrt gewähren"]
"""Two of them are what CSV has to quote and what is not ASCII."""


def drawn(label: int, seed: int, height: int, width: int) -> np.ndarray:
    """Return uint8 ``[height, width, 3]``."""
    pattern = np.random.default_rng(1000 + label).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(pattern).resize((width, height), Image.Resampling.BILINEAR), dtype=np.int16)
    noise = np.random.default_rng([label, seed]).normal(0, 12, large.shape)
    return np.clip(large + noise, 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    """Return an encoded picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()
