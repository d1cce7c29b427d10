"""What can be trained, by name: each row a network and the recipe that suits it.

``docs/model.md`` tells what each row reaches, and what was tried to get there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Multiscale:
    """The shape of a multi-scale LeNet; what no preset varies, ``benchmarks/ablation.py`` does."""

    blocks: tuple[tuple[int, int], ...]
    """Filters and kernel side of each convolution."""
    hidden: int
    """Units between features and classes."""
    columns: tuple[str, ...] = ("both",)
    """What each of the networks side by side sees of an image: its ``colour``, its local ``contrast``, or ``both``."""
    straighten: bool = True
    """Whether a spatial transformer comes first."""
    colours: int = 8
    """Channels of the learned colour transform; 0 is none."""
    scales: int = 4
    """How many of the last blocks the classifier sees."""


@dataclass(frozen=True)
class Disturbances:
    """What augmentation does to light and view, beyond what every sign is put through."""

    shade: float = 0.0
    """How strongly light falls from one side: the exponent of e at the middle of an edge; in a corner, twice that."""
    haze: float = 0.0
    """Largest share of a picture that vanishes in grey."""
    erase: float = 0.0
    """Share of pictures with a rectangle missing."""


@dataclass(frozen=True)
class Preset:
    """A network and how it is trained; what no preset varies, ``benchmarks/ablation.py`` does."""

    network: Multiscale | None
    """``None`` is LeNet-5, which has no choices left."""
    epochs: int
    batch_size: int = 128
    learning_rate: float = 3e-3
    """The first of the schedule, and its highest."""
    label_smoothing: float = 0.1
    disturbances: Disturbances = Disturbances()
    balance: float = 0.0
    """How far rare classes are repeated, from 0, not at all, to 1, until all are equally common."""


_STREET = Disturbances(shade=0.3, haze=0.5, erase=0.2)
_STANDARD = Multiscale(blocks=((32, 5), (64, 5), (128, 3), (128, 3)), hidden=128)
_COMMITTEE = Multiscale(blocks=((24, 5), (48, 5), (80, 3), (80, 3)), hidden=48, columns=("both", "colour", "contrast"))

PRESETS: dict[str, Preset] = {
    "fast": Preset(_STANDARD, epochs=5),
    "standard": Preset(_STANDARD, epochs=16, disturbances=_STREET, balance=0.5),
    "best": Preset(_COMMITTEE, epochs=16, disturbances=_STREET, balance=0.5),
    "lenet5": Preset(None, epochs=24),
}
"""From a first look to the best; ``lenet5`` is the network that this project began with."""
