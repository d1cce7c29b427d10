"""The networks: the LeNet-5 that this project began with, and the multi-scale LeNet that replaced it.

Both take images as they are stored (values 0 to 255) and normalise them inside, so that nobody who calls a network can
normalise differently, and both return logits: calibration and softmax belong to the export.
"""

from __future__ import annotations

import re

import keras
from keras import layers

from trafficsigns.images import SIDE
from trafficsigns.layers import LocalContrast, Standardise, Straighten, normalisation
from trafficsigns.presets import Multiscale, Preset

_STAGE = re.compile(r"straightened|colour|(conv|norm|relu|pool)\d")

_JOINED_SIDE = 4
"""Largest side of a feature map that the classifier sees; larger ones are pooled to it."""


def build(preset: Preset, classes: int) -> keras.Model:
    """Build a preset's network with fresh weights.

    It takes uint8 or uint8-valued float ``[n, 32, 32, 3]`` and returns float32 logits ``[n, classes]``.
    """
    return lenet5(classes) if preset.network is None else multiscale(preset.network, classes)


def lenet5(classes: int) -> keras.Model:
    """Build LeNet-5 with average pooling: 64,811 parameters for 43 classes.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86 (1998), with ReLU
    instead of tanh and full instead of sparse connections.
    """
    images = keras.Input((SIDE, SIDE, 3), name="images")
    x = Standardise()(images)
    for number, filters in enumerate((6, 16), 1):
        x = layers.Conv2D(filters, 5, name=f"conv{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
        x = layers.AveragePooling2D(2, name=f"pool{number}")(x)
    x = layers.Flatten()(x)
    for units in (120, 84):
        x = layers.Dense(units, activation="relu")(x)
    return keras.Model(images, layers.Dense(classes, dtype="float32", name="logits")(x), name="lenet5")


def multiscale(shape: Multiscale, classes: int) -> keras.Model:
    """Build a LeNet whose classifier sees the features of every scale, or a committee of such.

    What a column sees, the standardised image or its local contrast or both, is straightened by a spatial transformer;
    a learned 1x1 colour transform follows, then blocks of convolution, max pooling, batch normalisation and ReLU. The
    logits of several columns are averaged.

    Sources: Sermanet and LeCun, "Traffic sign recognition with multi-scale convolutional networks", IJCNN 2011
    (features of all scales into the classifier); Ciresan et al., "Multi-column deep neural network for traffic sign
    classification", Neural Networks 32 (2012) (columns that see the image prepared differently); Mishkin et al.,
    "Systematic evaluation of CNN advances on the ImageNet", CVIU 161 (2017) (learned colour transform); Maas et al.,
    "Rectifier nonlinearities improve neural network acoustic models", ICML 2013 (leaky ReLU); Glorot, Bordes and
    Bengio, "Deep sparse rectifier neural networks", AISTATS 2011 (ReLU); Scherer, Mueller and Behnke, "Evaluation of
    pooling operations in convolutional architectures for object recognition", ICANN 2010 (max pooling); Jaderberg et
    al., "Spatial transformer networks", NeurIPS 2015.
    """
    images = keras.Input((SIDE, SIDE, 3), name="images")
    colour, contrast = Standardise(name="standardised")(images), LocalContrast(name="contrast")(images)
    both = layers.Concatenate(name="seen")([colour, contrast])
    views = {"colour": colour, "contrast": contrast, "both": both}
    answers = [
        _column(views[view], shape, classes, "" if number == 1 else f"_{number}")
        for number, view in enumerate(shape.columns, 1)
    ]
    answer = answers[0] if len(answers) == 1 else layers.Average(name="committee", dtype="float32")(answers)
    return keras.Model(images, answer, name="multiscale")


def _column(x: keras.KerasTensor, shape: Multiscale, classes: int, suffix: str) -> keras.KerasTensor:
    if shape.straighten:
        x = _straighten(x, suffix)
    if shape.colours:
        x = layers.Conv2D(shape.colours, 1, activation="leaky_relu", name=f"colour{suffix}")(x)
    scales = []
    for number, (filters, kernel) in enumerate(shape.blocks, 1):
        x = _block(x, filters, kernel, f"{number}{suffix}")
        coarse = layers.MaxPooling2D(x.shape[1] // _JOINED_SIDE)(x) if x.shape[1] > _JOINED_SIDE else x
        scales.append(layers.Flatten()(coarse))
    x = layers.Concatenate(name=f"scales{suffix}")(scales[-shape.scales :])
    x = layers.Dense(shape.hidden, use_bias=False, name=f"hidden{suffix}")(x)
    x = layers.ReLU()(normalisation(f"hidden_norm{suffix}")(x))
    return layers.Dense(classes, dtype="float32", name=f"logits{suffix}")(x)


def voices(network: keras.Model) -> keras.Model:
    """Return the network with a list of each column's own logits, which is what each learns from.

    None learns from another's answers, as if they were trained one after the other, which Ciresan et al. did.
    """
    return keras.Model(network.input, [layer.output for layer in network.layers if layer.name.startswith("logits")])


def stages(network: keras.Model) -> keras.Model:
    """Return the network with what comes out of its stages instead of an answer, by numbered names, in order.

    These are the feature maps ``[n, height, width, channels]`` after the straightening, the colour transform and each
    convolution, normalisation, ReLU and pooling; of a committee, those of its first column.
    """
    shown = [layer for layer in network.layers if _STAGE.fullmatch(layer.name)]
    return keras.Model(
        network.input, {f"{number:02d}_{layer.name}": layer.output for number, layer in enumerate(shown)}
    )


def _straighten(x: keras.KerasTensor, suffix: str) -> keras.KerasTensor:
    # A small network looks at half the resolution. Its last layer starts at zero, so that training begins with the
    # image as it is.
    look = layers.AveragePooling2D(2)(x)
    for number, filters in enumerate((16, 32), 1):
        look = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"look{number}{suffix}")(look)
        look = layers.MaxPooling2D(2)(look)
    look = layers.Dense(32, activation="relu", name=f"look3{suffix}")(layers.Flatten()(look))
    change = layers.Dense(6, kernel_initializer="zeros", name=f"change{suffix}")(look)
    return Straighten(name=f"straightened{suffix}")([x, change])


def _block(x: keras.KerasTensor, filters: int, kernel: int, number: str) -> keras.KerasTensor:
    # Pooling comes first because normalisation and ReLU then work on a quarter of the values. ReLU and the maximum may
    # change places; normalisation then takes the statistics of the maxima, which are what comes after it.
    x = layers.Conv2D(filters, kernel, padding="same", use_bias=False, name=f"conv{number}")(x)
    x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
    x = normalisation(f"norm{number}")(x)
    return layers.ReLU(name=f"relu{number}")(x)
