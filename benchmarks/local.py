"""Measures the embedded SageMaker, and beside it other tools' local runners: ``make bench-local``."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import contestants, embedded, report
from benchmarks.contestants import BenchmarkError, Contestant, Run
from infra.local import control

RESULTS = Path(__file__).parent / "results" / "local.md"

EXPLANATION = """\
Every step appends its process's number to one file, and does nothing else (Prefect's, ZenML's and Kedro's hand a number
to the next, by which these tools know the order); a run counts only if exactly five steps did (none, where a cache
answers). The tools take turns within each round, in an order that changes, after one round that does not count; state
lies in a temporary folder; servers, where a tool has one, are started before and idle while others run. *Whole command*
is from the start of the operating system's process to its end, with the interpreter and its imports; *inside* is what
the tool's own process sees as the run. *To ours* compares medians with the first row: above 1 is slower. Running all
steps in one process is less work than a process for each, and isolates less."""

Outcome = list[Run] | str
"""A contestant's runs, or why it has none."""


def rounds(workspace: Path, players: Sequence[Contestant], count: int) -> dict[str, Outcome]:
    """Let everybody run once a round, one after the other; a round before the first only warms up."""
    outcomes: dict[str, Outcome] = {player.name: player.missing or [] for player in players}
    for number in range(count + 1):
        for player in random.sample(players, len(players)):
            outcome = outcomes[player.name]
            if isinstance(outcome, str):
                continue
            _say(f"round {number} of {count}: {player.name}")
            try:
                run = contestants.play(workspace, player)
            except BenchmarkError as error:
                outcomes[player.name] = str(error)
                continue
            if number:
                outcome.append(run)
    return outcomes


def starts(workspace: Path, count: int) -> list[float]:
    """Return the seconds until a server is ready on an empty folder, each time another."""
    seconds = []
    for number in range(count):
        _say(f"start {number + 1} of {count}")
        with embedded.server(workspace / f"start-{number}") as (_, ready):
            seconds.append(ready)
    return seconds


def transfers(workspace: Path, running: control.RunningServer, count: int) -> list[embedded.Transfer]:
    """Return what the archives' way up and down took, each time under another prefix."""
    embedded.make_archives(workspace / "archives")
    done = []
    for number in range(count):
        _say(f"archives {number + 1} of {count}")
        done.append(embedded.transfer(running, workspace / "archives", workspace / "download"))
    return done


def measure(workspace: Path, count: int) -> str:
    """Measure everything and return the report."""
    load = report.load()
    shutil.copytree(contestants.PEERS, workspace / "peers")
    (workspace / "home").mkdir()
    ready = starts(workspace, count)
    state = workspace / "state"
    with embedded.server(state) as (running, _):
        names = [embedded.create_pipeline(running, workspace, cached) for cached in (False, True)]
        ours = contestants.embedded(running.url, running.region, *names)
        # What the cache answers from.
        contestants.play(
            workspace, Contestant("first run", ("python", *ours[1].command[1:]), "", environment=ours[1].environment)
        )
        with contestants.prefect_server(workspace) as prefect_url:
            players = [*ours, *contestants.peers(prefect_url)]
            outcomes = rounds(workspace, players, count)
        before = embedded.peak_megabytes(running)
        archives = transfers(workspace, running, count)
        after = embedded.peak_megabytes(running)
    with embedded.server(state) as (_, again):
        pass
    return "\n\n".join(
        [
            "# The embedded SageMaker, measured",
            f"Written by `make bench-local`. Seconds as minimum / **median** / maximum of {count}.",
            report.machine(load),
            _targets(ready, again, [outcomes[player.name] for player in ours], archives, (before, after)),
            _comparison(players, outcomes),
        ]
    )


def _targets(
    ready: list[float],
    again: float,
    ours: list[Outcome],
    archives: list[embedded.Transfer],
    peaks: tuple[float | None, float | None],
) -> str:
    stored = len(archives) * sum(embedded.ARCHIVES.values()) / 1e6
    inside = [run if isinstance(run, str) else report.spread([one.inside for one in run]) for run in ours]
    memory = [f"{peak:.0f} MB" if peak else "this system does not tell" for peak in peaks]
    up, down = [move.up for move in archives], [move.down for move in archives]
    both = [move.up + move.down for move in archives]
    parts = f"{report.spread(both)} (up {report.spread(up)}, down {report.spread(down)})"
    rows = [
        ("server ready, empty folder", "3 s", report.spread(ready)),
        ("server ready again, on all that this benchmark left", "3 s", f"{again:.2f} (once)"),
        ("five chained steps, each a process, on a warm server", "2 s", inside[0]),
        ("the same, all answered by the step cache", "1 s", inside[1]),
        ("134 MB of archives up and down with boto3", "3 s", parts),
        ("the server's peak memory after the steps", "300 MB", memory[0]),
        (f"the server's peak memory after {stored:.0f} MB of archives", "300 MB", memory[1]),
    ]
    return "## Targets\n\n" + report.table(("what", "target", "measured"), rows)


def _comparison(players: list[Contestant], outcomes: dict[str, Outcome]) -> str:
    first = outcomes[players[0].name]
    ours = first if isinstance(first, list) else []
    rows = [_row(player, outcomes[player.name], ours) for player in players]
    head = (
        "tool",
        "whole command",
        "to ours",
        "inside",
        "to ours",
        "processes for 5 steps",
        "what the figures include",
    )
    return "\n\n".join(
        [
            "## Five steps that do nothing, side by side",
            EXPLANATION,
            report.table(head, rows),
        ]
    )


def _row(player: Contestant, outcome: Outcome, ours: list[Run]) -> tuple[str, ...]:
    if isinstance(outcome, str):
        return (player.name, outcome, "", "", "", "", player.includes)
    whole, inside = [run.whole for run in outcome], [run.inside for run in outcome]
    return (
        player.name,
        report.spread(whole),
        report.ratio(whole, [run.whole for run in ours]) if ours else "",
        report.spread(inside),
        report.ratio(inside, [run.inside for run in ours]) if ours else "",
        "/".join(str(number) for number in sorted({run.processes for run in outcome})),
        player.includes,
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the report and write it beside the code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local", description=__doc__)
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="how often everything is measured (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error("--rounds must be 1 or more")
    # Whoever ends this early should not be left with the servers that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with tempfile.TemporaryDirectory() as folder:
            text = measure(Path(folder), arguments.rounds)
    except (BenchmarkError, control.ServerError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{text}\n")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.with_suffix(".new").write_text(f"{text}\n")
    RESULTS.with_suffix(".new").replace(RESULTS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
