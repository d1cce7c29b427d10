"""Decides which tracks validate: whole ones, class by class, by seed, from the annotations alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from trafficsigns.sources import Annotation


def validation_tracks(annotations: Iterable[Annotation], fraction: float, seed: int) -> frozenset[str]:
    """Choose the tracks that are kept out of training to choose the epoch by.

    Frames of one track are near duplicates: were they divided, the network would be validated on what it has learned by
    heart. Every class gives ``fraction`` of its tracks, rounded, at least one and never its last.

    The choice depends on seed, class and track names only, so that every instance of a job comes to the same one.
    """
    by_class: dict[int, set[str]] = defaultdict(set)
    for annotation in annotations:
        if annotation.split == "train":
            by_class[annotation.class_id].add(annotation.track)
    chosen: set[str] = set()
    for class_id, tracks in by_class.items():
        count = min(max(1, round(fraction * len(tracks))), len(tracks) - 1)
        order = np.random.default_rng([seed, class_id]).permutation(sorted(tracks))
        chosen.update(str(track) for track in order[:count])
    return frozenset(chosen)
