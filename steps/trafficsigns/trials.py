"""What a model goes through beyond the test set: spoilt pictures, a stopwatch, a scale, and the champion."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trafficsigns import archive, latency, robustness, signatures
from trafficsigns.archive import Answers, Model
from trafficsigns.champion import Comparison, compare
from trafficsigns.failures import StepError
from trafficsigns.latency import Latency
from trafficsigns.metrics import Integers
from trafficsigns.robustness import Robustness

logger = logging.getLogger(__name__)

NONE = "none.json"
"""The file that says, in the champion's place, that there is no champion: an input of a job cannot be empty."""


@dataclass(frozen=True)
class Trial:
    """How all of it went."""

    robustness: Robustness
    latency: Latency
    megabytes: float
    """Of the archive as it is sent to an endpoint."""
    comparison: Comparison | None
    """With the champion; ``None`` where there is none."""

    def metrics(self) -> dict[str, float]:
        """Return the single numbers, by the names that the gate's criteria go by."""
        return {
            "mean_corrupted_accuracy": self.robustness.mean,
            "latency_p50_milliseconds": self.latency.p50_milliseconds,
            "latency_p99_milliseconds": self.latency.p99_milliseconds,
            "latency_ratio": self.latency.ratio,
            "archive_megabytes": self.megabytes,
            # Without a champion nothing speaks against the model.
            "champion_p_value": 1.0 if self.comparison is None else self.comparison.p_value,
        }

    def findings(self) -> dict[str, Any]:
        """Return what is behind the numbers, in JSON's types."""
        return {
            "robustness": asdict(self.robustness),
            "latency": asdict(self.latency),
            "champion": None if self.comparison is None else asdict(self.comparison),
        }


def try_out(
    model: Model, answers: Answers, images: Sequence[bytes], labels: Integers, model_dir: Path, champion_dir: Path
) -> Trial:
    """Put a model through everything; ``answers`` are its own on the test images, encoded, of classes ``labels``.

    Raises ``StepError`` for a champion that cannot be opened or asked.
    """
    signature = model.saved.signatures[signatures.SERVING]
    reference = latency.reference(len(model.classes))
    return Trial(
        robustness.measure(lambda spoilt: model.answer(spoilt).class_id, images, labels),
        latency.measure(lambda encoded: signature(**{signatures.IMAGES: encoded}), reference, images[0]),
        size(model_dir),
        _beside_champion(model, answers, images, labels, champion_dir),
    )


def size(model_dir: Path) -> float:
    """Return the megabytes of an archive, packed where it is packed."""
    packed = model_dir / archive.ARCHIVE
    files = [packed] if packed.is_file() else [path for path in model_dir.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) / 1e6


def _beside_champion(
    model: Model, answers: Answers, images: Sequence[bytes], labels: Integers, directory: Path
) -> Comparison | None:
    if not directory.is_dir() or (directory / NONE).is_file():
        logger.info("there is no champion to compare with")
        return None
    with tempfile.TemporaryDirectory(prefix="champion-") as scratch:
        try:
            champion = archive.opened(directory, Path(scratch))
            names = champion.answer(images).class_name
        except StepError as error:
            raise StepError(f"the champion cannot be compared with: {error}") from error
    # By name: another training may have numbered the classes otherwise, and may not know all of them.
    numbers = {name: number for number, name in enumerate(model.classes)}
    known = np.array([numbers.get(name, -1) for name in names], dtype=np.int64)
    return compare(known, answers.class_id, labels)
