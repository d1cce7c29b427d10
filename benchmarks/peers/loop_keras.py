"""The origin's script on Keras 3, timed: its LeNet, `model.fit` on arrays in memory, no augmentation."""

import json
import sys
import time

import keras
import numpy as np
from keras import layers


def main() -> None:
    """Fit epochs for a while, and tell the speed."""
    request = json.loads(sys.argv[1])
    with np.load(request["data"]) as stored:
        count = request["batch"] * request["chunk"]
        pixels, labels = stored["pixels"][:count].astype(np.float32) / 255.0, stored["labels"][:count]
    convolutions = [
        part
        for filters in (6, 16)
        for part in (layers.Conv2D(filters, 5, activation="relu"), layers.AveragePooling2D(2))
    ]
    dense = [layers.Dense(120, activation="relu"), layers.Dense(84, activation="relu")]
    answer = layers.Dense(43, activation="softmax")
    network = keras.Sequential([layers.Input((32, 32, 3)), *convolutions, layers.Flatten(), *dense, answer])
    assert network.count_params() == 64_811
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    def epoch() -> None:
        network.fit(pixels, labels, batch_size=request["batch"], epochs=1, verbose=0)

    epoch()
    taken, processor, started = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - started < request["seconds"]:
        epoch()
        taken += count
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    sys.stdout.write(json.dumps({"images": taken, "seconds": seconds, "processor": processor}) + "\n")


if __name__ == "__main__":
    main()
