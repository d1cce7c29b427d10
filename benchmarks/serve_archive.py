"""Writes a model archive as the training step does, with an untrained network: speed asks for no training."""

from __future__ import annotations

import sys
from pathlib import Path

import keras

from trafficsigns import export, lenet
from trafficsigns.presets import PRESETS

CLASSES = 43


def main(architecture: str, folder: str) -> None:
    """Write the archive of an architecture, with the weights that it begins with, into a folder."""
    preset = PRESETS["lenet5" if architecture == "lenet5" else "standard"]
    keras.utils.set_random_seed(1)
    names = [f"sign {number}" for number in range(CLASSES)]
    classifier = export.Classifier(lenet.build(preset, CLASSES), names, temperature=0.5)
    handler = Path(export.__file__).parents[1] / "serving" / "inference.py"
    export.write_archive(classifier, {}, handler, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
