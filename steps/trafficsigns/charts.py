"""The report's charts as inline SVG: pure functions from numbers to markup, styled by the report's own style sheet.

Colours never appear here, only class names, so that one chart serves light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from markupsafe import Markup

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """A linear map from ``domain``, in data units, to ``range``, in pixels."""

    domain: Point
    range: Point

    def __call__(self, value: float) -> float:
        """Map one value; what lies outside the domain is drawn at its border."""
        low, high = self.domain
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return self.range[0] + share * (self.range[1] - self.range[0])


@dataclass(frozen=True)
class Series:
    """One named line of a chart; a ``None`` is a gap."""

    name: str
    css: str
    values: Sequence[float | None]


def element(name: str, *children: ET.Element | str, **attributes: object) -> ET.Element:
    """Build one SVG element: ``font_size`` becomes ``font-size``, ``class_`` becomes ``class``, numbers are rounded."""
    node = ET.Element(name)
    for key, value in attributes.items():
        node.set(key.rstrip("_").replace("_", "-"), f"{value:.5g}" if isinstance(value, float) else str(value))
    for child in children:
        if isinstance(child, str):
            node.text = child
        else:
            node.append(child)
    return node


def picture(width: float, height: float, label: str, *children: ET.Element) -> Markup:
    """Wrap elements as one image with a text alternative.

    ElementTree escapes every text and attribute, so the result is safe to put into a page.
    """
    root = element("svg", *children, viewBox=f"0 0 {width:g} {height:g}", role="img")
    root.set("aria-label", label)
    root.set("style", f"max-width:{width:g}px")
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 - built by ElementTree, see above


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Choose at most ``most`` + 1 round numbers between two values, 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def bullet(verdict: Mapping[str, Any], upper: float | None = None) -> Markup:
    """Draw one bound: the passing region as a band, the measured value as a mark.

    ``upper`` is the other end of the value's confidence interval, where it has one.
    """
    bound, value, at_least = verdict["bound"], verdict["value"], verdict["comparison"] == "at_least"
    low, high = _bullet_domain(bound, value, at_least)
    x = Scale((low, high), (6.0, 234.0))
    band = (x(bound), x(high)) if at_least else (x(low), x(bound))
    parts = [
        element("rect", x=6, y=8, width=228, height=12, class_="track"),
        element("rect", x=band[0], y=8, width=max(band[1] - band[0], 1.0), height=12, class_="passing"),
        element("line", x1=x(bound), x2=x(bound), y1=4, y2=24, class_="bound"),
        element("text", f"{bound:.3g}", x=x(bound), y=34, class_="tick middle strong"),
    ]
    for end in (low, high):
        if abs(x(end) - x(bound)) > 36:  # else the two numbers would overlap
            parts.append(element("text", f"{end:.3g}", x=x(end), y=34, class_="tick middle"))
    if value is not None:
        css = "good" if verdict["passed"] else "bad"
        if upper is not None:
            parts.append(element("line", x1=x(value), x2=x(upper), y1=14, y2=14, class_=f"interval {css}"))
            parts.append(element("line", x1=x(upper), x2=x(upper), y1=10, y2=18, class_=f"interval {css}"))
        parts.append(element("circle", cx=x(value), cy=14, r=5, class_=f"value {css}"))
    measured = "not measured" if value is None else f"measured {value:.4f}"
    wanted = "at least" if at_least else "at most"
    return picture(240, 38, f"{verdict['name']}: {measured}, {wanted} {bound:g} required", *parts)


def _bullet_domain(bound: float, value: float | None, at_least: bool) -> Point:
    """Zoom to three times the distance from perfection to the bound, or as far as the value lies.

    On an axis from 0 to 1, bounds of 0.95 or 0.05 could not be told from their values.
    """
    if at_least:
        low = max(0.0, min(1 - 3 * (1 - bound), 0.99))
        return (low if value is None else min(low, value)), 1.0
    # A share ends at 1, a ratio or a size does not.
    high = max(min(3 * bound, 1.0), 0.01) if bound <= 1 else 1.5 * bound
    return 0.0, (high if value is None else max(high, value))


def lines(
    title: str, series: Sequence[Series], epochs: Sequence[int], selected: int | None, top: float | None
) -> Markup:
    """Draw learning curves over epochs, each named at its end, with the selected epoch marked.

    ``top`` fixes the upper end of the axis (1 for shares); without it the axis runs from 0 to the largest value.
    """
    values = [value for line in series for value in line.values if value is not None]
    x = Scale((min(epochs), max(max(epochs), min(epochs) + 1)), (40.0, 330.0))
    y = Scale(_heights(values, top), (206.0, 30.0))
    parts = [element("text", title, x=0, y=14, class_="title")]
    for mark in ticks(*y.domain):
        parts.append(element("line", x1=40, x2=330, y1=y(mark), y2=y(mark), class_="grid"))
        parts.append(element("text", f"{mark:g}", x=34, y=y(mark) + 3.5, class_="tick end"))
    for mark in ticks(*x.domain):
        if mark in epochs:
            parts.append(element("text", f"{mark:g}", x=x(mark), y=222, class_="tick middle"))
    parts.append(element("text", "epoch", x=372, y=222, class_="tick end"))
    if selected is not None and selected in epochs:
        parts.append(element("line", x1=x(selected), x2=x(selected), y1=30, y2=206, class_="selected"))
    parts += _curves(series, epochs, x, y)
    last = ", ".join(f"{line.name} {line.values[-1]:.4g}" for line in series if line.values[-1] is not None)
    return picture(400, 230, f"{title} over {len(epochs)} epochs; at the end {last or 'unknown'}", *parts)


def _heights(values: Sequence[float], top: float | None) -> Point:
    """Choose an axis that starts at 0, or where ``top`` is given at the round number below the smallest value."""
    if top is None:
        return 0.0, max(values, default=0.0) or 1.0
    low = min(values, default=0.0)
    if low >= top:
        return top - 0.1, top
    marks = ticks(low, top)
    step = marks[1] - marks[0]
    return max(0.0, round(marks[0] - step, 10) if marks[0] > low else marks[0]), top


def _curves(series: Sequence[Series], epochs: Sequence[int], x: Scale, y: Scale) -> list[ET.Element]:
    """Draw the lines and, at their ends, their names, moved apart where they would overlap."""
    parts: list[ET.Element] = []
    ends: list[tuple[Point, Series]] = []
    for line in series:
        runs = _runs(list(zip(epochs, line.values, strict=True)), x, y)
        for run in runs:
            path = " ".join(f"{across:.1f},{height:.1f}" for across, height in run)
            parts.append(element("polyline", points=path, class_=f"curve {line.css}"))
        if runs:
            ends.append((runs[-1][-1], line))
    lowest = -math.inf
    for (across, height), line in sorted(ends, key=lambda end: end[0][1]):
        lowest = max(height, lowest + 13)
        parts.append(element("circle", cx=across, cy=height, r=2.5, class_=f"name {line.css}"))
        parts.append(element("text", line.name, x=338, y=lowest + 3.5, class_=f"name {line.css}"))
    return parts


def _runs(values: Sequence[tuple[int, float | None]], x: Scale, y: Scale) -> list[list[Point]]:
    """Split a line at its gaps, so that an epoch without a value is not drawn as if it had one."""
    runs: list[list[Point]] = [[]]
    for epoch, value in values:
        if value is None:
            runs.append([])
        else:
            runs[-1].append((x(epoch), y(value)))
    return [run for run in runs if run]


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Markup:
    """Draw a confusion matrix: true classes by row, answered ones by column, errors with their counts.

    An error's colour grows with the square root of its share of the row, so that one in a hundred still shows.
    """
    cell, left, top = 17, 200, 22
    side = cell * len(names)
    parts = []
    for index, name in enumerate(names):
        middle = (index + 0.5) * cell
        total = sum(matrix[index])
        parts.append(
            element(
                "text",
                f"{_shortened(name)} {index}",
                x=left - 6,
                y=top + middle + 3.5,
                class_="tick end" if total else "tick end absent",
            )
        )
        parts.append(element("text", f"{index}", x=left + middle, y=top - 6, class_="tick middle"))
        parts.append(element("text", f"{index}", x=left + middle, y=top + side + 13, class_="tick middle"))
        parts.append(element("rect", x=left, y=top + index * cell, width=side, height=cell - 1, class_="track"))
        for answered, count in enumerate(matrix[index]):
            if count:
                corner = (left + answered * cell, top + index * cell)
                parts.append(_cell(corner, cell, count, total, index == answered, f"{name} → {names[answered]}"))
    errors = sum(map(sum, matrix)) - sum(matrix[index][index] for index in range(len(names)))
    label = (
        f"Confusion matrix of {len(names)} classes with {errors} errors; the largest are listed in the table before it"
    )
    return picture(left + side + 6, top + side + 20, label, *parts)


def _shortened(name: str, most: int = 34) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _cell(corner: tuple[int, int], cell: int, count: int, total: int, right: bool, meaning: str) -> ET.Element:
    x, y = corner
    share = count / total
    # A quarter of a class gone wrong is as red as it gets; paler than full, so that the count stays readable.
    css, opacity = ("right", share**2) if right else ("wrong", 0.15 + 0.45 * math.sqrt(min(4 * share, 1.0)))
    parts = [
        element("title", f"{meaning}: {count} of {total}"),
        element("rect", x=x, y=y, width=cell - 1, height=cell - 1, class_=css, fill_opacity=opacity),
    ]
    if not right:
        parts.append(element("text", f"{count}", x=x + (cell - 1) / 2, y=y + 11.5, class_="count"))
    return element("g", *parts)


def reliability(groups: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw a reliability diagram: accuracy against confidence for each bin, and below it how many answers it holds.

    The counts are drawn on a logarithmic scale, because nearly all answers of a good model fall into the last bin.
    """
    x, y = Scale((0, 1), (40.0, 340.0)), Scale((0, 1), (310.0, 10.0))
    parts = []
    for mark in ticks(0, 1):
        parts.append(element("line", x1=40, x2=340, y1=y(mark), y2=y(mark), class_="grid"))
        parts.append(element("text", f"{mark:g}", x=34, y=y(mark) + 3.5, class_="tick end"))
        parts.append(element("text", f"{mark:g}", x=x(mark), y=400, class_="tick middle"))
    parts.append(element("line", x1=x(0), y1=y(0), x2=x(1), y2=y(1), class_="ideal"))
    most = max(group["count"] for group in groups)
    size = Scale((0, math.log1p(most)), (0.0, 56.0))
    filled = [group for group in groups if group["count"]]
    for group in filled:
        at, accuracy = x(group["confidence"]), y(group["accuracy"])
        title = (
            f"{group['count']} answers between {group['lower']:.2f} and {group['upper']:.2f}: "
            f"confidence {group['confidence']:.3f}, accuracy {group['accuracy']:.3f}"
        )
        height = max(size(math.log1p(group["count"])), 1.0)
        left, right = x(group["lower"]) + 1, x(group["upper"]) - 1
        parts.append(
            element(
                "g",
                element("title", title),
                element("line", x1=at, x2=at, y1=y(group["confidence"]), y2=accuracy, class_="gap"),
                element("circle", cx=at, cy=accuracy, r=2 + size(math.log1p(group["count"])) / 18, class_="dot"),
                element("rect", x=left, y=384 - height, width=right - left, height=height, class_="column"),
            )
        )
    parts.append(
        element(
            "polyline",
            class_="curve validation",
            points=" ".join(f"{x(g['confidence']):.1f},{y(g['accuracy']):.1f}" for g in filled),
        )
    )
    parts.append(element("text", "accuracy", x=46, y=20, class_="tick"))
    parts.append(element("text", "answers (log)", x=46, y=324, class_="tick"))
    parts.append(element("text", "probability of the answer", x=340, y=416, class_="tick end"))
    return picture(360, 422, "Reliability diagram; its numbers are in the table that follows", *parts)
