"""Decides which images validate and which test: whole groups, class by class, by seed, from the listing alone.

A group is what shows one physical sign: a track, or images that look alike. Were it divided, the network would be
judged on what it has learned by heart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SPLITS = ("train", "validation", "test")

_VALIDATION, _TEST = (), (1,)
"""What follows seed and class in the seeds of the two choices."""


@dataclass(frozen=True)
class Shares:
    """How much of each class's groups is put aside, and by which seed; shares are between 0 and 1."""

    validation: float
    test: float
    seed: int


def undecided(listing: pa.Table) -> pa.Table:
    """Return the rows that have no group yet and among which a split has to be chosen."""
    if {"validation", "test"} <= set(pc.unique(listing["split"]).to_pylist()):
        return listing.slice(0, 0)
    return listing.filter(pc.and_(pc.is_null(listing["group"]), _divisible(listing)))


def divide(listing: pa.Table, shares: Shares) -> pa.Table:
    """Return the listing with a split for every image.

    What the archive divides stays so: where it has a test or a validation split, none is chosen. Every class gives its
    share of groups, rounded, at least one and never its last. The choice depends on seed, class and the groups' names
    only, so that every instance of a job comes to the same one.
    """
    chosen_splits = set(pc.unique(listing["split"]).to_pylist())
    for split, share, salt in (("test", shares.test, _TEST), ("validation", shares.validation, _VALIDATION)):
        if split not in chosen_splits:
            names = _choose(listing, share, (shares.seed, salt))
            chosen = pc.and_(pc.is_in(listing["group"], value_set=names), _divisible(listing))
            listing = _with_split(listing, pc.if_else(chosen, split, listing["split"]))
    return _with_split(listing, pc.fill_null(listing["split"], "train"))


def _divisible(listing: pa.Table) -> pa.ChunkedArray:
    """Say which rows may be moved: those that train, or of which the archive says nothing."""
    return pc.equal(pc.fill_null(listing["split"], "train"), "train")


def _with_split(listing: pa.Table, split: pa.ChunkedArray) -> pa.Table:
    return listing.set_column(listing.schema.get_field_index("split"), "split", split)


def _choose(listing: pa.Table, share: float, seeds: tuple[int, tuple[int, ...]]) -> pa.Array:
    candidates = listing.filter(_divisible(listing)).select(["class_id", "group"])
    pairs = candidates.group_by(["class_id", "group"]).aggregate([])
    chosen: list[str] = []
    for class_id in sorted(pc.unique(pairs["class_id"]).to_pylist()):
        groups = sorted(pairs.filter(pc.equal(pairs["class_id"], class_id))["group"].drop_null().to_pylist())
        count = min(max(1, round(share * len(groups))), len(groups) - 1)
        order = np.random.default_rng([seeds[0], class_id, *seeds[1]]).permutation(groups)
        chosen.extend(str(group) for group in order[: max(count, 0)])
    return pa.array(sorted(set(chosen)), pa.string())
