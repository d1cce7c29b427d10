"""Measures the training loop, and beside it Keras and PyTorch on the same network: ``make bench-train``."""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.contestants import PEERS, ROOT, VENVS

RESULTS = Path(__file__).parent / "results" / "train.md"

IMAGES, CLASSES = 12_800, 43

EXPLANATION = """\
Everybody trains the origin's LeNet (64,811 parameters) on batches of 32 random images of 32x32 pixels, where nothing
else is said, each in a process of its own, in turn within each round and in an order that changes; an epoch before the
first counted one warms up. *Images/s* is by the clock, as minimum / **median** / maximum of the rounds; where others
work on the machine it says little. *A step* is their median by the batch, of 128 images with `standard`; one batch
again and again shows what it takes without its input. *Processor* is milliseconds of processor time for 1,000 images,
which others disturb less; *to ours* compares it with our row of the same kind: above 1 is dearer. Ours averages the
weights as well, and standardises inside the network."""


@dataclass(frozen=True)
class Loop:
    """One way to train."""

    name: str
    script: str
    request: Mapping[str, Any] = field(default_factory=dict)
    compared_to: str | None = None
    venv: str | None = None

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return VENVS / self.venv / "bin" / "python" if self.venv else Path(sys.executable)

    @property
    def missing(self) -> str | None:
        """Why it cannot run here, or ``None``."""
        return (
            None if self.venv is None or (VENVS / self.venv / "installed").exists() else "could not be installed here"
        )


def _ours(name: str, preset: str, batch: int, chunk: int, compared_to: str | None = None, **more: bool) -> Loop:
    request = {"preset": preset, "batch": batch, "chunk": chunk, "augmentation": False, "one_batch": False, **more}
    return Loop(name, "loop_ours.py", request, compared_to)


_SMALL = {"batch": 32, "chunk": 400}
LOOPS: Sequence[Loop] = (
    _ours("ours", "lenet5", **_SMALL),
    _ours("ours, augmented", "lenet5", **_SMALL, augmentation=True),
    Loop("Keras, model.fit", "loop_keras.py", _SMALL, "ours"),
    *(
        Loop(
            f"PyTorch, {workers} workers{', augmented' if augmentation else ''}",
            "loop_torch.py",
            {**_SMALL, "augmentation": augmentation, "workers": workers},
            "ours, augmented" if augmentation else "ours",
            "torch",
        )
        for augmentation in (False, True)
        for workers in (0, 2)
    ),
    _ours("ours, LeNet-5, one batch again and again", "lenet5", 32, 400, "ours", one_batch=True),
    Loop("the convolutions of a LeNet-5 step and nothing else", "loop_convolutions.py", _SMALL, "ours"),
    _ours("ours, preset standard", "standard", 128, 20, augmentation=True),
    _ours(
        "ours, preset standard, one batch again and again", "standard", 128, 20, "ours, preset standard", one_batch=True
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each trains in each round")
    arguments = parser.parse_args(argv)
    load = report.load()
    with tempfile.TemporaryDirectory(prefix="bench-train-") as scratch:
        data = Path(scratch) / "data.npz"
        chance = np.random.default_rng(1)
        pixels = chance.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
        np.savez(data, pixels=pixels, labels=chance.integers(0, CLASSES, IMAGES))
        outcomes = _rounds(data, arguments.rounds, arguments.seconds)
    text = "\n\n".join(
        [
            "# The training loop, measured",
            f"Written by `make bench-train`; {arguments.rounds} rounds of {arguments.seconds:.0f} s.",
            report.machine(load, ("tensorflow-cpu", "keras"), ("torch",)),
            EXPLANATION,
            _table(outcomes),
        ]
    )
    RESULTS.write_text(text + "\n")
    sys.stdout.write(f"written to {RESULTS.relative_to(ROOT)}\n")
    return 0


def _rounds(data: Path, rounds: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    outcomes: dict[str, list[dict[str, float]]] = {loop.name: [] for loop in LOOPS}
    for number in range(rounds):
        for loop in random.sample(LOOPS, len(LOOPS)):
            if loop.missing is None:
                sys.stderr.write(f"round {number + 1} of {rounds}: {loop.name}\n")
                outcomes[loop.name].append(_run(loop, {**loop.request, "data": str(data), "seconds": seconds}))
    return outcomes


def _run(loop: Loop, request: Mapping[str, Any]) -> dict[str, float]:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": "" if loop.venv else str(ROOT / "steps")}
    done = subprocess.run(
        [str(loop.python), str(PEERS / loop.script), json.dumps(request)],
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{loop.name} ended with exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _table(outcomes: Mapping[str, list[dict[str, float]]]) -> str:
    def dear(name: str) -> list[float]:
        return [run["processor"] / run["images"] * 1e6 for run in outcomes[name]]

    rows = []
    for loop in LOOPS:
        if loop.missing:
            rows.append((loop.name, loop.missing, "", "", ""))
            continue
        speeds = sorted(run["images"] / run["seconds"] for run in outcomes[loop.name])
        median = statistics.median(speeds)
        shown = f"{speeds[0]:,.0f} / **{median:,.0f}** / {speeds[-1]:,.0f}"
        step = f"{loop.request['batch'] / median * 1000:.1f} ms"
        ratio = report.ratio(dear(loop.name), dear(loop.compared_to)) if loop.compared_to else "1"
        rows.append((loop.name, shown, step, report.spread(dear(loop.name)), ratio))
    return report.table(("loop", "images/s", "a step", "processor, ms per 1,000", "to ours"), rows)


if __name__ == "__main__":
    sys.exit(main())
