import numpy as np
import pytest
import tensorflow as tf

from trafficsigns import augmentation
from trafficsigns.augmentation import Dice
from trafficsigns.presets import Disturbances

ALL = Disturbances(shade=0.5, haze=0.5, erase=0.5)


@pytest.fixture(scope="module")
def images():
    # A bright spot off the centre of a gradient: every geometric change moves something.
    rows, columns = np.mgrid[0:32, 0:32]
    image = np.stack([rows * 4, columns * 4, (rows + columns) * 2], axis=-1).astype(np.uint8)
    image[8:12, 18:24] = 250
    return tf.constant(np.repeat(image[None], 64, axis=0))


def dice(first, second, images=64, share=(0, 1)):
    return Dice(tf.constant([first, second]), images, share)


def test_augmenting_keeps_type_and_shape_and_changes_every_image(images):
    changed = augmentation.augment(images, dice(1, 2), ALL)
    assert changed.dtype == tf.uint8
    assert changed.shape == images.shape
    assert len({image.tobytes() for image in changed.numpy()}) == 64


def test_the_seed_decides_every_pixel(images):
    compiled = tf.function(lambda seed: augmentation.augment(images, Dice(seed, 64), ALL))
    first, again, other = (compiled(tf.constant(seed)) for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_machines_that_share_a_batch_make_together_what_one_alone_makes(images):
    alone = augmentation.augment(images, dice(1, 2), ALL)
    for piece in range(4):
        own = augmentation.augment(images[16 * piece :][:16], dice(1, 2, share=(piece, 4)), ALL)
        np.testing.assert_array_equal(own, alone[16 * piece :][:16])


def test_warping_moves_a_sign_a_little_and_not_away(images):
    values = tf.cast(images, tf.float32) * tf.cast(images > 240, tf.float32)
    warped = augmentation.warp(values, dice(3, 4)).numpy()[..., 0]
    rows, columns = np.mgrid[0:32, 0:32]
    centres = np.array([[np.average(rows, weights=image), np.average(columns, weights=image)] for image in warped])
    distance = np.linalg.norm(centres - (9.5, 20.5), axis=1)
    assert 0.5 < distance.mean() < 5.0
    assert distance.max() < 32 / 3, "a third of the side"
    assert np.linalg.norm(centres.mean(axis=0) - (9.5, 20.5)) < 1.5, "the changes are centred on no change"


@pytest.mark.parametrize("amplitude", ["_ROTATION", "_SHIFT", "_SCALE", "_SHEAR", "_PERSPECTIVE"])
def test_each_part_of_the_warp_has_an_effect(images, monkeypatch, amplitude):
    values = tf.cast(images, tf.float32)
    for name in {"_ROTATION", "_SHIFT", "_SCALE", "_SHEAR", "_PERSPECTIVE"} - {amplitude}:
        monkeypatch.setattr(augmentation, name, 0.0)
    assert np.abs(augmentation.warp(values, dice(3, 4)) - values).mean() > 0.1
    monkeypatch.setattr(augmentation, amplitude, 0.0)
    np.testing.assert_allclose(augmentation.warp(values, dice(3, 4)), values, atol=1e-3)


def test_blur_blends_each_image_with_its_mean_by_a_share_of_its_own_mostly_little():
    noise = tf.random.stateless_uniform((512, 32, 32, 3), (7, 8))
    blurred = augmentation.blur(noise, dice(5, 6, 512)).numpy()
    inside = (slice(None), slice(1, -1), slice(1, -1))
    mean = tf.nn.avg_pool2d(noise, 3, 1, "VALID").numpy()
    towards, moved = mean - noise.numpy()[inside], blurred[inside] - noise.numpy()[inside]
    share = np.sum(moved * towards, axis=(1, 2, 3)) / np.sum(towards**2, axis=(1, 2, 3))
    np.testing.assert_allclose(moved, share[:, None, None, None] * towards, atol=1e-5)
    # The square of what is uniform from 0 to 1 has a median of 1/4 and a mean of 1/3.
    assert share.min() < 0.01
    assert 0.98 < share.max() <= 1.0
    assert np.median(share) == pytest.approx(1 / 4, abs=0.05)
    assert share.mean() == pytest.approx(1 / 3, abs=0.04)


def test_light_changes_each_colour_by_a_gain_of_its_own_and_all_by_one_power():
    values = tf.constant([0.04, 0.2, 0.5])[None, None, :, None] * tf.ones((512, 1, 1, 3))
    logarithms = np.log2(augmentation.relight(values, dice(5, 6, 512)).numpy())[:, 0]
    power = (logarithms[:, 2] - logarithms[:, 0]) / np.log2(0.5 / 0.04)
    np.testing.assert_allclose(power, power[:, :1] * np.ones(3), atol=1e-5)
    gain = 2 ** (logarithms[:, 1] - power * np.log2(0.2))
    for found, lowest, middle, highest in ((np.log2(power[:, 0]), -0.3, 0.0, 0.3), (gain, 0.85, 1.0, 1.15)):
        assert lowest - 1e-4 < found.min() < lowest + 0.01
        assert highest - 0.01 < found.max() < highest + 1e-4
        assert found.mean() == pytest.approx(middle, abs=0.02)
    assert np.ptp(gain, axis=1).mean() > 0.05, "the colours' gains are not the same"


def test_shade_makes_one_side_lighter_and_the_middle_stays():
    grey = tf.fill((64, 33, 33, 3), 0.5)
    shaded = augmentation.shade(grey, dice(5, 6), 0.5).numpy()
    np.testing.assert_allclose(shaded[:, 16, 16], 0.5, rtol=1e-5)
    ends = shaded[:, 16, 32, 0] / shaded[:, 16, 0, 0]
    assert ends.min() < 0.6, "some are lit from the left"
    assert ends.max() > 1.6, "some from the right"
    assert ends.max() <= np.exp(1.0) + 1e-5
    assert 1.0 < np.abs(np.log(shaded / 0.5)).max() / 0.5 <= 2.0 + 1e-5, "in a corner two ramps meet"


def test_haze_takes_contrast_away_but_not_all_of_it(images):
    values = tf.cast(images, tf.float32) / 255.0
    left = np.std(augmentation.veil(values, dice(5, 6), 0.6), axis=(1, 2, 3)) / np.std(values, axis=(1, 2, 3))
    assert left.min() > 0.35
    assert 0.6 < left.mean() < 0.95


def test_erasing_puts_one_rectangle_into_as_many_images_as_asked():
    erased = augmentation.erase(tf.zeros((64, 32, 32, 3)), dice(5, 6), 0.5).numpy().any(axis=-1)
    touched = erased.any(axis=(1, 2))
    assert 20 <= touched.sum() <= 44
    for picture in erased[touched]:
        rows, columns = picture.any(axis=1), picture.any(axis=0)
        assert picture.sum() == rows.sum() * columns.sum(), "it is a rectangle"
        assert max(rows.sum(), columns.sum()) <= 17
