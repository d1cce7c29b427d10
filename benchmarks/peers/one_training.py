"""Train one row of the ablation in a process of its own: shards, what to change, and where the answer goes."""

import io
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trafficsigns import augmentation, dataset, presets, robustness, trainer, training

MODULES = {"augmentation": augmentation, "trainer": trainer}
"""Whose constants a row may change: ingredients that are no fields of a preset."""


def changed(row: Any, changes: dict[str, Any]) -> Any:
    """Return a preset with some fields replaced; a dot leads into the parts that it is made of, or into a module."""
    for path, value in changes.items():
        first, _, rest = path.partition(".")
        if first in MODULES:
            getattr(MODULES[first], rest)  # A constant that has another name today would be set in vain.
            setattr(MODULES[first], rest, value)
            continue
        row = replace(row, **{first: changed(getattr(row, first), {rest: value}) if rest else value})
    return row


def encoded(image: np.ndarray) -> bytes:
    """Return an image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def main() -> None:
    """Train, and write what validation says."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    shards, request, answer = Path(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3])
    row = changed(presets.PRESETS["standard"], request["changes"])
    presets.PRESETS["row"] = replace(row, epochs=request["epochs"])
    names = dataset.read_names(shards / "train" / "labels.json")
    train, validation = (dataset.load(shards / split, len(names)) for split in ("train", "validation"))
    outcome = training.fit(train, validation, len(names), training.Hyperparameters.of("row", request["seed"]))
    answering = training.answering(outcome.network)
    outputs = training.logits(answering, validation.pixels)

    def ask(pictures: Sequence[bytes]) -> np.ndarray:
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(picture))) for picture in pictures])
        return training.logits(answering, pixels).argmax(axis=1)

    spoilt = robustness.measure(ask, [encoded(image) for image in validation.pixels], validation.labels)
    told = {
        "wrong": int(np.sum(outputs.argmax(axis=1) != validation.labels)),
        "images": len(validation.labels),
        "loss": outcome.history[outcome.selected_epoch - 1].validation_loss,
        "spoilt": spoilt.mean,
        "parameters": outcome.network.count_params(),
    }
    answer.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
