"""The faces of the 43 German traffic signs, drawn from tables of coordinates.

``shapes`` knows polygons, strokes and discs; ``lettering`` and ``symbols`` are tables of them; ``faces`` puts symbols
on plates, one face a class. No font, no image file: the same source gives the same pixels everywhere.
"""

from trafficsigns.pictograms.faces import FACES, draw

__all__ = ["FACES", "draw"]
