"""The report's smaller pictures as inline SVG: accuracy against severity, distributions, and parts of a picture.

As in ``charts``, colours are class names only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from markupsafe import Markup

from trafficsigns import zones
from trafficsigns.charts import Scale, element, picture, ticks

STEPS = ("as it is", "a little", "more", "much")
"""The severities, beginning with none."""


def severities(kind: str, accuracies: Sequence[float], low: float) -> Markup:
    """Draw the share of right answers against severity, the unspoilt pictures' first; the axis runs from ``low`` to 1.

    Panels with the same ``low`` can be compared by eye.
    """
    x = Scale((0, len(accuracies) - 1), (34.0, 186.0))
    y = Scale((low, 1.0), (100.0, 26.0))
    parts = [element("text", kind, x=0, y=12, class_="title")]
    for mark in ticks(low, 1.0, 4):
        parts.append(element("line", x1=34, x2=190, y1=y(mark), y2=y(mark), class_="grid"))
        parts.append(element("text", f"{mark:g}", x=28, y=y(mark) + 3.5, class_="tick end"))
    path = " ".join(f"{x(step):.1f},{y(accuracy):.1f}" for step, accuracy in enumerate(accuracies))
    parts.append(element("polyline", points=path, class_="curve validation"))
    for step, accuracy in enumerate(accuracies):
        title = element("title", f"{kind}, {STEPS[step]}: {accuracy:.3f}")
        parts.append(element("circle", title, cx=x(step), cy=y(accuracy), r=3, class_="dot"))
        parts.append(element("text", f"{step}", x=x(step), y=116, class_="tick middle"))
    said = ", ".join(f"{STEPS[step]} {accuracy:.3f}" for step, accuracy in enumerate(accuracies))
    return picture(200, 120, f"Accuracy against severity of {kind}: {said}", *parts)


def lowest(accuracies: Sequence[float]) -> float:
    """Choose the lower end of an axis for accuracies: a round tenth below all of them."""
    return max(0.0, math.floor(min(accuracies) * 10 - 1e-9) / 10)


def histogram(measure: Mapping[str, Any]) -> Markup:
    """Draw how one measure of the training images is distributed, from the buckets of its statistics."""
    buckets = measure["buckets"]
    x = Scale(
        (buckets[0]["lower_bound"], max(buckets[-1]["upper_bound"], buckets[0]["lower_bound"] + 1e-9)), (4.0, 196.0)
    )
    height = Scale((0.0, max(bucket["count"] for bucket in buckets) or 1.0), (0.0, 74.0))
    parts = [element("text", measure["name"], x=0, y=12, class_="title")]
    for bucket in buckets:
        left, right, tall = x(bucket["lower_bound"]), x(bucket["upper_bound"]), height(bucket["count"])
        title = element("title", f"{bucket['lower_bound']:.3g} to {bucket['upper_bound']:.3g}: {bucket['count']:.0f}")
        column = {"x": left + 0.5, "y": 100 - tall, "width": max(right - left - 1, 0.5), "height": tall}
        parts.append(element("rect", title, class_="column", **column))
    parts.append(element("line", x1=4, x2=196, y1=100, y2=100, class_="grid"))
    parts.append(element("text", f"{measure['min']:.3g}", x=4, y=114, class_="tick"))
    parts.append(element("text", f"{measure['max']:.3g}", x=196, y=114, class_="tick end"))
    label = (
        f"Distribution of {measure['name']}: from {measure['min']:.3g} to {measure['max']:.3g}, "
        f"mean {measure['mean']:.3g}, standard deviation {measure['std_dev']:.3g}"
    )
    return picture(200, 120, label, *parts)


def balance(counts: Sequence[tuple[str, int]]) -> Markup:
    """Draw how many images each class has, given name and count, in the order of the classes."""
    x = Scale((0, len(counts)), (40.0, 396.0))
    y = Scale((0, max(count for _, count in counts) or 1), (110.0, 10.0))
    parts = []
    for mark in ticks(*y.domain, most=3):
        parts.append(element("line", x1=40, x2=396, y1=y(mark), y2=y(mark), class_="grid"))
        parts.append(element("text", f"{mark:g}", x=34, y=y(mark) + 3.5, class_="tick end"))
    width = (x.range[1] - x.range[0]) / len(counts)
    for number, (name, count) in enumerate(counts):
        title = element("title", f"{name}: {count}")
        box = {"x": x(number) + width * 0.1, "y": y(count), "width": width * 0.8, "height": 110 - y(count)}
        parts.append(element("rect", title, class_="column", **box))
        if number % 5 == 0:
            parts.append(element("text", f"{number}", x=x(number + 0.5), y=124, class_="tick middle"))
    parts.append(element("text", "class", x=396, y=138, class_="tick end"))
    fewest, most = min(counts, key=lambda pair: pair[1]), max(counts, key=lambda pair: pair[1])
    label = f"Training images of each class: fewest {fewest[0]} with {fewest[1]}, most {most[0]} with {most[1]}"
    return picture(400, 140, label, *parts)


def regions(shares: Mapping[str, float]) -> Markup:
    """Draw a picture of the parts of a picture, the stronger the colour the larger the share of the part."""
    largest = max(abs(share) for share in shares.values()) or 1.0

    def painted(name: str, tag: str, **shape: object) -> ET.Element:
        share = shares[name]
        css, opacity = "right" if share >= 0 else "wrong", 0.04 + 0.86 * abs(share) / largest
        return element(tag, element("title", f"{name}: {share:+.3f}"), class_=css, fill_opacity=opacity, **shape)

    inner, outer = 100 * zones.CENTRE, 100 * zones.RING
    parts = [
        # Even-odd: the square without the ring and all inside it.
        painted(
            "surroundings",
            "path",
            d=f"M0 0H200V200H0Z M{100 + outer:.1f} 100A{outer:.1f} {outer:.1f} 0 1 0 {100 - outer:.1f} 100"
            f"A{outer:.1f} {outer:.1f} 0 1 0 {100 + outer:.1f} 100Z",
            fill_rule="evenodd",
        ),
        painted("centre", "circle", cx=100, cy=100, r=inner),
    ]
    for turn, name in enumerate(("right", "bottom", "left", "top")):
        parts.append(painted(name, "path", d=_sector(inner, outer), transform=f"rotate({90 * turn} 100 100)"))
    said = ", ".join(f"{name} {share:+.3f}" for name, share in shares.items())
    return picture(200, 200, f"What the parts of a picture add to the probability of the answer: {said}", *parts)


def _sector(inner: float, outer: float) -> str:
    """Write the path of the quarter ring that looks to the right, around the middle of a square of 200."""
    half = math.sqrt(0.5)
    near, far = inner * half, outer * half
    return (
        f"M{100 + near:.2f} {100 - near:.2f}L{100 + far:.2f} {100 - far:.2f}"
        f"A{outer:.2f} {outer:.2f} 0 0 1 {100 + far:.2f} {100 + far:.2f}"
        f"L{100 + near:.2f} {100 + near:.2f}A{inner:.2f} {inner:.2f} 0 0 0 {100 + near:.2f} {100 - near:.2f}Z"
    )
