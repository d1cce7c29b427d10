"""A model archive as training leaves it, opened and asked through the signature that serves clients.

Nothing of the network is rebuilt here: what is judged is the very graph that the endpoint will run.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trafficsigns import signatures
from trafficsigns.failures import StepError

ARCHIVE = "model.tar.gz"

_OUTPUTS = ("probabilities", "class_id", "class_name", "probability")
_FOR_CLIENTS = ("top_class_ids", "top_class_names", "top_probabilities")
_WAY_OUT = "was it written by steps/train.py?"
_TOLD = {"history": list, "hyperparameters": dict, "versions": dict, "parameters": int, "selected_epoch": int}
"""What an archive may tell of its making, and what these are in JSON."""


@dataclass(frozen=True)
class Answers:
    """What the signature says to a list of images, one row an image."""

    probabilities: npt.NDArray[np.float32]
    """``[images, classes]``"""
    class_id: npt.NDArray[np.int64]
    class_name: tuple[str, ...]
    probability: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """A loaded archive."""

    directory: Path
    """The unpacked archive, holding ``1/``."""
    training: Mapping[str, Any]
    """What ``training.json`` tells of the model's making."""
    saved: Any
    """The loaded SavedModel; its signatures' variables live only as long as this object is held."""
    origin: Path
    """What messages call it: the folder, or the packed archive that the folder was unpacked from."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names in the order of their identifiers."""
        return tuple(self.training["classes"])

    def answer(self, images: Sequence[bytes], batch: int = 256) -> Answers:
        """Send encoded images through the signature, ``batch`` at a time.

        Raises ``StepError`` when the graph refuses an image, or when its answers contradict each other: identifier,
        name and probability must be those of the largest of as many probabilities as there are classes.
        """
        signature = self.saved.signatures[signatures.SERVING]
        parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in _OUTPUTS}
        for start in range(0, len(images), batch):
            try:
                outputs = signature(**{signatures.IMAGES: tf.constant(images[start : start + batch])})
            except tf.errors.InvalidArgumentError as error:
                last = min(start + batch, len(images)) - 1
                detail = re.sub(r"{{.*?}} ?|\[Op:.*", "", error.message.splitlines()[0]).strip()
                raise StepError(
                    f"the test split's images {start} to {last}: the model refuses one of them ({detail}); "
                    "expected PNG files as steps/preprocess.py writes them"
                ) from error
            for name in _OUTPUTS:
                parts[name].append(outputs[name].numpy())
        whole = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        answers = Answers(
            probabilities=whole["probabilities"],
            class_id=whole["class_id"],
            class_name=tuple(name.decode() for name in whole["class_name"]),
            probability=whole["probability"],
        )
        self._check(answers)
        return answers

    def explain(self, image: bytes, name: str = "the image") -> dict[str, npt.NDArray[np.float32]]:
        """Return the feature maps of one encoded image, and the filters; nothing from an archive that shows none.

        Raises ``StepError``, with the image's ``name``, when the graph refuses it.
        """
        if signatures.EXPLAIN not in self.saved.signatures:
            return {}
        try:
            outputs = self.saved.signatures[signatures.EXPLAIN](**{signatures.IMAGES: tf.constant([image])})
        except tf.errors.OpError as error:
            raise StepError(f"{name} cannot be decoded: a PNG or JPEG file of a usual size is needed") from error
        return {name: value.numpy() for name, value in outputs.items()}

    def weights_digest(self) -> str:
        """Return the SHA-256 of all weights, with their names, whatever the archive's time stamps are."""
        reader = tf.train.load_checkpoint(str(self.directory / "1" / "variables" / "variables"))
        total = hashlib.sha256()
        for name in sorted(reader.get_variable_to_shape_map()):
            # This one is no weight: it tells which Python object holds which of them.
            if name != "_CHECKPOINTABLE_OBJECT_GRAPH":
                total.update(f"{name}\0".encode())
                total.update(np.ascontiguousarray(reader.get_tensor(name)).tobytes())
        return total.hexdigest()

    def _check(self, answers: Answers) -> None:
        """Refuse answers that say one thing in numbers and another in names."""
        width = answers.probabilities.shape[1]
        if width != len(self.classes):
            raise StepError(
                f"{self.origin}: the model answers {width} probabilities, but training.json names "
                f"{len(self.classes)} classes; export both from one training run"
            )
        class_id = np.clip(answers.class_id, 0, width - 1)
        chosen = answers.probabilities[np.arange(len(class_id)), class_id]
        highest = answers.probabilities.max(axis=1)
        # NaN is the metrics' business: equal_nan keeps this check from reporting it under another name.
        agree = np.isclose(chosen, highest, equal_nan=True) & np.isclose(answers.probability, highest, equal_nan=True)
        names = tuple(self.classes[identifier] for identifier in class_id)
        if not agree.all() or names != answers.class_name or (class_id != answers.class_id).any():
            raise StepError(
                f"{self.origin}: class_id, class_name and probability are not those of the largest of "
                f"probabilities; the signature {signatures.SERVING} contradicts itself"
            )


def unpack(model_dir: Path, scratch: Path) -> Path:
    """Find or make the unpacked archive and return the folder that holds ``1/``.

    ``model_dir`` is an unpacked archive itself or holds ``model.tar.gz``, which is then extracted into ``scratch``.
    Raises ``StepError`` when neither is there, for a file, and when the archive is truncated or reaches outside its
    folder.
    """
    if (model_dir / "1").is_dir():
        return model_dir
    packed = model_dir / ARCHIVE
    if model_dir.is_file():
        raise StepError(f"{model_dir}: is a file; name the folder that holds {ARCHIVE}, or an unpacked archive")
    if not packed.is_file():
        raise StepError(f"{model_dir}: holds neither {ARCHIVE} nor an unpacked archive's folder 1/; {_WAY_OUT}")
    try:
        with tarfile.open(packed, "r:gz") as archive:
            # A plain extraction would follow "../" and absolute names out of the folder.
            archive.extractall(scratch, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise StepError(f"{packed}: could not be extracted as a gzipped tar archive ({error}); {_WAY_OUT}") from error
    if not (scratch / "1").is_dir():
        raise StepError(f"{packed}: has no folder 1/ at its root, where a SavedModel is expected; {_WAY_OUT}")
    return scratch


def opened(model_dir: Path, scratch: Path) -> Model:
    """Load an archive, packed or not; what is packed is unpacked into ``scratch``.

    Raises ``StepError`` as ``unpack`` and ``load`` do.
    """
    directory = unpack(model_dir, scratch)
    return load(directory, model_dir if directory == model_dir else model_dir / ARCHIVE)


def load(directory: Path, origin: Path | None = None) -> Model:
    """Load the SavedModel and its training notes from an unpacked archive, which messages call ``origin``.

    Raises ``StepError`` when either is missing or unreadable, or when the signature is not the one that serving needs.
    """
    origin = origin or directory
    training = _training(directory, origin)
    saved = origin / "1"
    try:
        loaded = tf.saved_model.load(str(directory / "1"))
    except (OSError, ValueError) as error:
        raise StepError(f"{saved}: not a readable SavedModel ({error}); {_WAY_OUT}") from error
    if signatures.SERVING not in loaded.signatures:
        raise StepError(f"{saved}: has no signature {signatures.SERVING}; {_WAY_OUT}")
    signature = loaded.signatures[signatures.SERVING]
    inputs = signature.structured_input_signature[1]
    missing = sorted({*_OUTPUTS, *_FOR_CLIENTS} - set(signature.structured_outputs))
    if not _takes_encoded_images(inputs) or missing:
        taken = ", ".join(f"{name}: {spec.dtype.name} {spec.shape}" for name, spec in sorted(inputs.items()))
        raise StepError(
            f"{saved}: {signatures.SERVING} must take {signatures.IMAGES}, strings (None,), alone (it takes {taken}) "
            f"and lacks the outputs: {', '.join(missing) or 'none'}; {_WAY_OUT}"
        )
    return Model(directory, training, loaded, origin)


def _takes_encoded_images(inputs: Mapping[str, tf.TensorSpec]) -> bool:
    return (
        list(inputs) == [signatures.IMAGES]
        and inputs[signatures.IMAGES].dtype == tf.string
        and inputs[signatures.IMAGES].shape.is_compatible_with([None])
    )


def _training(directory: Path, origin: Path) -> Mapping[str, Any]:
    inside = Path("1", "assets.extra", "training.json")
    path = origin / inside
    try:
        # A diverged run may have written NaN, which is no JSON; it must not travel into the evaluation.
        content = json.loads((directory / inside).read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except FileNotFoundError as error:
        raise StepError(f"{path}: missing; {_WAY_OUT}") from error
    except ValueError as error:
        raise StepError(f"{path}: not JSON ({error}); {_WAY_OUT}") from error
    classes = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise StepError(f"{path}: needs a list of class names under 'classes'; {_WAY_OUT}")
    for key, kind in _TOLD.items():
        if content.get(key) is not None and not isinstance(content[key], kind):
            raise StepError(f"{path}: {key!r} is {content[key]!r:.60}, expected {kind.__name__}; {_WAY_OUT}")
    for row in content.get("history") or ():
        if not isinstance(row, dict) or not isinstance(row.get("epoch"), int):
            raise StepError(f"{path}: 'history' holds {row!r:.60}, expected an epoch's figures; {_WAY_OUT}")
    return dict(content)
