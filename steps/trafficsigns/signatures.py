"""The names by which a model archive is asked, for those who write archives and those who read them."""

from __future__ import annotations

SERVING = "serving_default"
"""Answers encoded images with names and probabilities."""

EXPLAIN = "explain"
"""Answers encoded images with the feature maps of each stage, by numbered names, and the first filters."""

FILTERS = "filters"
"""The key of the first convolution's weights among the answers of ``EXPLAIN``."""

IMAGES = "image_bytes"
"""The input of both: string ``[n]``."""
