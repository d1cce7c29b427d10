"""Champion and challenger: two models on the same test images, compared where they disagree. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from trafficsigns.metrics import Integers


@dataclass(frozen=True)
class ClassChange:
    """How many of a class's test images each of two models knows, where that differs."""

    class_id: int
    champion: int
    challenger: int
    support: int


@dataclass(frozen=True)
class Comparison:
    """A challenger beside the champion."""

    champion_accuracy: float
    challenger_accuracy: float
    only_champion: int
    """Images that only the champion knows."""
    only_challenger: int
    p_value: float
    """Chance that models equally good would disagree at least as much to the challenger's disadvantage."""
    classes: tuple[ClassChange, ...]


def compare(champion: Integers, challenger: Integers, labels: Integers) -> Comparison:
    """Compare two models' answers, class identifiers ``[images]`` each, on the same images.

    McNemar's exact test, one-sided: of the images that only one of the two knows, half should be the challenger's if it
    is no worse. Images that both know, or neither, say nothing about the difference. Source: McNemar, "Note on the
    sampling error of the difference between correlated proportions or percentages", Psychometrika 12 (1947);
    Dietterich, "Approximate statistical tests for comparing supervised classification learning algorithms", Neural
    Computation 10 (1998).
    """
    knew, knows = champion == labels, challenger == labels
    lost, won = int((knew & ~knows).sum()), int((~knew & knows).sum())
    p_value = float(binomtest(won, won + lost, 0.5, alternative="less").pvalue) if won + lost else 1.0
    changes = (
        ClassChange(int(label), int(knew[labels == label].sum()), int(knows[labels == label].sum()), int(count))
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True)
    )
    differing = tuple(change for change in changes if change.champion != change.challenger)
    return Comparison(float(knew.mean()), float(knows.mean()), lost, won, p_value, differing)
