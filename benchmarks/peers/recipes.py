"""Tell what each preset is: its fields, and the constants of training and augmentation, which are fields of none."""

import json
import sys
from dataclasses import asdict
from typing import Any

from trafficsigns import augmentation, trainer
from trafficsigns.presets import PRESETS

CONSTANTS = {
    augmentation: [name for name in vars(augmentation) if name.startswith("_") and name.isupper()],
    trainer: ["_SLOWEST_AVERAGE"],
}


def recipes() -> dict[str, Any]:
    """Return for each preset, in JSON's types, whatever decides what it becomes beside code, data and seed."""
    constants = {
        f"{module.__name__.rpartition('.')[2]}.{name}": getattr(module, name)
        for module, names in CONSTANTS.items()
        for name in names
    }
    told: dict[str, Any] = json.loads(json.dumps({name: {**asdict(row), **constants} for name, row in PRESETS.items()}))
    return told


if __name__ == "__main__":
    json.dump(recipes(), sys.stdout)
