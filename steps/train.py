"""Train the traffic-sign classifier and write the archive that an endpoint serves.

Reads TFRecord shards and ``labels.json`` as ``steps/preprocess.py`` writes them. In a SageMaker training job the
``SM_*`` environment names the folders; by hand, options do.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from trafficsigns import failures
from trafficsigns.presets import PRESETS

logger = logging.getLogger("train")

HANDLER = Path(__file__).parent / "serving" / "inference.py"
"""The endpoint's handler, which travels in the model archive."""

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
"""Policies of Keras that networks are trained under."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train, calibrate and export as the arguments say; return the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    # TensorFlow reads this when it is imported, which is why that happens below and not at the top.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for chatty in ("tensorflow", "absl"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    return failures.run(lambda: train(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = failures.Parser(
        description="Train the traffic-sign classifier and write the archive that an endpoint serves.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    folder = parser.add_argument_group("folders (default: what the SageMaker training job's environment says)")
    for option, variable, content in (
        ("--train-dir", "SM_CHANNEL_TRAIN", "training shards (*.tfrecord) and labels.json"),
        ("--validation-dir", "SM_CHANNEL_VALIDATION", "validation shards"),
        ("--model-dir", "SM_MODEL_DIR", "where 1/ and code/ of the model archive are written"),
    ):
        known = os.environ.get(variable)
        folder.add_argument(option, type=Path, default=known, required=known is None, help=f"{content}; ${variable}")
    folder.add_argument(
        "--checkpoint-dir",
        type=Path,
        default=os.environ.get("SM_CHECKPOINT_DIR"),
        help="where interrupted runs are continued from, in a folder for each; $SM_CHECKPOINT_DIR",
    )
    _add_hyperparameters(parser.add_argument_group("hyper-parameters"))
    return parser


def _add_hyperparameters(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--preset", choices=tuple(PRESETS), default="standard", help="the network and its recipe")
    for option, kind, meaning in (
        ("--epochs", _count, "passes over the training images"),
        ("--batch-size", _count, "images in one step, of all instances together"),
        ("--learning-rate", _rate, "highest rate of the schedule"),
    ):
        group.add_argument(option, type=kind, default=kind("0"), help=f"{meaning}; 0: as the preset says")
    group.add_argument(
        "--patience", type=_count, default=0, help="epochs without a better one after which training ends; 0: never"
    )
    group.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="of computing; mixed is for GPUs")
    group.add_argument("--seed", type=_seed, default=7, help="of weights, order and augmentation")


def train(arguments: argparse.Namespace) -> None:
    """Read the shards, train, fit the temperature and write the archive.

    Raises ``StepError`` on input that cannot be trained on, or training that fails.
    """
    # TensorFlow takes seconds to import: it waits until the arguments are known to be good.
    from trafficsigns import calibration, dataset, export, machines, training
    from trafficsigns.checkpoint import Checkpoint

    settings = training.Hyperparameters.of(
        arguments.preset,
        arguments.seed,
        **{name: getattr(arguments, name) for name in ("epochs", "batch_size", "learning_rate", "patience")},
        precision=arguments.precision,
    )
    export.require(HANDLER)  # Before an hour of training and not after it, as the archive's folder below.
    team = machines.assemble(machines.read(os.environ))
    names = dataset.read_names(arguments.train_dir / "labels.json")
    training_images = dataset.load(arguments.train_dir, len(names))
    validation_images = dataset.load(arguments.validation_dir, len(names))
    logger.info("%d training and %d validation images", len(training_images.labels), len(validation_images.labels))
    export.prepare(arguments.model_dir)

    started = time.perf_counter()
    checkpoint = None
    if arguments.checkpoint_dir is not None:
        replicas = team.strategy.num_replicas_in_sync
        run = training.identity(training_images, validation_images, len(names), settings, replicas)
        checkpoint = Checkpoint(arguments.checkpoint_dir / run)
        checkpoint.prepare()
    outcome = training.fit(training_images, validation_images, len(names), settings, checkpoint, team)
    if team.is_chief:
        temperature = calibration.fit_temperature(
            training.logits(training.answering(outcome.network), validation_images.pixels), validation_images.labels
        )
        record = training.describe(outcome, names, temperature)
        export.write_archive(
            export.Classifier(outcome.network, names, temperature), record, HANDLER, arguments.model_dir
        )
        logger.info(
            "selected epoch %d temperature %.3f parameters %d seconds %.0f",
            outcome.selected_epoch, temperature, record["parameters"], time.perf_counter() - started,
        )  # fmt: skip
    team.meet()
    if checkpoint is not None:
        checkpoint.remove()


def _whole(text: str, bits: int) -> int:
    if not text.isdecimal() or int(text) >= 2**bits:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to {2**bits - 1}")
    return int(text)


def _count(text: str) -> int:
    return _whole(text, 31)


def _seed(text: str) -> int:
    return _whole(text, 32)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return value


if __name__ == "__main__":
    sys.exit(main())
