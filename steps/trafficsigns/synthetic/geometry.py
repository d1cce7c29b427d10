"""Where a flat sign lands in an image: plane homographies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Matrix = npt.NDArray[np.float64]

_DISTANCE = 4.0
"""From the camera to the sign, in half sign widths: near enough for tilted signs to taper visibly."""


@dataclass(frozen=True)
class Pose:
    """How a sign is turned, in degrees: about its upright axis, its level axis, and the line of sight."""

    yaw: float
    pitch: float
    roll: float

    def homography(self) -> Matrix:
        """Map the sign's plane (-1 to 1 both ways) to the image plane, through a pinhole."""
        yaw, pitch, roll = map(math.radians, (self.yaw, self.pitch, self.roll))
        about_y = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
        about_x = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
        about_z = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
        rotation = about_z @ about_y @ about_x
        # A point of the plane has no third coordinate, so the rotation's third column never matters.
        homography = np.eye(3)
        homography[:2, :2] = rotation[:2, :2]
        homography[2, :2] = rotation[2, :2] / _DISTANCE
        return homography


def scaling(factor: float, x: float = 0.0, y: float = 0.0) -> Matrix:
    """Scale, then move."""
    return np.array([[factor, 0, x], [0, factor, y], [0, 0, 1]])


def outline(face: Image.Image) -> Matrix:
    """Return where a face is opaque, in its plane (-1 to 1): float64 ``[points, 2]``, the outermost of each row."""
    opaque = np.asarray(face.getchannel("A")) >= 128
    rows = np.flatnonzero(opaque.any(axis=1))
    left = opaque[rows].argmax(axis=1)
    right = face.width - opaque[rows, ::-1].argmax(axis=1)
    corners = [np.stack([x, y], axis=1) for x in (left, right) for y in (rows, rows + 1)]
    return np.concatenate(corners) / (face.width / 2) - 1


def project(homography: Matrix, points: Matrix) -> Matrix:
    """Apply a homography to points: float64 ``[points, 2]``."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ homography.T
    return mapped[:, :2] / mapped[:, 2:]


def warp(face: Image.Image, homography: Matrix, size: tuple[int, int]) -> Image.Image:
    """Paint a face, mapped from its plane (-1 to 1) to pixels by ``homography``, on a transparent image of ``size``."""
    from_pixels = scaling(2 / face.width, -1, -1)
    # Pillow asks for each output pixel where it comes from, so it wants the way back.
    back = np.linalg.inv(homography @ from_pixels)
    coefficients = (back / back[2, 2]).ravel()[:8]
    return face.transform(size, Image.Transform.PERSPECTIVE, coefficients.tolist(), Image.Resampling.BILINEAR)
