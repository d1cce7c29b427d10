"""Time the project's training loop: steps are taken as `steps/train.py` takes them, on images drawn at random."""

import json
import sys
import time

import numpy as np
import tensorflow as tf

from trafficsigns import dataset, trainer
from trafficsigns.classes import CLASS_NAMES
from trafficsigns.presets import PRESETS


def main() -> None:
    """Take steps for a while with a preset, a batch size and a way of making batches, and tell the speed."""
    request = json.loads(sys.argv[1])
    with np.load(request["data"]) as stored:
        images = dataset.Images(stored["pixels"], stored["labels"])
    preset, size, steps = PRESETS[request["preset"]], request["batch"], request["chunk"]
    disturbances = preset.disturbances if request["augmentation"] else None
    plan = dataset.Plan(size, 1000, 1, disturbances)
    batches = dataset.stream(images, np.arange(len(images.labels)), plan)
    if request["one_batch"]:
        # The same batch again and again: what a step costs when its input costs nothing.
        batches = batches.take(1).cache().repeat()
    options = trainer.Options(1, size, 1e-3)
    network = trainer.Trainer(preset, options, len(CLASS_NAMES), steps, tf.distribute.get_strategy())
    stream = iter(batches)
    network.epoch(stream, 1)
    taken, processor, started = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - started < request["seconds"]:
        network.epoch(stream, 1)
        taken += steps * size
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    sys.stdout.write(json.dumps({"images": taken, "seconds": seconds, "processor": processor}) + "\n")


if __name__ == "__main__":
    main()
