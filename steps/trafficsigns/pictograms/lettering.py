"""Numbers and the word STOP in the manner of DIN 1451, the lettering of German road signs: strokes of one width."""

from __future__ import annotations

from trafficsigns.pictograms.shapes import BLACK, CENTRE, Colour, Picture, Point, Points, Stroke, arc, placed

_STEM = 15.0
_GAP = 14.0

# A character is 100 high; these are its width, and the middles of its strokes.
_CHARACTERS: dict[str, tuple[float, tuple[Points, ...]]] = {
    "0": (58, ((*arc((29, 29), 21.5, 180, 360), *arc((29, 71), 21.5, 0, 180), (7.5, 29)),)),
    "1": (36, (((0, 32), (27, 9), (28.5, 9), (28.5, 100)),)),
    "2": (56, ((*arc((28, 29), 21.5, 185, 385), (8, 90), (8, 92.5), (56, 92.5)),)),
    "3": (56, (((2, 7.5), (47, 7.5), (26, 42), *arc((26, 67), 25, -80, 160)),)),
    "5": (56, (((52, 7.5), (11, 7.5), (9, 48), *arc((26, 67.5), (23, 25), 225, 520)),)),
    "6": (58, (((44, 0), (14, 50), *arc((29, 69), 22.5, 205, 565)),)),
    "7": (54, (((0, 7.5), (46, 7.5), (45, 12), (16, 100)),)),
    "8": (58, (arc((29, 27.5), 19.5, 0, 360), arc((29, 70), 22.5, 0, 360))),
    "O": (58, ((*arc((29, 29), 21.5, 180, 360), *arc((29, 71), 21.5, 0, 180), (7.5, 29)),)),
    "P": (56, (((7.5, 100), (7.5, 7.5), (28, 7.5), *arc((28, 29), 21.5, -90, 90), (7.5, 50.5)),)),
    "S": (56, ((*arc((28, 28.5), (20.5, 21), -25, -240), *arc((28, 71), (21, 21.5), -60, 155)),)),
    "T": (54, (((0, 7.5), (54, 7.5)), ((27, 7.5), (27, 100)))),
}


def lettering(text: str, height: float, colour: Colour = BLACK, centre: Point = CENTRE) -> Picture:
    """Set ``text`` around ``centre``; ``height`` is that of its characters, in sign coordinates.

    Raises ``KeyError`` for a character that no German sign of the benchmark carries.
    """
    scale = height / 100
    width = sum(_CHARACTERS[character][0] for character in text) + _GAP * (len(text) - 1)
    left, top = centre[0] - width * scale / 2, centre[1] - height / 2
    picture: Picture = ()
    for character in text:
        advance, lines = _CHARACTERS[character]
        strokes = tuple(Stroke(line, _STEM, colour) for line in lines)
        picture += placed(strokes, (left, top), scale)
        left += (advance + _GAP) * scale
    return picture
