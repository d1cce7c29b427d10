"""The 43 faces: a plate of the right form and colours, and on it what the sign says."""

from __future__ import annotations

import math
from functools import cache

from PIL import Image

from trafficsigns.pictograms import symbols
from trafficsigns.pictograms.lettering import lettering
from trafficsigns.pictograms.shapes import (
    BLACK,
    BLUE,
    CENTRE,
    GREY,
    RED,
    WHITE,
    YELLOW,
    Colour,
    Disc,
    Picture,
    Point,
    Polygon,
    Stroke,
    box,
    mirrored,
    recoloured,
    render,
    turned,
)

_UP, _DOWN = -90.0, 90.0

# The middle of a triangle is not that of its height.
_TRIANGLE_CENTRE: Point = (50.0, 63.0)
_INVERTED_CENTRE: Point = (50.0, 37.0)


def _regular(
    corners: int, inner: float, first: float, colour: Colour, centre: Point = CENTRE, round_: float = 0
) -> Polygon:
    """Build a regular polygon by its inner radius and the direction of its first corner, in degrees."""
    radius = (inner - round_) / math.cos(math.pi / corners)
    angles = [math.radians(first + 360 * corner / corners) for corner in range(corners)]
    points = tuple((centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles)
    return Polygon(points, colour, round_)


def _triangle(first: float, centre: Point) -> Picture:
    return (
        _regular(3, 31, first, WHITE, centre, round_=5),
        _regular(3, 29.7, first, RED, centre, round_=4),
        _regular(3, 20.5, first, WHITE, centre, round_=1.5),
    )


def _round(colour: Colour, inner: float = 48.5) -> Picture:
    return Disc(CENTRE, 50, WHITE), Disc(CENTRE, inner, colour)


def warning(symbol: Picture) -> Picture:
    """Build a white triangle with a red border."""
    return *_triangle(_UP, _TRIANGLE_CENTRE), *symbol


def prohibition(symbol: Picture = ()) -> Picture:
    """Build a white disc with a red border."""
    return *_round(RED), Disc(CENTRE, 37.5, WHITE), *symbol


def mandatory(symbol: Picture) -> Picture:
    """Build a blue disc."""
    return *_round(BLUE), *symbol


def ending(symbol: Picture = ()) -> Picture:
    """Build a white disc whose symbol, gone grey, is struck through by five bands."""
    faded = recoloured(symbol, {BLACK: GREY, RED: GREY})
    return *_round(BLACK), Disc(CENTRE, 46.5, WHITE), *faded, *_bands()


def _bands() -> Picture:
    # Each band ends where the border of the disc begins.
    offsets = (-8.8, -4.4, 0.0, 4.4, 8.8)
    halves = [math.sqrt(47**2 - offset**2) for offset in offsets]
    upright = tuple(
        Stroke(((50 + offset, 50 - half), (50 + offset, 50 + half)), 2.4)
        for offset, half in zip(offsets, halves, strict=True)
    )
    return turned(upright, 45)


def _limit(number: int) -> Picture:
    return lettering(str(number), height=40 if number < 100 else 36)


PRIORITY_ROAD: Picture = (
    _regular(4, 36.5, _UP, WHITE, round_=4),
    _regular(4, 34.7, _UP, BLACK, round_=3.2),
    _regular(4, 33.6, _UP, WHITE, round_=2.6),
    _regular(4, 22.5, _UP, BLACK, round_=1.6),
    _regular(4, 21.6, _UP, YELLOW, round_=1.2),
)
GIVE_WAY = _triangle(_DOWN, _INVERTED_CENTRE)
STOP: Picture = (
    _regular(8, 50, 22.5, WHITE),
    _regular(8, 48, 22.5, RED),
    *lettering("STOP", height=30, colour=WHITE),
)
NO_ENTRY: Picture = (*_round(RED), Polygon(box(11, 41, 89, 59), WHITE))

FACES: tuple[Picture, ...] = (
    prohibition(_limit(20)),
    prohibition(_limit(30)),
    prohibition(_limit(50)),
    prohibition(_limit(60)),
    prohibition(_limit(70)),
    prohibition(_limit(80)),
    ending(_limit(80)),
    prohibition(_limit(100)),
    prohibition(_limit(120)),
    prohibition(symbols.OVERTAKING),
    prohibition(symbols.LORRY_OVERTAKING),
    warning(symbols.PRIORITY_AT_CROSSING),
    PRIORITY_ROAD,
    GIVE_WAY,
    STOP,
    prohibition(),
    prohibition(symbols.LORRY),
    NO_ENTRY,
    warning(symbols.EXCLAMATION_MARK),
    warning(symbols.BEND_LEFT),
    warning(mirrored(symbols.BEND_LEFT)),
    warning(symbols.DOUBLE_BEND),
    warning(symbols.BUMPS),
    warning(symbols.SKIDDING_CAR),
    warning(symbols.NARROWING_RIGHT),
    warning(symbols.ROAD_WORKS),
    warning(symbols.TRAFFIC_LIGHTS),
    warning(symbols.PEDESTRIAN),
    warning(symbols.CHILDREN),
    warning(symbols.BICYCLE),
    warning(symbols.SNOWFLAKE),
    warning(symbols.LEAPING_DEER),
    ending(),
    mandatory(symbols.TURN_RIGHT),
    mandatory(mirrored(symbols.TURN_RIGHT)),
    mandatory(symbols.AHEAD),
    mandatory(symbols.AHEAD_OR_RIGHT),
    mandatory(mirrored(symbols.AHEAD_OR_RIGHT)),
    mandatory(symbols.KEEP_RIGHT),
    mandatory(mirrored(symbols.KEEP_RIGHT)),
    mandatory(symbols.ROUNDABOUT),
    ending(symbols.OVERTAKING),
    ending(symbols.LORRY_OVERTAKING),
)
"""One picture a class, in the order of ``trafficsigns.classes.CLASS_NAMES``."""


@cache
def draw(class_id: int, side: int) -> Image.Image:
    """Draw the clean face of a class.

    Returns RGBA ``side`` x ``side`` pixels, straight alpha; the sign touches the left and right edge, and the other two
    unless it is a triangle. Raises ``IndexError`` for an unknown class. The image is shared: copy before changing it.
    """
    return render(FACES[class_id], side)
