"""The LiteRT engine says what the graph says, on many pictures of every kind that clients send."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from contract_bodies import deep_png
from PIL import Image
from signs_drawn import NAMES, drawn, encoded

from infra.local.endpoints.serving.engines import DEFAULT_SIGNATURE, Array, BadRequest, open_engine
from infra.local.endpoints.serving.litert_engine import LiteRtEngine, decode
from trafficsigns import images, lite, signatures

TOLERANCE = 1e-3
"""The largest difference of a probability; docs/serving.md says the same."""


def pictures() -> list[bytes]:
    """Return 400 pictures of 15 to 250 pixels a side, as GTSRB has them, every third a JPEG."""
    chance = np.random.default_rng(8)
    made = []
    for index in range(400):
        height, width = chance.integers(15, 251, 2)
        form = "JPEG" if index % 3 == 0 else "PNG"
        sign, other = (drawn((index + add) % len(NAMES), 5000 + index, int(height), int(width)) for add in (0, 5))
        # Something of another sign lies over it, so that the model doubts.
        made.append(
            encoded(np.asarray(Image.blend(*map(Image.fromarray, (sign, other)), chance.uniform(0.3, 0.5))), form)
        )
    return made


def as_input(encoded_pictures: list[bytes]) -> dict[str, Array]:
    values = np.empty(len(encoded_pictures), dtype=object)
    values[:] = encoded_pictures
    return {"image_bytes": values}


def test_labels_are_equal_and_probabilities_close(signs_archive: Path, ask_graph: Callable) -> None:
    sent = pictures()
    truth = ask_graph(sent)
    answers = open_engine(signs_archive / "1", "litert").run(DEFAULT_SIGNATURE, as_input(sent))
    assert answers.keys() == truth.keys()
    np.testing.assert_array_equal(answers["class_id"], truth["class_id"])
    np.testing.assert_array_equal(answers["class_name"].astype(bytes), truth["class_name"].astype(bytes))
    for name in ("probabilities", "probability", "top_probabilities"):
        np.testing.assert_allclose(answers[name], truth[name], atol=TOLERANCE)
    doubts = np.mean(truth["probability"] < 0.9)
    assert 0.1 < doubts < 0.9, "confident answers would agree whatever is wrong"


@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 3, 4, 7])
def test_however_rows_are_divided_each_keeps_its_answer(signs_archive: Path, cores: int, rows: int) -> None:
    sent = [encoded(drawn(index, 40 + index, 48, 48), "PNG") for index in range(rows)]
    engine = LiteRtEngine(signs_archive / "1", cores)
    together = engine.run(DEFAULT_SIGNATURE, as_input(sent))
    assert len(together["probabilities"]) == rows
    for index, picture in enumerate(sent):
        alone = engine.run(DEFAULT_SIGNATURE, as_input([picture]))
        np.testing.assert_allclose(together["probabilities"][index], alone["probabilities"][0], atol=1e-5)


def test_a_call_without_pictures_is_refused(signs_archive: Path) -> None:
    with pytest.raises(BadRequest, match="without pictures"):
        LiteRtEngine(signs_archive / "1").run(DEFAULT_SIGNATURE, as_input([]))


def test_a_refusal_in_one_share_is_a_refusal_and_leaves_the_engine_well(signs_archive: Path) -> None:
    engine = LiteRtEngine(signs_archive / "1", 3)
    good = [encoded(drawn(index, 40, 48, 48), "PNG") for index in range(8)]
    with pytest.raises(BadRequest):
        engine.run(DEFAULT_SIGNATURE, as_input([*good, b"none"]))
    assert len(engine.run(DEFAULT_SIGNATURE, as_input(good))["class_id"]) == 8


def test_both_engines_describe_the_same_inputs_and_outputs(signs_archive: Path) -> None:
    ours, theirs = (open_engine(signs_archive / "1", name).signatures for name in ("litert", "tensorflow"))
    # The signature that explains is for evaluation, which has TensorFlow.
    assert ours.keys() == {DEFAULT_SIGNATURE}
    assert theirs.keys() == {DEFAULT_SIGNATURE, signatures.EXPLAIN}
    one, other = ours[DEFAULT_SIGNATURE], theirs[DEFAULT_SIGNATURE]
    assert one.inputs == other.inputs
    assert one.outputs.keys() == other.outputs.keys()
    assert one.by_rows
    assert other.by_rows


@pytest.mark.parametrize("size", [(32, 32), (15, 15), (250, 243), (31, 97), (1, 1), (48, 32), (33, 600), (2, 900)])
def test_resizing_by_matrices_is_tensorflows_but_for_ties(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(size).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    ours = lite.resize(tf.constant(pixels)).numpy()
    theirs = np.stack([images.resize(each).numpy() for each in pixels])
    difference = np.abs(ours - theirs)
    assert difference.max() <= 1
    # A side that shrinks or grows by a power of two has many ties.
    assert np.mean(difference > 0) < 0.01


def saved(mode: str, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(drawn(3, 1, 37, 41)).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        saved("RGB", "PNG"),
        saved("RGBA", "PNG"),
        saved("L", "PNG"),
        saved("LA", "PNG"),
        saved("1", "PNG"),
        saved("P", "PNG"),
        saved("P", "PNG", transparency=3),
        saved("RGB", "PNG", compress_level=9),
        saved("I;16", "PNG"),
        deep_png().content,
        saved("RGB", "JPEG"),
        saved("L", "JPEG"),
        saved("RGB", "JPEG", progressive=True, quality=20),
        saved("RGB", "JPEG", subsampling=0),
        saved("RGB", "JPEG", subsampling=2, quality=60),
        saved("RGB", "GIF"),
    ],
    ids=range(16),
)
def test_pillow_decodes_as_tensorflow_does(content: bytes) -> None:
    np.testing.assert_array_equal(decode(content), images.decode(content).numpy())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"none",
        b"P6\n1 1\n255\nabc",
        saved("RGB", "PNG")[:60],
        saved("RGB", "PNG")[:-200],
        saved("RGB", "JPEG")[:200],
        saved("RGB", "PNG").replace(b"IDAT", b"IDOT"),
        saved("RGB", "BMP"),
    ],
    ids=range(8),
)
def test_what_tensorflow_refuses_pillow_refuses(content: bytes) -> None:
    with pytest.raises(BadRequest, match="cannot be decoded"):
        decode(content)
    if not content.startswith(b"BM"):
        with pytest.raises(tf.errors.InvalidArgumentError):
            images.decode(content)
