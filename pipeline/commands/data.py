"""Data sets on the command line: fetch, describe, validate. None of it needs a cloud."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pipeline import datasets
from pipeline.commands.common import (
    DEFAULT_SETTINGS,
    Exit,
    JsonOption,
    SettingsOption,
    console,
    print_json,
    say,
    told,
)
from pipeline.commands.views import Downloads
from pipeline.datasets import DatasetError
from pipeline.settings import Settings, load

app = typer.Typer(help="Fetch, describe and validate data sets.", no_args_is_help=True)

FolderArgument = Annotated[
    Path,
    typer.Argument(
        help="Folder with a data set: the official zips or what they unpack to, Kaggle's Train.csv and Test.csv, "
        "train.p with valid.p and test.p, or a folder of pictures for each class."
    ),
]
FetchedArgument = Annotated[
    Path | None, typer.Argument(help="Folder for the archives.", show_default="data/gtsrb in the state folder")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", help="Folder for what is written.", show_default="in the state folder")
]


@app.command()
@told
def fetch(folder: FetchedArgument = None, settings_file: SettingsOption = DEFAULT_SETTINGS) -> None:
    """Download the official archives (360 MB), each checked; what broke off is continued, what is whole is kept."""
    target = folder or load(settings_file).state_dir / "data" / "gtsrb"
    with Downloads(console) as downloads:
        datasets.official(target, downloads)
    say(f"the official archives are in {target}")
    say(f"next:   signs data describe {target}")


@app.command()
@told
def describe(
    folder: FolderArgument,
    output: OutputOption = None,
    json_: JsonOption = False,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Show what a data set holds: layout, counts, sizes, classes, tracks; and draw a contact sheet."""
    place = output or load(settings_file).state_dir / "data" / "described" / folder.resolve().name
    said = datasets.described(folder, place, contact_sheet=True)
    if json_:
        print_json({**said, "contact_sheet": str(place / "contact-sheet.png")})
        return
    splits = ", ".join(f"{count} {split}" for split, count in said["splits"].items())
    say(f"{said['layout']}: {said['images']} images ({splits}), {said['tracks']} tracks, {_sizes(said['sizes'])}")
    if said["unlisted"]:
        say((f"{said['unlisted']} files are not listed", "yellow"), f": {', '.join(said['first_unlisted'])}")
    console.print(_classes(said))
    say(f"contact sheet: {place / 'contact-sheet.png'}")


def _sizes(sizes: dict[str, list[int] | None]) -> str:
    if sizes["width"] is None or sizes["height"] is None:
        return "sizes as the files have them"
    (narrowest, widest), (lowest, highest) = sizes["width"], sizes["height"]
    return f"{narrowest} to {widest} pixels wide and {lowest} to {highest} high"


def _classes(said: dict[str, Any]) -> Table:
    view = Table(title=f"{len(said['classes'])} classes", title_justify="left", expand=False)
    view.add_column("class", justify="right")
    view.add_column("name")
    for split in said["splits"]:
        view.add_column(split, justify="right")
    for each in said["classes"]:
        counts = (str(each["images"].get(split, 0)) for split in said["splits"])
        view.add_row(str(each["class_id"]), escape(each["name"]), *counts)
    return view


@app.command()
@told
def validate(
    folder: FolderArgument,
    images: Annotated[int, typer.Option("--images", help="How many images there must be; 0: do not ask.")] = 0,
    output: OutputOption = None,
    json_: JsonOption = False,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Hold a data set against the expectations that the pipeline's ValidateData step holds it against.

    Exit code 1 if a critical one is not met. Leaves the same report and data docs as the step.
    """
    settings = load(settings_file)
    place = output or settings.state_dir / "data" / "validated" / folder.resolve().name
    outcome = place / "validation.json"
    # One of an earlier run would speak for other data.
    outcome.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        datasets.run_step("preprocess.py", {"input-dir": folder, "output-dir": scratch, **_shares(settings)})
        options = {"manifest-dir": Path(scratch) / "manifest", "output-dir": place, "declared-images": images}
        reason = ""
        try:
            datasets.run_step("validate.py", options)
        except DatasetError as error:
            reason = str(error)
    if reason and not outcome.is_file():
        raise DatasetError(reason)
    found = json.loads(outcome.read_text(encoding="utf-8"))
    if json_:
        print_json({**found, "docs": str(place / "docs" / "index.html")})
    else:
        _print_findings(found, place)
    if not found["success"]:
        raise typer.Exit(Exit.REFUSED)


def _shares(settings: Settings) -> dict[str, Any]:
    given = settings.data
    fractions = {"validation-fraction": given.validation_fraction, "test-fraction": given.test_fraction}
    return {**fractions, "seed": given.seed}


def _print_findings(found: dict[str, Any], place: Path) -> None:
    for finding in found["findings"]:
        style = "bold red" if finding["severity"] == "critical" else "yellow"
        say((finding["severity"], style), f" {finding['rule']} ({finding['observed']})")
        for offender in finding["offenders"]:
            say(f"    {offender}")
    verdict = "meet the expectations" if found["success"] else "do not meet the expectations"
    say(f"{found['images']} images {verdict}; data docs: {place / 'docs' / 'index.html'}")
