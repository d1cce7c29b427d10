"""Corruptions spoil a picture, more with each severity, and always in the same way."""

import io

import numpy as np
import pytest
from PIL import Image

from trafficsigns import corruptions, robustness
from trafficsigns.corruptions import CORRUPTIONS, SEVERITIES, corrupt


def encoded(pixels: np.ndarray) -> bytes:
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "PNG")
    return body.getvalue()


def decoded(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)))


@pytest.fixture(scope="module", params=[(32, 32), (120, 90)], ids=["small", "large"])
def picture(request) -> np.ndarray:
    """Something with edges, colours and greys of its own."""
    rows, columns = np.mgrid[: request.param[0], : request.param[1]]
    shape = (rows - request.param[0] / 2) ** 2 + (columns - request.param[1] / 2) ** 2 < (request.param[1] / 3) ** 2
    base = np.stack([np.where(shape, 200, 60 + columns % 40), np.where(shape, 30, 90), 40 + rows % 100], axis=2)
    return base.astype(np.uint8)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_severity_spoils_more_and_keeps_size_and_type(kind, picture):
    image = encoded(picture)
    distances = []
    for severity in SEVERITIES:
        spoilt = [decoded(corrupt(image, kind, severity, seed)) for seed in range(6)]
        assert {each.shape for each in spoilt} == {picture.shape}
        assert {each.dtype for each in spoilt} == {np.dtype(np.uint8)}
        distances.append(np.mean([np.abs(each.astype(float) - picture).mean() for each in spoilt]))
    assert 0 < distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_seed_decides_everything(kind, picture):
    image = encoded(picture)
    assert corrupt(image, kind, 2, 5) == corrupt(image, kind, 2, 5)
    if kind in ("noise", "motion", "occlusion"):
        assert corrupt(image, kind, 2, 5) != corrupt(image, kind, 2, 6)


def test_there_are_at_least_eight_in_three_severities():
    assert len(CORRUPTIONS) >= 8
    assert len(SEVERITIES) >= 3
    assert all(function.__doc__ for function in corruptions.CORRUPTIONS.values())


def test_right_answers_are_counted_by_kind_on_a_sample_of_each_class(picture):
    labels = np.array([0] * 12 + [1] * 3)
    chosen = robustness.sample(labels)
    assert len(chosen) == robustness.PER_CLASS + 3
    assert (chosen == robustness.sample(labels)).all()
    asked = []

    def answer(images):
        asked.append(len(images))
        # Knows the first class when the picture is bright, as noise and blur leave it on average.
        return np.zeros(len(images), np.int64)

    found = robustness.measure(answer, [encoded(picture)] * 15, labels)
    assert (found.images, set(asked)) == (13, {13})
    assert len(found.corrupted) == len(CORRUPTIONS) * len(SEVERITIES)
    assert {each.accuracy for each in found.corrupted} == {10 / 13}
    assert found.mean == pytest.approx(found.clean) == pytest.approx(10 / 13)
