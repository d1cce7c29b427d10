"""What validation found out about the data set, for whoever reads about a model that was trained on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trafficsigns.failures import StepError

OUTCOME = "validation.json"
STATISTICS = "data-quality/statistics.json"

_SPLITS = ("train", "validation", "test")
_EDGES = ("lower_bound", "upper_bound", "count")


def read(directory: Path) -> dict[str, Any] | None:
    """Read what ``steps/validate.py`` wrote, in JSON's types; ``None`` where there is no such folder.

    Returns the names of the classes, counts of images by split, findings, training images by class, and of each measure
    mean, deviation, range and distribution. Raises ``StepError`` for a folder without the files, or with others.
    """
    if not directory.is_dir():
        return None
    return {**_read(directory / OUTCOME, _outcome), **_read(directory / STATISTICS, _training_images)}


def _outcome(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "images": int(content["images"]),
        "class_names": [str(name) for name in content["class_names"]],
        "splits": {split: int(content["splits"][split]) for split in _SPLITS},
        "expectations": int(content["expectations"]),
        "findings": [
            {
                **{key: str(finding[key]) for key in ("rule", "severity", "observed")},
                "offenders": [str(name) for name in finding["offenders"]],
            }
            for finding in content["findings"]
        ],
    }


def _training_images(content: Mapping[str, Any]) -> dict[str, Any]:
    features = content["features"]
    (category,) = (each["string_statistics"] for each in features if "string_statistics" in each)
    buckets = category["distribution"]["categorical"]["buckets"]
    return {
        "measures": [_measure(each) for each in features if "numerical_statistics" in each],
        "training_images": {str(bucket["value"]): int(bucket["count"]) for bucket in buckets},
    }


def _measure(feature: Mapping[str, Any]) -> dict[str, Any]:
    numbers = feature["numerical_statistics"]
    buckets = [{key: float(each[key]) for key in _EDGES} for each in numbers["distribution"]["kll"]["buckets"]]
    if not buckets:
        raise ValueError(f"{feature['name']} has no buckets")
    figures = {name: float(numbers[name]) for name in ("mean", "std_dev", "min", "max")}
    return {"name": str(feature["name"]), **figures, "buckets": buckets}


def _read(path: Path, take: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    try:
        return take(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise _unfit(path, "missing") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unfit(path, repr(error)) from error


def _unfit(path: Path, reason: str) -> StepError:
    return StepError(f"{path}: not what steps/validate.py writes ({reason}); give its output folder, or none")
