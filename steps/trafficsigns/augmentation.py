"""Random changes that leave a sign the same sign: how training sees more streets than were photographed.

Every function works on a whole batch and draws from dice that are given to it, so the same seed gives the same pixels
whatever the number of threads, and whatever the number of machines that share a batch.

Sources: Simard, Steinkraus and Platt, "Best practices for convolutional neural networks", ICDAR 2003 (affine changes of
the view; the tilt is our own); Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional
neural networks", NeurIPS 2012 (changes of light and colour); Temel et al., "CURE-TSR: Challenging unreal and real
environments for traffic sign recognition", 2017 (blur, shadow and haze befall traffic signs; the formulas are our own);
Zhong et al., "Random erasing data augmentation", AAAI 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import tensorflow as tf

from trafficsigns.presets import Disturbances

# Every amplitude is half the width of a uniform distribution around "no change".
_ROTATION = math.radians(15)
_SHIFT = 0.12  # of the side
_SCALE = 0.2
_SHEAR = 0.2
_PERSPECTIVE = 0.2  # change of scale from one edge to the other
_GAIN = 0.15  # of each colour on its own: white balance; a common gain would be undone by the network's normalisation
_GAMMA = 0.3  # in the exponent of 2
_BLUR = 1.0  # largest share of the 3x3 mean
_ERASED = (4.0, 16.0)  # pixels of a missing rectangle's sides, smallest and largest


@dataclass(frozen=True)
class Dice:
    """Random numbers for the images of one batch, or for one machine's share of them.

    Numbers are drawn for all images and then picked, so that an image meets the same fate whoever works on it.
    """

    seed: tf.Tensor
    """Two integers."""
    images: int
    """In the whole batch."""
    share: tuple[int, int] = (0, 1)
    """Which of how many equal pieces of the batch."""

    def split(self, count: int) -> list[Dice]:
        """Return independent dice for the same images."""
        return [Dice(seed, self.images, self.share) for seed in tf.unstack(tf.random.split(self.seed, count))]

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
        """Draw float32 ``[images of the share, *shape]``, uniform from ``low`` to ``high``."""
        drawn = tf.random.stateless_uniform((self.images, *shape), self.seed, low, high)
        piece, pieces = self.share
        return drawn if pieces == 1 else tf.split(drawn, pieces)[piece]


def augment(images: tf.Tensor, dice: Dice, disturbances: Disturbances) -> tf.Tensor:
    """Change a batch of training images at random, and leave each a picture of the same class.

    Takes uint8 ``[n, height, width, 3]`` and dice for them; returns images of the same shape and dtype.
    """
    for_warp, for_blur, for_light, for_shade, for_haze, for_erasing = dice.split(6)
    values = tf.cast(images, tf.float32) / 255.0
    values = warp(values, for_warp)
    values = blur(values, for_blur)
    values = relight(values, for_light)
    if disturbances.shade:
        values = shade(values, for_shade, disturbances.shade)
    if disturbances.haze:
        values = veil(values, for_haze, disturbances.haze)
    if disturbances.erase:
        values = erase(values, for_erasing, disturbances.erase)
    return tf.cast(tf.round(tf.clip_by_value(values, 0.0, 1.0) * 255.0), images.dtype)


def warp(values: tf.Tensor, dice: Dice) -> tf.Tensor:
    """Rotate, scale, shear, shift and tilt each image; what enters from outside repeats the edge.

    Takes and returns float32 ``[n, height, width, 3]``; bilinear.
    """
    size = tf.shape(values)
    matrices = tf.reshape(_projections(tf.cast(size[1], tf.float32), dice), (-1, 9))
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=values,
        transforms=matrices[:, :8] / matrices[:, 8:],
        output_shape=size[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def _projections(side: tf.Tensor, dice: Dice) -> tf.Tensor:
    # Returns [n, 3, 3]: from a place in the result to the place in the image where its colour is fetched.
    draw = dice.uniform(8, low=-1.0, high=1.0)
    angle, wide, high, shear, right, down, tilt_x, tilt_y = tf.unstack(draw, axis=1)
    cos, sin = tf.cos(angle * _ROTATION), tf.sin(angle * _ROTATION)
    zero, one = tf.zeros_like(angle), tf.ones_like(angle)
    tilt = _PERSPECTIVE / side

    def matrix(*rows: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        return tf.transpose(tf.stack([tf.stack(row) for row in rows]), (2, 0, 1))

    centre = (side - 1.0) / 2.0 * one
    to_centre = matrix((one, zero, -centre), (zero, one, -centre), (zero, zero, one))
    rotate = matrix((cos, -sin, zero), (sin, cos, zero), (tilt_x * tilt, tilt_y * tilt, one))
    stretch = matrix((1 + wide * _SCALE, shear * _SHEAR, zero), (zero, 1 + high * _SCALE, zero), (zero, zero, one))
    back = matrix(
        (one, zero, centre + right * _SHIFT * side), (zero, one, centre + down * _SHIFT * side), (zero, zero, one)
    )
    return back @ rotate @ stretch @ to_centre


def blur(values: tf.Tensor, dice: Dice) -> tf.Tensor:
    """Blend each image with its 3x3 mean by a random share, mostly little.

    Takes and returns float32 ``[n, height, width, 3]``, as all that follow.
    """
    share = _BLUR * dice.uniform(1, 1, 1) ** 2
    return values + share * (tf.nn.avg_pool2d(values, 3, 1, "SAME") - values)


def relight(values: tf.Tensor, dice: Dice) -> tf.Tensor:
    """Change each image's tones, as one power of all values from 0 to 1, and its colours, by a gain of each."""
    draw = dice.uniform(1, 1, 4, low=-1.0, high=1.0)
    return (1.0 + _GAIN * draw[..., :3]) * values ** (2.0 ** (_GAMMA * draw[..., 3:]))


def shade(values: tf.Tensor, dice: Dice, strength: float) -> tf.Tensor:
    """Let light fall from one side: a ramp along each axis, by up to ``e ** strength`` at the middle of an edge."""
    line = tf.linspace(-1.0, 1.0, values.shape[1])
    right, down = tf.unstack(dice.uniform(2, low=-strength, high=strength), axis=1)
    ramp = right[:, None, None] * line[None, None, :] + down[:, None, None] * line[None, :, None]
    return values * tf.exp(ramp)[..., None]


def veil(values: tf.Tensor, dice: Dice, strongest: float) -> tf.Tensor:
    """Blend each image with one grey, by a random share up to ``strongest``, mostly little: haze, glare, dirt."""
    draw = dice.uniform(1, 1, 2)
    share = strongest * draw[..., :1] ** 2
    return values + share * (draw[..., 1:] - values)


def erase(values: tf.Tensor, dice: Dice, often: float) -> tf.Tensor:
    """Put a rectangle of one random colour into a share of the images: a branch, a sticker, another sign."""
    side, (smallest, largest) = values.shape[1], _ERASED
    draw = dice.uniform(8)
    centre, half = draw[:, :2] * side, (smallest + (largest - smallest) * draw[:, 2:4]) / 2
    inside = tf.abs(tf.range(side, dtype=tf.float32) - centre[..., None]) < half[..., None]
    gone = inside[:, 0, :, None] & inside[:, 1, None, :] & (draw[:, 4] < often)[:, None, None]
    return tf.where(gone[..., None], draw[:, None, None, 5:], values)
