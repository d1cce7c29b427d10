"""What every step of every contestant does: write down its process, and nothing else."""

import os
from pathlib import Path


def note_process() -> None:
    """Append this process's number to the file that the benchmark reads to see which steps really ran, and where."""
    with Path(os.environ["BENCH_STEPS"]).open("a") as file:
        file.write(f"{os.getpid()}\n")


def note_seconds(seconds: float) -> None:
    """Tell the benchmark how long the flow took inside its own process."""
    Path(os.environ["BENCH_INSIDE"]).write_text(str(seconds))
