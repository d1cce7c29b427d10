"""The engine that all model servers are measured with: the project's own, in each one's environment."""

import os
from pathlib import Path

import numpy as np

from infra.local.endpoints.serving.engines import DEFAULT_SIGNATURE, open_engine


class Model:
    """A model archive's newest version behind the engine that the environment names."""

    def __init__(self) -> None:
        self._engine = open_engine(Path(os.environ["BENCH_ARCHIVE"]) / "1")

    def answer(self, *pictures: bytes) -> list[dict]:
        """Answer for encoded pictures, with what the endpoint's handler answers."""
        encoded = np.empty(len(pictures), dtype=object)
        encoded[:] = pictures
        outputs = self._engine.run(DEFAULT_SIGNATURE, {"image_bytes": encoded})
        ids, probabilities = outputs["top_class_ids"].tolist(), outputs["top_probabilities"].tolist()
        names = [[name.decode() for name in row] for row in outputs["top_class_names"].tolist()]
        return [_prediction(*row) for row in zip(ids, names, probabilities, strict=True)]


def _prediction(ids: list[int], names: list[str], probabilities: list[float]) -> dict:
    top = [
        {"class_id": number, "class_name": name, "probability": probability}
        for number, name, probability in zip(ids, names, probabilities, strict=True)
    ]
    return {**top[0], "top": top}
