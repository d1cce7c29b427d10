import io
import itertools
import math

import numpy as np
import pytest
from PIL import Image

from trafficsigns import attribution, features, zones

SIDE = 32


def encode(pixels):
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "PNG")
    return body.getvalue()


def decode(picture):
    return np.asarray(Image.open(io.BytesIO(picture))).astype(np.float64)


def scene(*lit):
    """A grey picture of random grain with white places, each a box of rows and columns."""
    pixels = np.random.default_rng(0).integers(90, 110, (SIDE, SIDE, 3), dtype=np.uint8)
    for box in lit:
        pixels[box] = 250
    return encode(pixels)


TOP_LEFT, LOW_RIGHT = np.s_[3:9, 3:9], np.s_[22:28, 22:28]


def looks_at(first, second):
    """A model of two classes, whose scores are how bright two places are."""

    def answer(pictures):
        scores = np.array([[decode(each)[place].mean() / 60 for place in (first, second)] for each in pictures])
        exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)

    return answer


def test_the_parts_cover_a_picture_once():
    for side in (8, 32, 33):
        assert (zones.masks(side).sum(axis=0) == 1).all()
    areas = dict(zip(zones.NAMES, zones.masks(256).mean(axis=(1, 2)), strict=True))
    assert areas["centre"] == pytest.approx(math.pi / 4 * zones.CENTRE**2, abs=0.002)
    assert areas["top"] == pytest.approx(areas["left"], abs=0.002)
    masks = dict(zip(zones.NAMES, zones.masks(SIDE), strict=True))
    assert masks["top"][4, 16] and masks["right"][16, 28] and masks["surroundings"][0, 0] and masks["centre"][16, 16]


def test_shares_are_means_over_all_orders_of_joining():
    """The definition itself: what a player adds to those who came before, over all orders."""
    payoffs = np.random.default_rng(1).random((2, 2**4))
    expected = np.zeros((2, 4))
    for order in itertools.permutations(range(4)):
        there = 0
        for player in order:
            expected[:, player] += payoffs[:, there | 1 << player] - payoffs[:, there]
            there |= 1 << player
    np.testing.assert_allclose(attribution.shapley(payoffs), expected / math.factorial(4))


def test_shares_add_up_and_who_adds_nothing_has_none():
    payoffs = np.array([[0.1 * (mask & 1) + 0.4 * (mask >> 1 & 1) for mask in range(8)]])
    np.testing.assert_allclose(attribution.shapley(payoffs), [[0.1, 0.4, 0.0]], atol=1e-12)


def test_an_answer_is_attributed_to_the_part_that_it_rests_on():
    centre = np.s_[12:20, 12:20]
    answer = looks_at(centre, np.s_[0:2, 0:2])
    pictures = [scene(centre), scene(centre), scene()]
    found = attribution.explain(answer, pictures, np.array([0, 0, 1]))
    assert found.images == 2  # one of each class
    shares = {part.name: part.mean for part in found.parts}
    assert max(shares, key=shares.get) == "centre"
    assert shares["centre"] > 10 * max(abs(shares[name]) for name in ("top", "right", "bottom", "left"))
    assert found.covered + sum(shares.values()) == pytest.approx(found.seen)
    assert all(part.mean_absolute >= abs(part.mean) - 1e-12 for part in found.parts)
    assert found == attribution.explain(answer, pictures, np.array([0, 0, 1]))


def test_the_reasons_of_a_mistake_lie_where_each_class_is_seen():
    mapped = attribution.reasons(looks_at(TOP_LEFT, LOW_RIGHT), scene(TOP_LEFT, LOW_RIGHT), answered=0, true=1)
    assert mapped.shape == (SIDE, SIDE)
    assert mapped[TOP_LEFT].min() > 0.05
    assert mapped[LOW_RIGHT].max() < -0.05
    assert np.unravel_index(mapped.argmax(), mapped.shape) == pytest.approx((5.5, 5.5), abs=3)
    assert abs(mapped[3:9, 22:28]).max() < 0.3 * mapped.max()
    turned = attribution.reasons(looks_at(TOP_LEFT, LOW_RIGHT), scene(TOP_LEFT, LOW_RIGHT), answered=1, true=0)
    np.testing.assert_allclose(turned, -mapped)


def test_what_is_painted_is_red_where_the_map_is_high_and_blue_where_it_is_low():
    values = np.zeros((SIDE, SIDE))
    values[TOP_LEFT], values[LOW_RIGHT] = 2.0, -2.0
    painted = decode(features.heat(np.full((SIDE, SIDE, 3), 128, np.uint8), values))
    assert painted.shape == (96, 96, 3)
    red, _, blue = np.moveaxis(painted, -1, 0)
    assert (red - blue)[15:21, 15:21].min() > 100
    assert (blue - red)[72:78, 72:78].min() > 100
    assert abs(red - blue)[45:51, 45:51].max() == 0
    assert np.ptp(decode(features.heat(np.full((SIDE, SIDE, 3), 128, np.uint8), np.zeros((SIDE, SIDE))))) == 0


def test_an_analysis_is_laid_out_as_clarify_does():
    parts = (attribution.Part("centre", -0.1, 0.3), attribution.Part("top", 0.2, 0.2))
    assert attribution.clarify(attribution.Explanation(5, 0.25, 0.35, parts)) == {
        "version": "1.0",
        "explanations": {
            "kernel_shap": {"label0": {"global_shap_values": {"centre": 0.3, "top": 0.2}, "expected_value": 0.25}}
        },
    }
