import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from trafficsigns import images


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth colours with some noise, as pictures have them."""
    rng = np.random.default_rng(height * 1000 + width)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 5), np.cos(y / 7), np.sin((x + y) / 9)], axis=-1) * 90 + 128
    return np.clip(waves + rng.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_decoding_agrees_with_pillow_bit_for_bit(form):
    content = encoded(photograph(47, 61), form)
    with Image.open(io.BytesIO(content)) as picture:
        expected = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(images.decode(content).numpy(), expected)


def test_a_grey_picture_becomes_three_equal_channels():
    grey = photograph(20, 20)[:, :, 0]
    np.testing.assert_array_equal(images.decode(encoded(grey, "PNG")).numpy(), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("content", [b"", b"P6\n1 1\n255\nabc", b"\x89PNG\r\n\x1a\n"], ids=["empty", "ppm", "cut"])
def test_bytes_that_are_no_picture_are_refused(content):
    with pytest.raises(tf.errors.InvalidArgumentError):
        images.decode(content)


def test_a_picture_of_the_right_size_comes_back_unchanged():
    pixels = photograph(32, 32)
    np.testing.assert_array_equal(images.resize(pixels).numpy(), pixels)


@pytest.mark.parametrize(("height", "width"), [(15, 15), (31, 33), (64, 64), (97, 250)])
def test_resizing_is_bilinear_with_antialiasing(height, width):
    pixels = photograph(height, width)
    resized = images.resize(pixels).numpy()
    assert (resized.dtype, resized.shape) == (np.uint8, (32, 32, 3))
    # Pillow's own bilinear filter widens when it shrinks, too; the two round differently.
    reference = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR))
    assert np.abs(resized.astype(int) - reference).max() <= 1


@pytest.mark.parametrize("value", [0, 255])
def test_extreme_colours_do_not_wrap_around(value):
    assert (images.resize(np.full((77, 19, 3), value, np.uint8)).numpy() == value).all()


def test_in_a_graph_the_pixels_are_the_same():
    graph = tf.function(images.resize, [tf.TensorSpec((None, None, 3), tf.uint8)])
    for height, width in ((15, 20), (60, 48), (200, 133)):
        pixels = photograph(height, width)
        np.testing.assert_array_equal(graph(pixels).numpy(), images.resize(pixels).numpy())
