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
    asked, whole = [], encoded(picture)

    def answer(images):
        """Knows the first class of whatever picture, and the second of one that nothing has happened to."""
        asked.append(len(images))
        known = [np.array_equal(decoded(image), picture) for image in images]
        return np.where(labels[chosen] == 0, 0, np.where(known, 1, 0))

    found = robustness.measure(answer, [whole] * 15, labels)
    assert (found.images, set(asked)) == (13, {13})
    assert len(found.corrupted) == len(CORRUPTIONS) * len(SEVERITIES)
    assert found.clean == 1.0
    assert {each.accuracy for each in found.corrupted} == {10 / 13}
    assert found.mean == pytest.approx(10 / 13)


def test_accuracies_belong_to_their_kind_and_severity():
    flat = np.full((32, 32, 3), 100, np.uint8)

    def answer(images):
        """Knows a picture as long as its mean is what it was: light moves that, and hardly anything else."""
        return np.array([0 if abs(decoded(image).mean() - 100) < 12 else 1 for image in images])

    found = robustness.measure(answer, [encoded(flat)] * 10, np.zeros(10, np.int64))
    by_kind = {(each.kind, each.severity): each.accuracy for each in found.corrupted}
    assert {kind for kind, _ in by_kind if by_kind[kind, 3] == 0.0} == {"light"}
    assert all(
        by_kind[kind, severity] == 1.0 for kind in ("blur", "motion", "contrast", "rotation") for severity in SEVERITIES
    )
    assert found.mean == pytest.approx(np.mean(list(by_kind.values())))
