"""Time what no loop can leave out: the five convolutions of a training step of LeNet-5, forth and back."""

import json
import sys
import time

import tensorflow as tf

_LAYERS = ((32, 3, 6), (14, 6, 16))
"""Side of the image, channels and filters of each layer; the kernels are 5x5."""


def main() -> None:
    """Compute them for a while, on values drawn at random, and tell the speed in images that a step would have had."""
    request = json.loads(sys.argv[1])
    batch, steps = request["batch"], request["chunk"]
    images = [tf.random.normal((batch, side, side, channels)) for side, channels, _ in _LAYERS]
    kernels = [tf.random.normal((5, 5, channels, filters)) for _, channels, filters in _LAYERS]
    gradients = [tf.random.normal((batch, side - 4, side - 4, filters)) for side, _, filters in _LAYERS]
    options = {"strides": [1, 1, 1, 1], "padding": "VALID"}

    def step(total: tf.Tensor) -> tf.Tensor:
        # Each image depends on the step before, so that nothing is computed once for all, nor two steps at a time.
        inputs = [image + 1e-30 * total for image in images]
        outputs = [
            result
            for image, kernel, gradient in zip(inputs, kernels, gradients, strict=True)
            for result in (
                tf.raw_ops.Conv2D(input=image, filter=kernel, **options),
                tf.raw_ops.Conv2DBackpropFilter(
                    input=image, filter_sizes=kernel.shape, out_backprop=gradient, **options
                ),
            )
        ]
        outputs.append(
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=images[1].shape, filter=kernels[1], out_backprop=gradients[1] + 1e-30 * total, **options
            )
        )
        return tf.add_n([tf.reshape(output, [-1])[0] for output in outputs])

    @tf.function
    def epoch() -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(steps):
            total = step(total)
        return total

    epoch()
    taken, processor, started = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - started < request["seconds"]:
        epoch().numpy()
        taken += batch * steps
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    sys.stdout.write(json.dumps({"images": taken, "seconds": seconds, "processor": processor}) + "\n")


if __name__ == "__main__":
    main()
