"""The training pipeline's parameters: their names, where their defaults stand in the settings, and what they may be.

A value given for one run has to satisfy what the setting has to satisfy, and is checked before anything is started: a
bound of 1.5 should not be found out after an hour of training.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import StringConstraints, TypeAdapter, ValidationError

from pipeline.settings import Data, Gate, Instances, Settings, Training

SETTINGS: Mapping[str, tuple[type, str]] = {
    "DeclaredImages": (Data, "declared_images"),
    "TestFraction": (Data, "test_fraction"),
    "ValidationFraction": (Data, "validation_fraction"),
    "Seed": (Data, "seed"),
    "Preset": (Training, "preset"),
    "Epochs": (Training, "epochs"),
    "BatchSize": (Training, "batch_size"),
    "LearningRate": (Training, "learning_rate"),
    "Patience": (Training, "patience"),
    "Precision": (Training, "precision"),
    "MinimumAccuracy": (Gate, "minimum_accuracy"),
    "MinimumClassRecall": (Gate, "minimum_class_recall"),
    "MaximumCalibrationError": (Gate, "maximum_calibration_error"),
    "MinimumCorruptedAccuracy": (Gate, "minimum_corrupted_accuracy"),
    "MaximumLatencyRatio": (Gate, "maximum_latency_ratio"),
    "MaximumArchiveMegabytes": (Gate, "maximum_archive_megabytes"),
    "ChampionSignificance": (Gate, "champion_significance"),
    "ProcessingInstanceType": (Instances, "processing"),
    "ProcessingInstanceCount": (Instances, "processing_count"),
    "TrainingInstanceType": (Instances, "training"),
    "TrainingInstanceCount": (Instances, "training_count"),
    "EndpointInstanceType": (Instances, "endpoint"),
}
"""Parameters whose default is a setting: the settings' section, and the name in it."""

MACHINES: Mapping[str, str] = {
    "ProcessingInstanceType": "training_uri",
    "TrainingInstanceType": "training_uri",
    "EndpointInstanceType": "inference_uri",
}
"""Parameters that name a machine, and the setting that takes the place of AWS's image for it."""

APPROVALS = ("PendingManualApproval", "Approved")

ADDRESS_LENGTH = 240
"""Characters of an S3 address: with its parameter's name before it, it becomes an argument of a job, 256 at most."""

Address = Annotated[str, StringConstraints(pattern=r"^s3://[^/]+", max_length=ADDRESS_LENGTH)]
Noted = Annotated[str, StringConstraints(pattern=r"^[\w.:/=+@ -]+$", max_length=128)]
"""Of the characters that SageMaker takes in a metadata property."""

OTHERS: Mapping[str, Any] = {
    "InputData": Annotated[str, StringConstraints(pattern=r"^s3://[\w.:/=+@ -]+$", max_length=ADDRESS_LENGTH)],
    "Champion": Address,
    "InputImages": Address,
    "Commit": Noted,
    "StepsCommit": Noted,
    "ModelApprovalStatus": Literal[APPROVALS],
}
"""Parameters that only a run can know, and their types."""


class ParameterError(Exception):
    """A parameter that does not exist or a value that it cannot have; the text is one line."""


def default(settings: Settings, name: str) -> Any:
    """Return the default of a parameter that has one in the settings."""
    section, field = SETTINGS[name]
    return getattr(getattr(settings, section.__name__.lower()), field)


def check(values: Mapping[str, str]) -> None:
    """Refuse values that the settings would refuse.

    Raises ``ParameterError`` that names the parameter, and what was expected.
    """
    for name, text in values.items():
        try:
            TypeAdapter(_type(name)).validate_python(text, strict=False)
        except ValidationError as error:
            raise ParameterError(f"parameter {name}: {error.errors()[0]['msg']} (got {text!r})") from error


def check_machines(settings: Settings, values: Mapping[str, str]) -> None:
    """Refuse machines of another kind than the settings have for the same use: the definition names an image for those.

    A machine with a GPU would train on its processor with it, at the GPU's price. Raises ``ParameterError``.
    """
    for name, uri in MACHINES.items():
        wanted, usual = values.get(name), default(settings, name)
        if wanted and not getattr(settings.images, uri) and _kind(wanted) != _kind(usual):
            field = SETTINGS[name][1]
            raise ParameterError(
                f"parameter {name}: {wanted} needs another image than {usual}, for which the definition has one: "
                f"write it to [instances] {field} in the settings, then `signs upsert`"
            )


def _kind(machine: str) -> str:
    """Return what computes in a machine, as AWS's images tell it apart: by the family's first letters."""
    family = re.sub(r"^ml\.|\d.*$", "", machine)
    return family if family in ("inf", "trn") else "gpu" if family[:1] in ("g", "p") else "cpu"


def _type(name: str) -> Any:
    if name in OTHERS:
        return OTHERS[name]
    if name not in SETTINGS:
        raise ParameterError(f"there is no parameter {name}: expected one of {', '.join([*SETTINGS, *OTHERS])}")
    section, field = SETTINGS[name]
    return get_type_hints(section, include_extras=True)[field]
