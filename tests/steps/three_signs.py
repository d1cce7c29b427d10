"""Three signs that anyone can tell apart, and training on them as a job or by hand.

Test files take the fixtures by ``pytest_plugins``.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import train
from trafficsigns import dataset, records, training
from trafficsigns.presets import PRESETS

NAMES = ["Stop", "Keep left", "Keep right"]
CLASSES = len(NAMES)
SETTINGS = training.Hyperparameters("lenet5", epochs=3, batch_size=16, learning_rate=0.01, seed=1)


SLIM = replace(
    PRESETS["standard"],
    network=replace(PRESETS["standard"].network, blocks=((8, 5), (16, 5), (16, 3), (16, 3)), hidden=16),
)
"""The default preset with all that it has, but with fewer filters."""


def signs(count: int, seed: int) -> dataset.Images:
    """Draw a set that anyone can tell apart: a disc, a bar on the left, a bar on the right, on noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    pixels = random.integers(0, 80, (count, 32, 32, 3), dtype=np.uint8)
    rows, columns = np.mgrid[0:32, 0:32]
    shapes = np.stack([(rows - 16) ** 2 + (columns - 16) ** 2 < 70, abs(columns - 6) < 4, abs(columns - 26) < 4])
    pixels[shapes[labels]] += 150
    return dataset.Images(pixels, labels.astype(np.int64))


def doubtful(images: dataset.Images) -> dataset.Images:
    """Make every eighth label wrong: no network can be sure and right, and no epoch is as good as any other."""
    wrong = np.arange(len(images.labels)) % 8 == 0
    return replace(images, labels=np.where(wrong, (images.labels + 1) % CLASSES, images.labels))


@pytest.fixture(scope="module")
def images():
    return signs(96, seed=1), doubtful(signs(48, seed=2))


@pytest.fixture
def slim(monkeypatch):
    """Settings of the default preset, which is ``SLIM`` for a test."""
    monkeypatch.setitem(PRESETS, "standard", SLIM)
    return replace(SETTINGS, preset="standard")


def write_split(directory: Path, images: dataset.Images) -> None:
    pairs = zip(images.pixels, images.labels, strict=True)
    records.write((records.example(image.tobytes(), int(label), "", "") for image, label in pairs), directory)


@pytest.fixture
def channels(tmp_path, monkeypatch, images):
    for split, content in zip(("train", "validation"), images, strict=True):
        write_split(tmp_path / split, content)
    (tmp_path / "train/labels.json").write_text(json.dumps(NAMES))
    (tmp_path / "output").mkdir()
    handler = tmp_path / "inference.py"
    handler.write_text("# the endpoint's handler\n")
    monkeypatch.setattr(train, "HANDLER", handler)
    for variable, folder in {
        "SM_CHANNEL_TRAIN": "train",
        "SM_CHANNEL_VALIDATION": "validation",
        "SM_MODEL_DIR": "model",
        "SM_OUTPUT_DIR": "output",
    }.items():
        monkeypatch.setenv(variable, str(tmp_path / folder))
    return tmp_path


def run(*options: str) -> int:
    return train.main(["--preset", "lenet5", "--batch-size", "16", "--learning-rate", "0.01", *options])


def same(first, second) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


def course(history) -> list[tuple[float, ...]]:
    """Return all that each epoch achieved, but for the time that it took."""
    return [(each.loss, each.accuracy, each.validation_loss, each.validation_accuracy) for each in history]


def failure(directory: Path, capsys) -> str:
    """Return the one reason that people and SageMaker were both given, once nothing else was written."""
    text = capsys.readouterr().err.strip()
    assert "\n" not in text
    assert (directory / "output/failure").read_text() == text
    assert not list((directory / "model").glob("*"))
    return text
