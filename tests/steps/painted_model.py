"""A model whose every answer is painted into its images, and an evaluation that is run on it.

The tiny model reads an image's first pixel: red is the class it answers, green the probability it gives it (of 255),
and any blue makes it answer NaN. So each test knows by hand what must come out. Test files take the fixtures by
``pytest_plugins``.
"""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
import tensorflow as tf
from PIL import Image

import evaluate
from trafficsigns import records

NAMES = ("Stop", "Give way", "No entry", "Priority road", "Roundabout", "Wild animals")
WRITTEN = {
    "evaluation.json", "report.html", "model-card.json", "model-card.md", "package-card.json",
    "golden", "samples", "model-quality", "explainability",
}  # fmt: skip
BOUNDS = {
    "--minimum-accuracy": "0.5",
    "--minimum-class-recall": "0.5",
    "--maximum-calibration-error": "0.3",
    "--minimum-corrupted-accuracy": "0",
    "--maximum-latency-ratio": "1000",
    "--maximum-archive-megabytes": "25",
    "--champion-significance": "0.05",
}


class Painted(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(self, image_bytes):
        pixels = tf.map_fn(
            lambda png: tf.io.decode_png(png, channels=3)[0, 0], image_bytes, fn_output_signature=tf.uint8
        )
        answer = tf.one_hot(tf.cast(pixels[:, 0], tf.int32), len(NAMES))
        given = tf.cast(pixels[:, 1:2], tf.float32) / 255
        probabilities = answer * given + (1 - answer) * (1 - given) / (len(NAMES) - 1)
        probabilities = tf.where(pixels[:, 2:] > 0, float("nan"), probabilities)
        best, ids = tf.math.top_k(probabilities, 5)
        names = tf.gather(tf.constant(NAMES), ids)
        return {
            "probabilities": probabilities,
            "class_id": tf.cast(ids[:, 0], tf.int64),
            "class_name": names[:, 0],
            "probability": best[:, 0],
            "top_class_ids": tf.cast(ids, tf.int64),
            "top_class_names": names,
            "top_probabilities": best,
        }


def painted(answer: int, probability: float = 0.8, poison: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (answer, round(probability * 255), poison)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_training(archive: Path, content: object) -> None:
    path = archive / "1" / "assets.extra" / "training.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def write_test_set(directory: Path, rows: list[tuple[bytes, int]]) -> None:
    records.write((records.example(png, label, "", f"{n:05d}.ppm") for n, (png, label) in enumerate(rows)), directory)


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "1"
    module = Painted()
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.serve})
    return directory


@pytest.fixture
def archive(tmp_path, saved_model) -> Path:
    root = tmp_path / "archive"
    shutil.copytree(saved_model, root / "1")
    history = [{"epoch": 1, "loss": 1.5, "accuracy": 0.6, "validation_loss": 1.4, "validation_accuracy": 0.65}]
    write_training(root, {"architecture": "painted", "classes": NAMES, "selected_epoch": 1, "history": history})
    return root


@pytest.fixture
def model_dir(tmp_path, archive) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    with tarfile.open(directory / "model.tar.gz", "w:gz") as packed:
        packed.add(archive, arcname=".")
    return directory


@pytest.fixture
def test_dir(tmp_path) -> Path:
    """Four images of each of five classes, one of the last answered wrongly; none of "Wild animals"."""
    rows = [(painted(label, 0.8 + 0.01 * copy), label) for copy in range(4) for label in range(5)]
    rows[4] = (painted(0, 0.99), 4)
    write_test_set(tmp_path / "test", rows)
    return tmp_path / "test"


@pytest.fixture
def run(tmp_path, model_dir, test_dir, monkeypatch):
    (tmp_path / "job").mkdir()
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path / "job"))

    def run(*more: str, model: Path = model_dir, test: Path = test_dir, **bounds: str) -> int:
        options = {"--model-dir": model, "--test-dir": test, "--output-dir": tmp_path / "out", **BOUNDS}
        options |= {f"--{name.replace('_', '-')}": value for name, value in bounds.items()}
        return evaluate.main([str(word) for pair in options.items() for word in pair] + list(more))

    return run


def read_strictly(path: Path):
    def refuse(constant: str):
        raise AssertionError(f"{path} holds {constant}, which is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
