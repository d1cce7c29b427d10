"""A model's quality in the files of SageMaker Model Monitor: what was measured, and below which figures it has drifted.

Sources: SageMaker developer guide, "Model quality metrics and Amazon CloudWatch monitoring" (the figures and their
names) and "Create a model quality baseline" (``statistics.json`` and ``constraints.json``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trafficsigns.metrics import Floats, Integers

VERSION = 0.0
"""Of the files' format, as the prebuilt container writes it."""

RESAMPLES = 1000
"""Test sets drawn anew for a figure's interval."""

_BETAS = {"f0_5": 0.5, "f1": 1.0, "f2": 2.0}


def figures(confusion: Integers) -> dict[str, Floats]:
    """Compute Model Monitor's figures from confusion matrices, true class by row.

    Takes counts ``[..., classes, classes]`` and returns floats ``[...]`` by name: accuracy, and precision, recall and F
    scores, each class weighted by its images. A class that is never answered has precision 0.
    """
    support, answered = confusion.sum(axis=-1), confusion.sum(axis=-2)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    recall, precision = right / np.maximum(support, 1), right / np.maximum(answered, 1)
    weights = support / support.sum(axis=-1, keepdims=True)
    by_class = {"precision": precision, "recall": recall}
    for name, beta in _BETAS.items():
        # In counts, a class without a right answer needs no case of its own.
        by_class[name] = (1 + beta**2) * right / np.maximum(beta**2 * support + answered, 1)
    averages = {f"weighted_{name}": (values * weights).sum(axis=-1) for name, values in by_class.items()}
    return {"accuracy": right.sum(axis=-1) / support.sum(axis=-1), **averages}


def metrics(confusion: Integers) -> dict[str, Any]:
    """Lay out ``multiclass_classification_metrics``, for counts ``[classes, classes]``, in JSON's types.

    Beside each figure stands what always answering the most frequent class would reach. The schema wants a standard
    deviation, and the text "NaN" where there is one run only.
    """
    constant = np.zeros_like(confusion)
    constant[:, confusion.sum(axis=1).argmax()] = confusion.sum(axis=1)
    measured = figures(confusion) | {f"{k}_best_constant_classifier": v for k, v in figures(constant).items()}
    counts = {
        str(true): {str(answered): count for answered, count in enumerate(row)}
        for true, row in enumerate(confusion.tolist())
    }
    return {
        **{name: {"value": float(value), "standard_deviation": "NaN"} for name, value in measured.items()},
        "confusion_matrix": counts,
    }


def statistics(confusion: Integers) -> dict[str, Any]:
    """Lay out ``statistics.json``, for counts ``[classes, classes]``."""
    return {
        "version": VERSION,
        "dataset": {"item_count": int(confusion.sum())},
        "multiclass_classification_metrics": metrics(confusion),
    }


def constraints(confusion: Integers, seed: int = 0) -> dict[str, Any]:
    """Lay out ``constraints.json``, for counts ``[classes, classes]``: the same counts and seed give the same file.

    A threshold is not the measured value, which every second sample of the same quality would miss, but the lower end
    of its 95 % bootstrap interval. Source: Efron and Tibshirani, "An introduction to the bootstrap" (1993), chapter 13.
    """
    flat = confusion.ravel()
    drawn = np.random.default_rng(seed).multinomial(flat.sum(), flat / flat.sum(), size=RESAMPLES)
    samples = figures(drawn.reshape(RESAMPLES, *confusion.shape))
    return {
        "version": VERSION,
        "multiclass_classification_constraints": {
            name: {"threshold": float(np.quantile(values, 0.025)), "comparison_operator": "LessThanThreshold"}
            for name, values in samples.items()
        },
    }
