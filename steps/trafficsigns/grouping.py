"""Finds images that look alike, so that they are not divided where an archive does not tell which sign they show.

Two images look alike when their grey thumbnails, with mean and contrast taken out, correlate with ``ALIKE`` or more;
what looks like something in a group belongs to the group. That finds copies, other sizes and wrappings of a photograph,
and some neighbours in a film. It cannot find two photographs of one sign from different places: only tracks can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from trafficsigns.crew import Crew, chunks
from trafficsigns.pictures import thumbnails
from trafficsigns.splits import undecided

ALIKE = 0.95

_SCALE = 2000
"""Length of the compared vectors. They hold whole numbers, and no sum on the way to a product of two exceeds 2**24, so
float32 is exact: no machine and no number of threads finds another group."""

_BLOCK = 1024

Vectors = npt.NDArray[np.float32]


def grouped(crew: Crew, listing: pa.Table) -> pa.Table:
    """Return the listing with a group for each image among which a split has to be chosen.

    The groups of a class are found among its own images, and named after their first file.
    """
    lacking = undecided(listing)
    files: list[str] = []
    names: list[str] = []
    for class_id in sorted(pc.unique(lacking["class_id"]).to_pylist()):
        members = lacking.filter(pc.equal(lacking["class_id"], class_id))["file"].to_pylist()
        small = [each for part in crew.map(thumbnails, chunks(members)) for each in part]
        first: dict[int, str] = {}
        names += [
            first.setdefault(number, f"~{file}") for number, file in zip(groups(vectors(small)), members, strict=True)
        ]
        files += members
    place = pc.index_in(listing["file"], value_set=pa.array(files, pa.string()))
    found = pc.coalesce(listing["group"], pa.array(names, pa.string()).take(place.combine_chunks()))
    return listing.set_column(listing.schema.get_field_index("group"), "group", found)


def vectors(thumbnails: Sequence[bytes]) -> Vectors:
    """Turn thumbnails into vectors whose product is their correlation times ``_SCALE`` squared.

    Returns whole numbers as float32 ``[n, pixels + 1]``. Pictures without any contrast correlate with each other only,
    which the last place is for; an empty thumbnail gives zeros.
    """
    pixels = max(map(len, thumbnails), default=0)
    levels = np.zeros((len(thumbnails), pixels), np.int64)
    for row, thumbnail in zip(levels, thumbnails, strict=True):
        if thumbnail:
            row[:] = np.frombuffer(thumbnail, np.uint8)
    # Times the number of pixels, so that sums are of whole numbers, and no order of summing shows.
    centred = levels * pixels - levels.sum(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    flat = (length[:, 0] == 0) & np.array([bool(each) for each in thumbnails], bool)
    scaled = np.rint(centred / np.maximum(length, 1) * _SCALE)
    return np.hstack([scaled, np.where(flat, _SCALE, 0)[:, None]]).astype(np.float32)


def groups(compared: Vectors) -> npt.NDArray[np.int64]:
    """Return the number of each image's group; images that look alike, directly or over others, have one number."""
    count = len(compared)
    numbers = np.arange(count)
    for one, other in combinations_with_replacement(range(0, count, _BLOCK), 2):
        alike = compared[one : one + _BLOCK] @ compared[other : other + _BLOCK].T >= ALIKE * _SCALE**2
        ones, others = np.nonzero(alike)
        ones, others = numbers[one:][ones], numbers[other:][others]
        # Groups grow together block by block: a film of one sign has more pairs than memory has room for.
        if (apart := ones != others).any():
            edges = np.ones(int(apart.sum()), bool), (ones[apart], others[apart])
            numbers = connected_components(coo_array(edges, shape=(count, count)), directed=False)[1][numbers]
    return numbers
