"""One physical sign, photographed again and again from a car that comes nearer: what GTSRB calls a track."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from trafficsigns import pictograms
from trafficsigns.synthetic.geometry import Matrix, Pose, outline, project, scaling, warp
from trafficsigns.synthetic.noise import FloatArray
from trafficsigns.synthetic.scenery import SIDE as SCENE_SIDE
from trafficsigns.synthetic.scenery import scene
from trafficsigns.synthetic.surface import aged

Generator = np.random.Generator

_FACE_SIDE = 128
_FINENESS = 2
"""Scenes are painted this much larger than the frame, then averaged, as a sensor's pixels average."""
_BORDER = 0.1
"""Free space around the sign, as a share of its larger side: GTSRB's definition."""

_OPAQUE = [255 * (alpha >= 128) for alpha in range(256)]


@dataclass(frozen=True)
class Frame:
    """One photograph: uint8 ``[height, width, 3]``, and the sign's box: left, top, right, bottom.

    The last column and row of the sign are right - 1 and bottom - 1.
    """

    pixels: npt.NDArray[np.uint8]
    roi: tuple[int, int, int, int]


@dataclass(frozen=True)
class Light:
    """How the scene is lit and exposed; gains multiply, 1 is a well exposed day."""

    sign_gain: float
    scene_gain: float
    gamma: float
    warmth: float
    haze: float

    @classmethod
    def sample(cls, rng: Generator) -> Light:
        """Draw a light: mostly dim, as GTSRB is, sometimes dazzling, sometimes against the sky."""
        exposure = math.exp(rng.normal(-0.45, 0.42))
        return cls(
            sign_gain=float(np.clip(exposure * math.exp(rng.normal(0, 0.15)), 0.14, 1.5)),
            scene_gain=float(np.clip(exposure * math.exp(rng.normal(0, 0.4)), 0.08, 2.0)),
            gamma=math.exp(rng.normal(0, 0.15)),
            warmth=rng.normal(0, 0.08),
            haze=max(0.0, rng.normal(0, 0.1)),
        )

    def tint(self) -> FloatArray:
        """Return the factors on red, green and blue."""
        return np.array((1 + self.warmth, 1, 1 - self.warmth), np.float32)


@dataclass(frozen=True)
class Camera:
    """What the camera adds: blur in pixels of a 32-pixel frame, noise in grey levels."""

    defocus: float
    motion: float
    direction: float
    noise: float

    @classmethod
    def sample(cls, rng: Generator) -> Camera:
        """Draw a camera's state for one track; motion is mostly sideways."""
        return cls(
            defocus=rng.gamma(1.5, 0.17),
            motion=rng.gamma(1.0, 0.5),
            direction=rng.normal(0, 0.5),
            noise=rng.uniform(1, 4.5),
        )


@dataclass(frozen=True)
class Track:
    """All that the frames of one track share."""

    face: Image.Image
    outline: Matrix
    scene: Image.Image
    pose: Pose
    light: Light
    camera: Camera
    first_side: float
    last_side: float

    @classmethod
    def sample(cls, class_id: int, rng: Generator) -> Track:
        """Draw a track of one class."""
        first_side = rng.uniform(20, 30)
        face = aged(pictograms.draw(class_id, _FACE_SIDE), rng)
        return cls(
            face=face,
            outline=outline(face),
            scene=scene(rng),
            pose=Pose(yaw=rng.normal(0, 10), pitch=rng.normal(0, 6), roll=rng.normal(0, 3.5)),
            light=Light.sample(rng),
            camera=Camera.sample(rng),
            first_side=first_side,
            last_side=first_side * rng.uniform(1.2, 1.9),
        )

    def frame(self, progress: float, rng: Generator) -> Frame:
        """Photograph the sign at one moment; ``progress`` runs from 0, far away, to 1, near."""
        side = self.first_side + (self.last_side - self.first_side) * progress**2
        sign, size = self._sign(side, progress, rng)
        photograph = self._lit(sign, self._backdrop(size, progress, rng), rng)
        image = self._exposed(photograph, size, side / 32, rng)
        return Frame(image, _box(sign))

    def _sign(self, side: float, progress: float, rng: Generator) -> tuple[Image.Image, tuple[int, int]]:
        """Warp the face, large; also return the frame's size, which follows from the sign's."""
        # Passing a sign, one sees it more and more from the side.
        turn = math.copysign(6 * progress, self.pose.yaw)
        yaw, pitch, roll = np.array([self.pose.yaw + turn, self.pose.pitch, self.pose.roll]) + rng.normal(0, 1.2, 3)
        homography = Pose(yaw, pitch, roll).homography()
        corners = project(homography, self.outline)
        low, high = corners.min(axis=0), corners.max(axis=0)
        scale = side / (high - low).max()
        left, top, right, bottom = side * (_BORDER + rng.uniform(0, 0.08, 4))
        width, height = np.ceil(scale * (high - low) + (left + right, top + bottom)).astype(int)
        place = scaling(_FINENESS) @ scaling(scale, left - scale * low[0], top - scale * low[1])
        return warp(self.face, place @ homography, (width * _FINENESS, height * _FINENESS)), (int(width), int(height))

    def _backdrop(self, size: tuple[int, int], progress: float, rng: Generator) -> Image.Image:
        """Cut the part of the scene that a frame shows; what is far behind the sign hardly grows with it."""
        reach = SCENE_SIDE * (0.42 - 0.08 * progress)
        x, y = SCENE_SIDE / 2 + rng.uniform(-3, 3, 2)
        window = (x - reach, y - reach, x + reach, y + reach)
        large = (size[0] * _FINENESS, size[1] * _FINENESS)
        return self.scene.resize(large, Image.Resampling.BILINEAR, box=window)

    def _lit(self, sign: Image.Image, backdrop: Image.Image, rng: Generator) -> FloatArray:
        """Light both, and put the sign before the backdrop: float32, 0 to 255."""
        flicker = np.float32(rng.normal(1, 0.05))
        opacity = np.asarray(sign.getchannel("A"), dtype=np.float32)[..., None] / 255
        face = np.asarray(sign, dtype=np.float32)[..., :3] * np.float32(self.light.sign_gain)
        behind = np.asarray(backdrop, dtype=np.float32) * np.float32(self.light.scene_gain)
        mixed = (behind + (face - behind) * opacity) * self.light.tint() * flicker
        hazy = mixed + (np.float32(150 * self.light.scene_gain) - mixed) * np.float32(self.light.haze)
        return np.asarray(255 * np.clip(hazy / 255, 0, 1) ** np.float32(self.light.gamma), np.float32)

    def _exposed(
        self, photograph: FloatArray, size: tuple[int, int], zoom: float, rng: Generator
    ) -> npt.NDArray[np.uint8]:
        """Blur, average to the frame's size, add noise."""
        image = Image.fromarray(_shaken(photograph, self.camera, zoom, rng).astype(np.uint8))
        radius = self.camera.defocus * zoom * _FINENESS
        sharp = image.filter(ImageFilter.GaussianBlur(radius)).reduce(_FINENESS)
        noise = rng.standard_normal((size[1], size[0], 3), dtype=np.float32) * np.float32(self.camera.noise)
        return np.clip(np.rint(np.asarray(sharp, dtype=np.float32) + noise), 0, 255).astype(np.uint8)


def _shaken(photograph: FloatArray, camera: Camera, zoom: float, rng: Generator) -> FloatArray:
    """Average shifted copies along the direction of motion."""
    length = camera.motion * zoom * _FINENESS * rng.uniform(0.5, 1.2)
    copies = 1 + math.ceil(length)
    if copies == 1:
        return photograph
    steps = np.linspace(-length / 2, length / 2, copies)
    shifts = np.rint(np.outer(steps, (math.sin(camera.direction), math.cos(camera.direction)))).astype(int)
    total = sum(np.roll(photograph, tuple(shift), axis=(0, 1)) for shift in shifts)
    return np.asarray(total / copies, dtype=np.float32)


def _box(sign: Image.Image) -> tuple[int, int, int, int]:
    """Return the smallest box of whole pixels, in the frame, that holds the painted sign."""
    painted = sign.getchannel("A").point(_OPAQUE).getbbox()
    if painted is None:
        raise ValueError("a sign was painted outside its frame")
    left, top, right, bottom = painted
    return left // _FINENESS, top // _FINENESS, -(-right // _FINENESS), -(-bottom // _FINENESS)


def photograph(class_id: int, moments: Sequence[float], rng: Generator) -> list[Frame]:
    """Invent one sign of a class and photograph it at some moments, each from 0 (far) to 1 (near)."""
    track = Track.sample(class_id, rng)
    return [track.frame(float(moment), rng) for moment in moments]
