"""Invent a traffic-sign data set in GTSRB's official layout, for machines that cannot download the real one.

Writes GTSRB_Final_Training_Images.zip, GTSRB_Final_Test_Images.zip and GTSRB_Final_Test_GT.zip. The signs are drawn,
aged, lit and photographed by this program; nothing is taken from the real data. The same options give the same bytes.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from trafficsigns.synthetic.archives import Recipe, write
from trafficsigns.synthetic.sheet import contact_sheet

_log = logging.getLogger("synthesize")


def _parser() -> argparse.ArgumentParser:
    default = Recipe()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output-dir", type=Path, required=True, help="folder for the three archives; made if missing")
    numbers = {
        "--seed": (default.seed, "what all random numbers follow from"),
        "--tracks-per-class": (default.tracks_per_class, "training signs of each of the 43 classes"),
        "--frames-per-track": (default.frames_per_track, "photographs of each training sign"),
        "--test-per-class": (default.test_per_class, "test images of each class, each of a sign of its own"),
        "--processes": (os.cpu_count() or 1, "processes to share the work; the result does not depend on it"),
    }
    for option, (value, text) in numbers.items():
        parser.add_argument(option, type=int, default=value, metavar="N", help=f"{text} (default: %(default)s)")
    parser.add_argument(
        "--contact-sheet", type=Path, metavar="FILE.png", help="also write a picture of all classes with some samples"
    )
    return parser


def _synthesize(arguments: argparse.Namespace) -> None:
    recipe = Recipe(arguments.seed, arguments.tracks_per_class, arguments.frames_per_track, arguments.test_per_class)
    if arguments.processes < 1:
        raise ValueError(f"--processes is {arguments.processes}; it must be 1 or more")
    sheet: Path | None = arguments.contact_sheet
    if sheet and (sheet.suffix != ".png" or not sheet.parent.is_dir()):
        raise ValueError(f"--contact-sheet is {sheet}; it must be a .png file in a folder that exists")
    started = time.monotonic()
    write(recipe, arguments.output_dir, arguments.processes)
    _log.info("wrote three archives to %s in %.1f s", arguments.output_dir, time.monotonic() - started)
    if sheet:
        contact_sheet(recipe.seed).save(sheet)
        _log.info("wrote %s", sheet)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        _synthesize(arguments)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"synthesize: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
