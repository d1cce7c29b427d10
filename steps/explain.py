"""Show what a model archive's network has learned: its filters, and its feature maps for one image, as a PNG file."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from trafficsigns import failures
from trafficsigns.failures import StepError

logger = logging.getLogger("explain")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True, help="folder with model.tar.gz, or what it unpacks to")
    parser.add_argument("--image", type=Path, required=True, help="a PNG or JPEG file")
    parser.add_argument("--output", type=Path, required=True, help="the PNG file to write")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return failures.run(lambda: explain(arguments.model_dir, arguments.image, arguments.output))


def explain(model_dir: Path, image: Path, output: Path) -> None:
    """Draw the sheet and write it whole or not at all.

    Raises ``StepError`` for an archive or an image that cannot be read, for a model that shows nothing of itself, and
    for an output that cannot be written.
    """
    from trafficsigns import archive, features, signatures

    try:
        encoded = image.read_bytes()
    except OSError as error:
        raise StepError(f"{image} cannot be read: {error.strerror}") from error
    with tempfile.TemporaryDirectory(prefix="model-") as scratch:
        model = archive.opened(model_dir, Path(scratch))
        drawn = features.pictures(model.explain(encoded, image.name))
        if not drawn:
            raise StepError(f"{model.origin}: shows no stages, since it has no signature {signatures.EXPLAIN}")
        answer = model.answer([encoded])
    _save(features.sheet(drawn), output)
    logger.info("%s: %s with probability %.3f", image.name, answer.class_name[0], answer.probability[0])
    logger.info("%d pictures of the network's stages in %s", len(drawn), output)


def _save(sheet: Image.Image, output: Path) -> None:
    beside = output.with_name(f".{output.name}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(beside, format="PNG")
        beside.replace(output)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise StepError(f"{output} cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
