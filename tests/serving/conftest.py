"""A small trained model in an archive as the training step writes it, and pictures for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_process import ROOT, ModelProcess
from signs_drawn import NAMES, drawn

from trafficsigns import export, lenet


@pytest.fixture(scope="session")
def signs_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet-5, trained for seconds on drawn signs until it tells them apart, with the endpoint's own handler."""
    keras.utils.set_random_seed(7)
    network = lenet.lenet5(len(NAMES))
    pixels = np.stack([drawn(label, seed, 32, 32) for label in range(len(NAMES)) for seed in range(30)])
    labels = np.repeat(np.arange(len(NAMES)), 30)
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(pixels, labels, epochs=12, batch_size=32, verbose=0)
    found = np.argmax(network(pixels, training=False), axis=1)
    assert np.mean(found == labels) > 0.95
    folder = tmp_path_factory.mktemp("archive")
    handler = ROOT / "steps" / "serving" / "inference.py"
    export.write_archive(export.Classifier(network, NAMES, 1.2), {"seed": 7}, handler, folder)
    return folder


@pytest.fixture(scope="session")
def ask_graph(signs_archive: Path) -> Callable[[list[bytes]], dict[str, np.ndarray]]:
    """Asks the SavedModel's signature directly: what every server must answer."""
    loaded = tf.saved_model.load(str(signs_archive / "1"))

    def ask(pictures: list[bytes]) -> dict[str, np.ndarray]:
        answer = loaded.signatures["serving_default"](image_bytes=tf.constant(pictures))
        return {name: value.numpy() for name, value in answer.items()}

    return ask


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ModelProcess]]:
    """Starts model servers that end with the test."""
    started: list[ModelProcess] = []

    def start(archive: Path, **environment: str) -> ModelProcess:
        started.append(ModelProcess(archive, tmp_path / f"server-{len(started)}.log", environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def with_handler(signs_archive: Path, tmp_path: Path) -> Callable[[str | None], Path]:
    """Makes the archive anew with another handler, or with none."""

    def make(code: str | None) -> Path:
        folder = tmp_path / "other"
        shutil.copytree(signs_archive / "1", folder / "1")
        if code is not None:
            (folder / "code").mkdir()
            (folder / "code" / "inference.py").write_text(code)
        return folder

    return make
