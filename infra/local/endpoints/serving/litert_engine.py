"""LiteRT (once TensorFlow Lite) as an engine: an interpreter that starts in a fraction of a second.

It runs ``assets.extra/model.tflite`` of a version's folder. LiteRT has no operation that decodes a picture, so one rule
takes its place: an input of type uint8 and shape [n, height, width, 3], all but the last free, stands for encoded
pictures. A request gives these as strings, like the SavedModel's own signature, and they are decoded here, by Pillow,
which agrees with TensorFlow's accurate JPEG decoding bit for bit. Every other input is taken as it is.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, SignatureRunner
from PIL import Image

from infra.local.endpoints.serving import workers
from infra.local.endpoints.serving.engines import Array, BadRequest, Signature, Spec, UnservableArchive

MODEL = Path("assets.extra") / "model.tflite"

MOST_PIXELS = 2**25
"""Of one picture."""

SHARE = 2
"""Rows that another interpreter is woken for, at least."""

MOST_COPIES = 8
"""Each holds its own weights, and one thread that reads requests cannot feed more."""

CALL_PIXELS = 2**22
"""Of the pictures that all interpreters answer for at once, and hold as floats: 50 MB. A larger one goes alone."""


class _Copy:
    """A model in an interpreter with one thread, which also decodes the pictures that it is given."""

    def __init__(self, path: Path, most_pixels: int) -> None:
        # Kept, because the runners point into it.
        self._interpreter = Interpreter(str(path), num_threads=1)
        names = self._interpreter.get_signature_list()
        self.runners = {name: self._interpreter.get_signature_runner(name) for name in names}
        self.pictures = {name: _picture_inputs(runner) for name, runner in self.runners.items()}
        self._most_pixels = most_pixels

    def run(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Answer; pictures of one size go together. Raises ``BadRequest``."""
        pictures = self.pictures[signature]
        if not pictures:
            return self._call(signature, inputs)
        decoded = {name: [decode(each) for each in inputs[name]] for name in pictures}
        parts, order = [], []
        for rows in _alike(list(decoded.values()), self._most_pixels):
            stacked = {name: np.stack([decoded[name][row] for row in rows]) for name in pictures}
            others = {name: values[rows] for name, values in inputs.items() if name not in pictures}
            parts.append(self._call(signature, {**others, **stacked}))
            order += rows
        if not parts:
            raise BadRequest("a call without pictures: LiteRT runs no graph on nothing")
        if len(parts) == 1:
            return parts[0]
        back = np.argsort(order)
        return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}

    def _call(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            return dict(self.runners[signature](**inputs))
        except (ValueError, RuntimeError) as error:
            raise BadRequest(str(error)) from error


class LiteRtEngine:
    """A model in as many interpreters as this process has of the processor's cores, up to ``MOST_COPIES``.

    The rows of a call are divided among them, to be decoded and answered. That costs next to nothing, where threads
    inside one interpreter would meet at each layer.
    """

    def __init__(self, folder: Path, cores: int = 0) -> None:
        path = folder / MODEL
        if not path.is_file():
            raise UnservableArchive(f"{path} is missing, which the engine litert runs: use the engine tensorflow")
        cores = cores or min(MOST_COPIES, max(1, (os.cpu_count() or 1) // workers.count(os.environ)))
        try:
            self._copies = [_Copy(path, CALL_PIXELS // cores) for _ in range(cores)]
        except (ValueError, RuntimeError) as error:
            raise UnservableArchive(f"{path} is no model that LiteRT can load: {error}") from error
        self._others = ThreadPoolExecutor(max(1, cores - 1), "litert")
        first = self._copies[0]
        self.signatures: Mapping[str, Signature] = {
            name: _signature(runner, first.pictures[name]) for name, runner in first.runners.items()
        }

    def run(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Answer one call. Raises ``BadRequest``."""
        first, *shares = self._shares(signature, inputs)
        others = [
            self._others.submit(copy.run, signature, share)
            for copy, share in zip(self._copies[1:], shares, strict=False)
        ]
        try:
            answers = [self._copies[0].run(signature, first), *(other.result() for other in others)]
        finally:
            # Of an interpreter that is still at work nothing more may be asked.
            wait(others)
        if len(answers) == 1:
            return answers[0]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _shares(self, signature: str, inputs: Mapping[str, Array]) -> list[Mapping[str, Array]]:
        """Divide the rows among the interpreters, if it is rows that the signature has, and enough of them."""
        if not self.signatures[signature].by_rows:
            return [inputs]
        rows = {len(value) for value in inputs.values()}
        count = min(len(self._copies), min(rows) // SHARE)
        if count < 2 or len(rows) > 1:
            return [inputs]
        cut = {name: np.array_split(value, count) for name, value in inputs.items()}
        return [{name: values[number] for name, values in cut.items()} for number in range(count)]


def decode(encoded: bytes) -> Array:
    """Decode one PNG, JPEG or GIF picture to uint8 ``[height, width, 3]``. Raises ``BadRequest``."""
    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG", "GIF")) as image:
            if image.width * image.height > MOST_PIXELS:
                raise BadRequest(f"a picture of {image.width}x{image.height} has more than {MOST_PIXELS} pixels")
            if image.mode.startswith("I"):
                # Sixteen bits of grey: the upper eight are what TensorFlow keeps, and Pillow would cut at 255 instead.
                grey = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    # Pillow's plugins answer damaged files with one of these.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError) as error:
        raise BadRequest(f"a picture ({len(encoded)} bytes) cannot be decoded: {error}") from error


def _alike(columns: list[list[Array]], most_pixels: int) -> Iterator[list[int]]:
    """Yield the numbers of rows whose pictures have the same sizes, no more together than a call may hold."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row, pictures in enumerate(zip(*columns, strict=True)):
        groups.setdefault(tuple(picture.shape for picture in pictures), []).append(row)
    for shapes, rows in groups.items():
        most = max(1, most_pixels // sum(shape[0] * shape[1] for shape in shapes))
        for start in range(0, len(rows), most):
            yield rows[start : start + most]


def _picture_inputs(runner: SignatureRunner) -> list[str]:
    details = runner.get_input_details()
    return [
        name for name, detail in details.items() if _spec(detail) == Spec(np.dtype(np.uint8), (None, None, None, 3))
    ]


def _signature(runner: SignatureRunner, pictures: list[str]) -> Signature:
    inputs = {name: _spec(detail) for name, detail in runner.get_input_details().items()}
    encoded = {name: Spec(np.dtype(object), (None,)) for name in pictures}
    return Signature(
        {**inputs, **encoded}, {name: _spec(detail) for name, detail in runner.get_output_details().items()}
    )


def _spec(detail: Mapping[str, Any]) -> Spec:
    dtype = np.dtype(object) if detail["dtype"] in (np.bytes_, np.str_) else np.dtype(detail["dtype"])
    return Spec(dtype, tuple(None if length < 0 else int(length) for length in detail["shape_signature"]))
