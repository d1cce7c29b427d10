"""Wheels on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline import clouds, protection
from pipeline import wheels as folders
from pipeline.clouds import Actor
from pipeline.commands.common import DEFAULT_SETTINGS, CloudName, CloudOption, SettingsOption, say, told
from pipeline.settings import load

STEPS: tuple[Actor, ...] = ("preprocess", "validate", "evaluate", "deploy")


@told
def wheels(
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Where the downloads are kept.", show_default="wheels/ in the state folder"),
    ] = None,
    cloud: CloudOption = CloudName.LOCAL,
    settings_file: SettingsOption = DEFAULT_SETTINGS,
) -> None:
    """Bring what AWS's image lacks into the bucket, for jobs that reach no package index (network in the settings).

    Wheels are downloaded by hash, as each step's lock says; what is there already is not sent again.
    """
    settings = load(settings_file)
    place = clouds.connect(cloud, settings)
    wanted = [step for step in STEPS if folders.needed(step) and protection.of(step, settings, place).wheels]
    if not wanted:
        say("no job needs wheels: none of isolated, own and offline is true under [network]")
    for step in wanted:
        address = folders.address(step, settings, place)
        kept = (folder or settings.state_dir / "wheels") / step / address.rpartition("/")[2]
        found = folders.download(step, settings.images.python, kept)
        new = folders.upload(place, address, found)
        say(f"{step}: {len(found)} wheels at {address}, {new} of them new")
