"""What validation found out about the data set, for whoever reads about a model that was trained on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trafficsigns.failures import StepError

OUTCOME = "validation.json"
STATISTICS = "data-quality/statistics.json"


def read(directory: Path) -> dict[str, Any] | None:
    """Read what ``steps/validate.py`` wrote, in JSON's types; ``None`` where there is no such folder.

    Returns the names of the classes, counts of images by split, findings, training images by class, and of each measure
    mean, deviation, range and distribution. Raises ``StepError`` for a folder without the files, or with others.
    """
    if not directory.is_dir():
        return None
    outcome = _read(directory / OUTCOME, "images", "class_names", "splits", "expectations", "findings")
    return {**outcome, **_training_images(directory / STATISTICS)}


def _training_images(path: Path) -> dict[str, Any]:
    features = _read(path, "features")["features"]
    try:
        measures = [_measure(each) for each in features if "numerical_statistics" in each]
        (category,) = (each["string_statistics"] for each in features if "string_statistics" in each)
        buckets = category["distribution"]["categorical"]["buckets"]
        classes = {str(bucket["value"]): int(bucket["count"]) for bucket in buckets}
    except (KeyError, TypeError, ValueError) as error:
        raise _unfit(path, repr(error)) from error
    return {"measures": measures, "training_images": classes}


def _measure(feature: dict[str, Any]) -> dict[str, Any]:
    numbers = feature["numerical_statistics"]
    figures = {name: float(numbers[name]) for name in ("mean", "std_dev", "min", "max")}
    return {"name": feature["name"], **figures, "buckets": numbers["distribution"]["kll"]["buckets"]}


def _read(path: Path, *keys: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {key: content[key] for key in keys}
    except FileNotFoundError as error:
        raise _unfit(path, "missing") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _unfit(path, repr(error)) from error


def _unfit(path: Path, reason: str) -> StepError:
    return StepError(f"{path}: not what steps/validate.py writes ({reason}); give its output folder, or none")
