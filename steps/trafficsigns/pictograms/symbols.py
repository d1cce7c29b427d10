"""What the signs show: vehicles, people, animals, arrows. Coordinates are the sign's, see ``shapes``."""

from __future__ import annotations

from trafficsigns.pictograms.shapes import (
    BLACK,
    GREEN,
    RED,
    WHITE,
    YELLOW,
    Disc,
    Picture,
    Point,
    Points,
    Polygon,
    Stroke,
    arc,
    arrow,
    box,
    placed,
    recoloured,
    turned,
)


def person(head: Point, size: float, spine: Points, *limbs: Points) -> Picture:
    """Draw a stick figure with some flesh; ``size`` is the radius of its head."""
    torso = Stroke(spine, 2.1 * size, round=True)
    return Disc(head, size), torso, *(Stroke(limb, 1.25 * size, round=True) for limb in limbs)


# Vehicles stand on y = 0 and are centred on x = 0, to be placed.
CAR: Picture = (
    Polygon(
        ((-12, -4), (-12, -10), (-9.5, -11), (-7, -17.5), (7, -17.5), (9.5, -11), (12, -10), (12, -4)), rounding=0.8
    ),
    Polygon(((-6.8, -11), (-5.2, -15.5), (5.2, -15.5), (6.8, -11)), WHITE),
    Polygon(box(-12, -5, -7, 0)),
    Polygon(box(7, -5, 12, 0)),
)
LORRY_BEHIND: Picture = (
    Polygon(box(-12, -29, 12, -5), rounding=0.6),
    Polygon(box(-11, -6, -4.5, 0)),
    Polygon(box(4.5, -6, 11, 0)),
)
LORRY_BESIDE: Picture = (
    Polygon(box(-8, -24, 28, -6)),
    Polygon(((-28, -5), (-28, -12), (-23, -20), (-11, -20), (-11, -5)), rounding=0.6),
    Polygon(((-25, -12.5), (-21.5, -17.8), (-16, -17.8), (-16, -12.5)), WHITE),
    Polygon(box(-26, -8, 26, -4)),
    *(Disc((x, -3.5), 5.4, WHITE) for x in (-18, 18)),
    *(Disc((x, -3.5), 4.3) for x in (-18, 18)),
)

OVERTAKING = placed(recoloured(CAR, {BLACK: RED}), (34.5, 60), 1.1) + placed(CAR, (65.5, 60), 1.1)
LORRY_OVERTAKING = placed(recoloured(LORRY_BEHIND, {BLACK: RED}), (34, 64), 1.05) + placed(CAR, (66, 64), 1.05)
LORRY = placed(LORRY_BESIDE, (50, 62.5), 1.12)

PRIORITY_AT_CROSSING: Picture = (
    Stroke(((50, 79), (50, 50)), 11),
    Polygon(((50, 36), (62, 55), (38, 55))),
    Polygon(((33, 63), (45, 61), (55, 61), (67, 63), (67, 68), (55, 70), (45, 70), (33, 68))),
)

EXCLAMATION_MARK: Picture = (
    Polygon(((45.5, 36), (54.5, 36), (52, 62.5), (48, 62.5)), rounding=1),
    Disc((50, 73.5), 5),
)

BEND_LEFT = arrow(((61, 80), (61, 65), *arc((53, 65), (8, 9), -10, -90), (46, 56), (33, 56)), 8.5, 9)
DOUBLE_BEND: Picture = (
    Stroke(((58, 80), (58, 69), (57, 66.5), (45.5, 62), (44.5, 59.5), (44.5, 49)), 8),
    Polygon(((44.5, 36.5), (53, 51), (36, 51))),
)

BUMPS: Picture = (
    Polygon(box(24, 74, 76, 78)),
    Polygon(arc((38, 75), (11.5, 12), 180, 360)),
    Polygon(arc((62, 75), (11.5, 12), 180, 360)),
)

SKIDDING_CAR: Picture = (
    *turned(placed(CAR, (50, 62.5), 1.2), 12, (50, 56)),
    Stroke(((39, 66), (43, 69), (35, 73), (40, 76), (32, 80)), 3.2),
    Stroke(((60, 69.5), (65, 72), (57, 75), (62, 78), (55, 80.5)), 3.2),
)

NARROWING_RIGHT: Picture = (
    Stroke(((41, 79), (41, 46)), 6.5),
    Stroke(((63, 79), (63, 67), (54, 57), (54, 42)), 6.5),
)

ROAD_WORKS: Picture = (
    *person(
        (49, 42.5),
        4,
        ((47, 50), (41, 59)),
        ((41, 60), (46, 67), (45, 78)),
        ((40, 60), (35, 69), (29, 78)),
        ((48, 50), (54, 56), (50, 63)),
        ((45, 51), (44, 58), (42, 62)),
    ),
    Stroke(((38, 59), (60, 71)), 2.2),
    Polygon(((53, 79.5), (57, 74), (64, 67), (69, 71), (75, 79.5))),
)

TRAFFIC_LIGHTS: Picture = (
    Disc((50, 43.5), 7.2),
    Disc((50, 59), 7.2),
    Disc((50, 74.5), 7.2),
    Disc((50, 43.5), 6.4, RED),
    Disc((50, 59), 6.4, YELLOW),
    Disc((50, 74.5), 6.4, GREEN),
)

PEDESTRIAN = person(
    (50, 38.5),
    4.2,
    ((51, 47), (51, 58)),
    ((50, 59), (46, 68), (39, 79)),
    ((52, 59), (56, 68), (60, 79)),
    ((49, 46), (43, 54), (39, 60)),
    ((53, 46), (58, 53), (62, 59)),
)

CHILDREN: Picture = (
    *person(
        (57, 43),
        3.7,
        ((58, 50), (60, 59)),
        ((60, 60), (54, 67), (57, 78)),
        ((61, 60), (66, 68), (73, 75)),
        ((57, 49), (50, 54), (47, 51)),
        ((59, 49), (66, 54), (68, 60)),
    ),
    *person(
        (39, 53),
        3.2,
        ((39, 59), (39, 64)),
        ((38, 67), (33, 72), (27, 76)),
        ((41, 67), (43, 73), (47, 79)),
        ((38, 59), (33, 62), (29, 61)),
        ((40, 59), (46, 62), (50, 58)),
    ),
    Polygon(((36.5, 60), (41.5, 60), (45, 69), (33, 69))),
)

BICYCLE: Picture = (
    *(Stroke(arc((x, 69.5), 9.3, 0, 360), 2.6) for x in (35.5, 64.5)),
    Stroke(((35.5, 69.5), (43, 57), (59, 57), (50, 70), (43, 57)), 2.4, round=True),
    Stroke(((35.5, 69.5), (50, 70)), 2.4, round=True),
    Stroke(((64.5, 69.5), (58, 52), (62, 50)), 2.4, round=True),
    Stroke(((43, 57), (41.5, 53.5)), 2.4, round=True),
    Stroke(((38, 53), (45, 53)), 3, round=True),
)

_CRYSTAL_RAY: Picture = (
    Stroke(((50, 64), (50, 47)), 3.4),
    Stroke(((44.5, 49), (50, 54.5), (55.5, 49)), 3),
)
SNOWFLAKE: Picture = tuple(shape for turn in range(6) for shape in turned(_CRYSTAL_RAY, 60 * turn, (50, 64)))

_DEER: Picture = (
    Polygon(((40, 56), (46, 58), (57, 61), (65, 62), (67, 66), (63, 70), (55, 68), (46, 68), (41, 64)), rounding=0.8),
    Polygon(((40, 62), (37, 52), (41, 49), (46, 60))),
    Polygon(((41, 48), (40, 53), (35, 54.5), (31, 53.5), (32, 51.5), (37, 48.5)), rounding=0.5),
    Stroke(((39, 49), (39, 42), (36, 38)), 1.8),
    Stroke(((39, 45), (44, 42), (45, 38)), 1.8),
    Stroke(((43, 64), (35, 67), (31, 63)), 2.8, round=True),
    Stroke(((45, 66), (38, 71), (33, 70)), 2.8, round=True),
    Stroke(((63, 67), (68, 71), (67, 75), (74, 79)), 3, round=True),
    Stroke(((60, 68), (63, 73), (61, 76), (67, 79.5)), 2.8, round=True),
    Stroke(((66, 63), (69, 61)), 2.4, round=True),
)
LEAPING_DEER = placed(_DEER, (3.5, 0))

_SHAFT, _BARB = 10.0, 15.0
AHEAD = arrow(((50, 84), (50, 14)), _SHAFT, _BARB + 4, WHITE)
TURN_RIGHT = arrow(((35, 84), (35, 54), *arc((47, 54), (12, 13), 190, 270), (56, 41), (85, 41)), _SHAFT, _BARB, WHITE)
AHEAD_OR_RIGHT = arrow(((40, 86), (40, 12)), 9, 13, WHITE) + arrow(
    ((40, 72), (41, 62), (47, 58), (84, 58)), 9, 12, WHITE
)
KEEP_RIGHT = arrow(((21, 26), (79, 76)), 12, 18, WHITE)

_THIRD = arrow((*arc((50, 50), 28, 75, -8), (76.5, 37)), 8, 8.5, WHITE)
ROUNDABOUT: Picture = tuple(shape for turn in range(3) for shape in turned(_THIRD, 120 * turn))
