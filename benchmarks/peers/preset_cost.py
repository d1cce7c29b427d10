"""What one answer of a preset costs: multiplications, and the latency of its archive's serving signature."""

import json
import statistics
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from trafficsigns import lenet
from trafficsigns.presets import PRESETS

CALLS = 200


def multiplications(network: keras.Model) -> int:
    """Count those of convolutions and dense layers for one image."""
    total = 0
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            total += int(np.prod(layer.output.shape[1:3])) * layer.kernel.shape.num_elements()
        elif isinstance(layer, keras.layers.Dense):
            total += layer.kernel.shape.num_elements()
    return total


def latency(archive: Path) -> float:
    """Return the median milliseconds of one call with one image."""
    saved = tf.saved_model.load(str(archive / "1"))
    signature = saved.signatures["serving_default"]
    pixels = np.random.default_rng(1).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    image = tf.constant([tf.io.encode_png(pixels).numpy()])
    for _ in range(20):
        signature(image_bytes=image)
    taken = []
    for _ in range(CALLS):
        started = time.perf_counter()
        signature(image_bytes=image)["class_id"].numpy()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e3


def main() -> None:
    """Measure a preset and its archive, and write the answer."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    preset, archive, answer = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    network = lenet.build(PRESETS[preset], 43)
    answer.write_text(json.dumps({"multiplications": multiplications(network), "latency": latency(archive)}))


if __name__ == "__main__":
    main()
