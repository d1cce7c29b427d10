"""Measures the data steps, from zips to validated shards, beside other ways to read the set: ``make bench-data``."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.contestants import VENVS
from benchmarks.drawn import thin
from benchmarks.processes import CommandError, Cost, run
from pipeline.datasets import NEARBY, OFFICIAL_FILES, OFFICIAL_IMAGES
from pipeline.settings import ROOT

RESULTS = Path(__file__).parent / "results" / "data.md"
PEERS = Path(__file__).parent / "peers"
STEPS = ROOT / "steps"

IMPORTS = {
    "preprocess": "import preprocess; from trafficsigns import shards",
    "validate": "import validate",
}

SAMPLE, LISTED, TIMES = 4_000, 2_000_000, 10
FEWER = "preprocess, every fifth frame"

EXPLANATION = """\
All take turns within each round, after one that warms up and does not count. *Wall* is from the start of the operating
system's process to its end, imports included; *CPU* sums the processor seconds of all its processes, which others' work
on the machine changes less; *memory* is the largest sum over its processes (PSS). *The work itself* is what a step
takes beyond a process that only imports the same, measured in the same round.

The others do less. The plain loop decodes and resizes into one array. torchvision reads files that were unpacked before
into batches, and writes nothing. Ours decodes, measures, hashes, divides by tracks, encodes the test images as PNG,
writes shards and a manifest, and holds these against the expectations. Compare processor seconds with that in mind."""


@dataclass(frozen=True)
class Player:
    """A way to read the set: what it is called, how it runs, and what it reads."""

    name: str
    play: Callable[[], Cost]
    images: str


def step(script: str, *words: str) -> Cost:
    """Run one of our steps."""
    return run([sys.executable, str(STEPS / script), *words])


def imports(script: str) -> Cost:
    """Run a process that imports what a step imports, and ends."""
    return run([sys.executable, "-c", IMPORTS[script]], {"PYTHONPATH": str(STEPS)})


def ours(workspace: Path, real: Path) -> dict[str, Callable[[], Cost]]:
    """Return our two steps, their imports, and the first step on a part of the set."""
    out, checked, part = (str(workspace / name) for name in ("ours", "checked", "part"))
    return {
        FEWER: lambda: step("preprocess.py", "--input-dir", str(workspace / "fewer"), "--output-dir", part),
        "preprocess": lambda: step("preprocess.py", "--input-dir", str(real), "--output-dir", out),
        "preprocess, imports": lambda: imports("preprocess"),
        "validate": lambda: step("validate.py", "--manifest-dir", f"{out}/manifest", "--output-dir", checked),
        "validate, imports": lambda: imports("validate"),
    }


def peers(workspace: Path, real: Path) -> list[Player]:
    """Return the other ways to read the set."""
    plain = workspace / "plain"
    plain.mkdir()
    torch = [str(VENVS / "torchvision" / "bin" / "python"), str(PEERS / "torch_reading.py")]
    unpacked = str(workspace / "unpacked")
    return [
        Player(
            "plain loop: csv, zipfile, Pillow",
            lambda: run([sys.executable, str(PEERS / "plain_reading.py"), str(real), str(plain)]),
            "51,839, from zips to two arrays",
        ),
        Player("torchvision `ImageFolder`", lambda: run([*torch, "folder", unpacked]), "39,209, unpacked, to batches"),
        Player("torchvision `GTSRB`", lambda: run([*torch, "gtsrb", unpacked]), "51,839, unpacked, to batches"),
    ]


def unpack(real: Path, target: Path) -> None:
    """Unpack the zips as torchvision wants them: with the training images where an earlier stage had its own."""
    for name in OFFICIAL_FILES:
        with zipfile.ZipFile(real / name) as archive:
            archive.extractall(target / "gtsrb")
    shutil.move(target / "gtsrb/GTSRB/Final_Training/Images", target / "gtsrb/GTSRB/Training")


def larger(workspace: Path, real: Path) -> str:
    """Measure what each further image costs, in processes of their own, and return it as a table."""

    def part(*words: str) -> dict[str, float]:
        found: dict[str, float] = json.loads(run([sys.executable, "-m", "benchmarks.scale", *words]).output)
        return found

    seen, small, large = part("look", str(real)), part("listing", "200000"), part("listing", str(LISTED))
    annotation = (large["bytes"] * LISTED - small["bytes"] * 200_000) / (LISTED - 200_000)
    checked: list[Cost] = []
    for times in (1, TIMES):
        folder = str(workspace / f"times-{times}")
        run([sys.executable, "-m", "benchmarks.scale", "multiply", f"{workspace}/ours/manifest", str(times), folder])
        checked.append(step("validate.py", "--manifest-dir", folder, "--output-dir", f"{workspace}/checked-{times}"))
    more = OFFICIAL_IMAGES * (TIMES - 1)
    memory, cpu = ((getattr(checked[1], name) - getattr(checked[0], name)) / more for name in ("megabytes", "cpu"))
    rows = [
        ("read, decode, measure, hash", f"{seen['pixels']:.0f} us", "", f"{SAMPLE} images of 32x32, one process"),
        ("the same, and encode as PNG", f"{seen['png']:.0f} us", "", "the same"),
        ("make a record", f"{seen['record']:.0f} us", "", "the same"),
        ("listing and splits", f"{large['microseconds']:.0f} us", f"{annotation:.0f} B", f"{LISTED:,} annotations"),
        ("validate", f"{cpu * 1e6:.0f} us", f"{memory * 1e6:.0f} B", f"{OFFICIAL_IMAGES * TIMES:,} rows, and a tenth"),
    ]
    return "## What each further image costs\n\n" + report.table(("part", "CPU", "memory", "measured with"), rows)


def measure(workspace: Path, real: Path, rounds: int, warm: bool) -> str:
    """Measure everything, after a round that only warms up if the machine is not warm, and return the report."""
    before = report.load()
    unpack(real, workspace / "unpacked")
    fewer = thin(real, workspace / "fewer", tracks=100_000) + 12_630
    mine, others = ours(workspace, real), peers(workspace, real)
    costs: dict[str, list[Cost]] = {name: [] for name in (*mine, *(player.name for player in others))}
    missing: dict[str, str] = {}
    for number in range(1 if warm else 0, rounds + 1):
        for name, play in (*mine.items(), *((player.name, player.play) for player in others)):
            if name in missing:
                continue
            sys.stderr.write(f"round {number} of {rounds}: {name}\n")
            try:
                cost = play()
            except (CommandError, OSError) as error:
                if name in mine:
                    raise
                missing[name] = f"not measured: {error}"
                continue
            if number:
                costs[name].append(cost)
    spread = f"Seconds as minimum / **median** / maximum of {rounds}."
    title = f"# The data steps, measured\n\nWritten by `make bench-data`. {spread}"
    return "\n\n".join(
        [
            title,
            report.machine(before, ("tensorflow-cpu", "pillow", "great-expectations"), ("torchvision",)),
            _targets(costs, fewer),
            EXPLANATION,
            _comparison(costs, others, missing),
            larger(workspace, real),
        ]
    )


def _targets(costs: dict[str, list[Cost]], fewer: int) -> str:
    def beyond(value: Callable[[Cost], float]) -> list[float]:
        steps = zip(*(costs[name] for name in ("preprocess", "validate")), strict=True)
        alone = zip(*(costs[f"{name}, imports"] for name in ("preprocess", "validate")), strict=True)
        return [sum(map(value, both)) - sum(map(value, imported)) for both, imported in zip(steps, alone, strict=True)]

    both = [first + second for first, second in zip(costs["preprocess"], costs["validate"], strict=True)]
    work = [cpu / 2 for cpu in beyond(lambda cost: cost.cpu)]
    rows = [
        ("the work itself, wall", "15 s", report.spread(beyond(lambda cost: cost.wall))),
        ("the work itself, CPU seconds over two cores", "15 s", report.spread(work)),
        ("both steps with their imports, wall", "35 s", report.spread([cost.wall for cost in both])),
        ("both steps with their imports, CPU seconds", "", report.spread([cost.cpu for cost in both])),
        ("largest memory of all processes", "1.5 GB", f"{_memory(both)} MB"),
        (f"largest memory of preprocessing {fewer:,} images", "", f"{_memory(costs[FEWER])} MB"),
        ("largest memory of preprocessing 51,839", "", f"{_memory(costs['preprocess'])} MB"),
    ]
    return "## 51,839 images from zips to validated shards\n\n" + report.table(("what", "target", "measured"), rows)


def _memory(costs: list[Cost]) -> str:
    return f"{max(cost.megabytes for cost in costs):.0f}"


def _comparison(costs: dict[str, list[Cost]], others: list[Player], missing: dict[str, str]) -> str:
    both = [first + second for first, second in zip(costs["preprocess"], costs["validate"], strict=True)]
    mine = [("ours: preprocess and validate", both, "51,839, from zips to validated shards")]
    mine += [(f"ours: {name}", costs[name], "") for name in ("preprocess", "validate")]
    reference = [cost.cpu for cost in both]
    rows = []
    for name, measured, images in (*mine, *((player.name, costs[player.name], player.images) for player in others)):
        if name in missing:
            rows.append((name, missing[name], "", "", "", images))
            continue
        cpu = [cost.cpu for cost in measured]
        memory = f"{statistics.median(cost.megabytes for cost in measured):.0f} MB"
        wall = report.spread([cost.wall for cost in measured])
        rows.append((name, wall, report.spread(cpu), report.ratio(cpu, reference), memory, images))
    head = ("way", "wall", "CPU", "CPU to ours", "memory", "images")
    return "## Side by side\n\n" + report.table(head, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the report and write it beside the code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument(
        "--real", type=Path, default=NEARBY, help="folder with the official zips (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured (default: %(default)s)")
    parser.add_argument("--warm", action="store_true", help="leave out the round that only warms up")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error("--rounds must be 1 or more")
    try:
        with tempfile.TemporaryDirectory() as folder:
            text = measure(Path(folder), arguments.real, arguments.rounds, arguments.warm)
    except (CommandError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{text}\n")
    RESULTS.with_suffix(".new").write_text(f"{text}\n")
    RESULTS.with_suffix(".new").replace(RESULTS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
