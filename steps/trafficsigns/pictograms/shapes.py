"""Shapes in sign coordinates: the sign spans 0 to 100 both ways, x to the right, y down.

A picture is a tuple of shapes, painted in order. Pictures are plain data; they are mirrored, turned, placed and
recoloured by building new ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

Point = tuple[float, float]
Points = tuple[Point, ...]
Colour = tuple[int, int, int]
Mapping = Callable[[Point], Point]

CENTRE: Point = (50.0, 50.0)

# Close to the RAL traffic colours as an ordinary camera shows them.
BLACK: Colour = (22, 22, 24)
BLUE: Colour = (16, 78, 158)
GREEN: Colour = (0, 138, 82)
GREY: Colour = (106, 108, 110)
RED: Colour = (196, 20, 30)
WHITE: Colour = (248, 248, 246)
YELLOW: Colour = (246, 180, 8)

_OVERSAMPLING = 4


class Canvas:
    """A transparent square to paint on, larger than the picture that it gives, so that edges come out smooth."""

    def __init__(self, side: int) -> None:
        self._side = side
        self._image = Image.new("RGBA", (side * _OVERSAMPLING, side * _OVERSAMPLING))
        self._pen = ImageDraw.Draw(self._image)

    def polygon(self, points: Iterable[Point], colour: Colour) -> None:
        """Fill the polygon with these corners."""
        self._pen.polygon([self._pixel(point) for point in points], fill=colour)

    def line(self, points: Iterable[Point], width: float, colour: Colour) -> None:
        """Draw a polyline with round joints and blunt ends."""
        pixels = [self._pixel(point) for point in points]
        self._pen.line(pixels, fill=colour, width=round(width * self._scale), joint="curve")

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Fill a circle."""
        self._pen.circle(self._pixel(centre), radius * self._scale, fill=colour)

    def picture(self) -> Image.Image:
        """Return what was painted: RGBA, straight alpha."""
        return self._image.reduce(_OVERSAMPLING)

    @property
    def _scale(self) -> float:
        return self._side * _OVERSAMPLING / 100

    def _pixel(self, point: Point) -> Point:
        return point[0] * self._scale, point[1] * self._scale


@dataclass(frozen=True)
class Polygon:
    """A filled polygon; ``rounding`` is the radius of its corners, added outside the given points."""

    points: Points
    colour: Colour = BLACK
    rounding: float = 0.0

    def paint(self, canvas: Canvas) -> None:
        """Paint the polygon."""
        canvas.polygon(self.points, self.colour)
        if self.rounding:
            canvas.line((*self.points, self.points[0]), 2 * self.rounding, self.colour)
            for corner in self.points:
                canvas.disc(corner, self.rounding, self.colour)

    def mapped(self, mapping: Mapping, scale: float = 1.0) -> Polygon:
        """Map every point; ``scale`` is the mapping's change of lengths."""
        return replace(self, points=tuple(map(mapping, self.points)), rounding=self.rounding * scale)


@dataclass(frozen=True)
class Stroke:
    """A line of constant width through points, with ``round`` or blunt ends."""

    points: Points
    width: float
    colour: Colour = BLACK
    round: bool = False

    def paint(self, canvas: Canvas) -> None:
        """Paint the line."""
        canvas.line(self.points, self.width, self.colour)
        if self.round:
            for end in (self.points[0], self.points[-1]):
                canvas.disc(end, self.width / 2, self.colour)

    def mapped(self, mapping: Mapping, scale: float = 1.0) -> Stroke:
        """Map every point; ``scale`` is the mapping's change of lengths."""
        return replace(self, points=tuple(map(mapping, self.points)), width=self.width * scale)


@dataclass(frozen=True)
class Disc:
    """A filled circle."""

    centre: Point
    radius: float
    colour: Colour = BLACK

    def paint(self, canvas: Canvas) -> None:
        """Paint the circle."""
        canvas.disc(self.centre, self.radius, self.colour)

    def mapped(self, mapping: Mapping, scale: float = 1.0) -> Disc:
        """Map the centre; ``scale`` is the mapping's change of lengths."""
        return replace(self, centre=mapping(self.centre), radius=self.radius * scale)


Shape = Polygon | Stroke | Disc
Picture = tuple[Shape, ...]


def render(picture: Picture, side: int) -> Image.Image:
    """Paint a picture on a transparent square of ``side`` pixels: RGBA, straight alpha."""
    canvas = Canvas(side)
    for shape in picture:
        shape.paint(canvas)
    return canvas.picture()


def mirrored(picture: Picture) -> Picture:
    """Swap left and right."""
    return tuple(shape.mapped(lambda point: (100 - point[0], point[1])) for shape in picture)


def turned(picture: Picture, degrees: float, about: Point = CENTRE) -> Picture:
    """Turn clockwise."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def mapping(point: Point) -> Point:
        x, y = point[0] - about[0], point[1] - about[1]
        return about[0] + cosine * x - sine * y, about[1] + sine * x + cosine * y

    return tuple(shape.mapped(mapping) for shape in picture)


def placed(picture: Picture, at: Point, scale: float = 1.0) -> Picture:
    """Scale about the origin, then move the origin to ``at``."""

    def mapping(point: Point) -> Point:
        return at[0] + scale * point[0], at[1] + scale * point[1]

    return tuple(shape.mapped(mapping, scale) for shape in picture)


def recoloured(picture: Picture, colours: dict[Colour, Colour]) -> Picture:
    """Exchange colours; those that the table does not name stay."""
    return tuple(replace(shape, colour=colours.get(shape.colour, shape.colour)) for shape in picture)


def arc(centre: Point, radius: float | tuple[float, float], start: float, stop: float) -> Points:
    """Return points along an ellipse's arc; angles in degrees, 0 to the right, 90 down, so growing means clockwise."""
    across, down = radius if isinstance(radius, tuple) else (radius, radius)
    steps = max(2, math.ceil(abs(stop - start) / 7.5))
    angles = (math.radians(start + (stop - start) * step / steps) for step in range(steps + 1))
    return tuple((centre[0] + across * math.cos(angle), centre[1] + down * math.sin(angle)) for angle in angles)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Return the corners of an upright rectangle."""
    return (left, top), (right, top), (right, bottom), (left, bottom)


def arrow(path: Points, width: float, barb: float, colour: Colour = BLACK) -> Picture:
    """Draw a line that ends at its last point in an open arrow head, whose two barbs reach ``barb`` back and aside."""
    (x0, y0), (x1, y1) = path[-2:]
    length = math.hypot(x1 - x0, y1 - y0)
    along = ((x1 - x0) / length, (y1 - y0) / length)
    aside = (-along[1], along[0])

    def at(back: float, side: float) -> Point:
        return x1 - back * along[0] + side * aside[0], y1 - back * along[1] + side * aside[1]

    # A barb as wide as the shaft, cut at right angles to the way the arrow points.
    thick = 1.3 * width
    head = (at(0, 0), at(barb, barb), at(barb + thick, barb), at(thick, 0), at(barb + thick, -barb), at(barb, -barb))
    shaft = Stroke((*path[:-1], at(width / 2, 0)), width, colour)
    return shaft, Polygon(head, colour)
