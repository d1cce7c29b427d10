"""What training images are like, in the files of SageMaker Model Monitor, for comparing later traffic with them.

Sources: SageMaker developer guide, "Schema for Statistics (statistics.json file)" and "Schema for Constraints
(constraints.json file)". An image has no columns, so its features are the manifest's measures of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

VERSION = 0.0
"""Of the files' format, as the prebuilt container writes it."""

MEASURES = {"brightness": "Fractional", "contrast": "Fractional", "width": "Integral", "height": "Integral"}
"""Columns of the manifest that are numbers, none of them below 0, by Model Monitor's types."""

CATEGORY = "class_id"

BUCKETS = 10
"""Of a distribution, all equally wide: what Model Monitor has and its charts expect."""

SKETCH = 2048
"""Values that a sketch keeps, roughly; quantiles read from it are off by less than 0.2 % of the ranks."""


def statistics(rows: pd.DataFrame) -> dict[str, Any]:
    """Lay out ``statistics.json`` for the images of a manifest."""
    features = [_measure(name, kind, rows[name]) for name, kind in MEASURES.items()]
    return {
        "version": VERSION,
        "dataset": {"item_count": len(rows)},
        "features": [*features, _category(CATEGORY, rows[CATEGORY])],
    }


def constraints(rows: pd.DataFrame) -> dict[str, Any]:
    """Lay out ``constraints.json`` for the images of a manifest: their types, classes, and how far both may drift."""
    features: list[dict[str, Any]] = [
        {
            "name": name,
            "inferred_type": kind,
            "completeness": float(rows[name].notna().mean()),
            "num_constraints": {"is_non_negative": True},
        }
        for name, kind in MEASURES.items()
    ]
    domains = [str(value) for value in sorted(rows[CATEGORY].unique())]
    features.append(
        {
            "name": CATEGORY,
            "inferred_type": "String",
            "completeness": 1.0,
            "string_constraints": {"domains": domains},
        }
    )
    return {"version": VERSION, "features": features, "monitoring_config": _MONITORING}


_MONITORING = {
    "evaluate_constraints": "Enabled",
    "emit_metrics": "Enabled",
    # What Model Monitor suggests by itself, but for the robust comparison, which tells small samples from drift.
    "datatype_check_threshold": 1.0,
    "domain_content_threshold": 1.0,
    "distribution_constraints": {
        "perform_comparison": "Enabled",
        "comparison_threshold": 0.1,
        "comparison_method": "Robust",
        "categorical_comparison_threshold": 0.1,
        "categorical_drift_method": "LInfinity",
    },
}


def _measure(name: str, kind: str, column: pd.Series[Any]) -> dict[str, Any]:
    values = column.dropna().to_numpy(np.float64)
    counts, edges = np.histogram(values, BUCKETS)
    buckets = [
        {"lower_bound": float(low), "upper_bound": float(high), "count": float(count)}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    sketch = {"parameters": {"c": 0.64, "k": float(SKETCH)}, "data": compact(values)}
    return {
        "name": name,
        "inferred_type": kind,
        "numerical_statistics": {
            "common": {"num_present": len(values), "num_missing": len(column) - len(values)},
            "mean": float(values.mean()),
            "sum": float(values.sum()),
            "std_dev": float(values.std()),
            "min": float(values.min()),
            "max": float(values.max()),
            "distribution": {"kll": {"buckets": buckets, "sketch": sketch}},
        },
    }


def _category(name: str, column: pd.Series[Any]) -> dict[str, Any]:
    counts = column.value_counts().sort_index()
    return {
        "name": name,
        "inferred_type": "String",
        "string_statistics": {
            "common": {"num_present": int(column.notna().sum()), "num_missing": int(column.isna().sum())},
            "distinct_count": float(len(counts)),
            "distribution": {
                "categorical": {"buckets": [{"value": str(value), "count": int(n)} for value, n in counts.items()]}
            },
        },
    }


def compact(values: npt.NDArray[np.float64], keep: int = SKETCH) -> list[list[float]]:
    """Sketch a distribution: each value of the list at position ``i`` stands for ``2**i`` of the given ones.

    Where there are more than ``keep``, every second of the sorted values goes on to the next list, with twice the
    weight. The same values give the same sketch. Source: Karnin, Lang and Liberty, "Optimal quantile approximation in
    streams", FOCS 2016, with halves taken in turn instead of at random.
    """
    levels: list[list[float]] = []
    rest = np.sort(values)
    while len(rest) > keep:
        odd = len(rest) % 2
        levels.append(rest[:odd].tolist())
        rest = rest[odd + len(levels) % 2 :: 2]
    return [*levels, rest.tolist()]
