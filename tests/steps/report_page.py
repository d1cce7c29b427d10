"""A report read back: its structure, its words, and its figures held against the evaluation that it shows."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """A parsed report, refusing what is not well nested."""

    VOID = ("meta", "img", "br", "wbr")

    def __init__(self, text: str):
        super().__init__()
        self.text, self.open, self.tags, self.words = text, [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, *names: str) -> list[dict]:
        return [attributes for tag, attributes in self.tags if tag in names]

    @property
    def plain(self) -> str:
        # A bare split() would also swallow the narrow space that belongs to a percentage.
        return re.sub("[ \n]+", " ", " ".join(self.words))


BY_BOUND = ("mean_corrupted_accuracy", "archive_megabytes", "champion_p_value")
"""Metrics that the page shows under the name of the bound that they are held to."""


def figures(evaluation: dict) -> dict[str, list]:
    """Return what the page must show as figures, by the names that it gives them, in the order of the page."""
    robustness, explanation, data = (evaluation[key] for key in ("robustness", "explanation", "data"))
    expected = {name: [value] for name, value in evaluation["metrics"].items() if name not in BY_BOUND}
    expected |= {verdict["name"]: [verdict["value"]] for verdict in evaluation["gate"]["bounds"]}
    seen = [row for row in evaluation["classes"] if row["support"]]
    seen.sort(key=lambda row: (row["recall"], row["class_id"]))
    expected |= {name: [row[name] for row in seen] for name in ("precision", "recall", "f1")}
    expected |= {f"{each['kind']}_{each['severity']}": [each["accuracy"]] for each in robustness["corrupted"]}
    for part in explanation["parts"]:
        expected |= {f"share_{part['name']}": [part["mean"]], f"amount_{part['name']}": [part["mean_absolute"]]}
    for measure in data["measures"]:
        expected |= {f"{measure['name']}_{key}": [measure[key]] for key in ("min", "mean", "std_dev", "max")}
    expected |= {f"data_{split}": [images] for split, images in data["splits"].items()}
    for name in ("p50_milliseconds", "p99_milliseconds", "ratio"):
        expected[f"latency_{name}"] = [evaluation["latency"][name]]
    return expected | {
        "robustness_clean": [robustness["clean"]],
        "robustness_mean": [robustness["mean"]],
        "explanation_covered": [explanation["covered"]],
        "explanation_seen": [explanation["seen"]],
        "data_images": [data["images"]],
        "data_expectations": [data["expectations"]],
    }


def disagreeing(page: Page, evaluation: dict) -> dict[str, tuple]:
    """Return the figures that are not the evaluation's, or not there, each with what is shown and what should be."""
    shown: dict[str, list[str]] = {}
    for attributes in page.all("data"):
        shown.setdefault(attributes["data-metric"], []).append(attributes["value"])
    expected = {name: [str(value) for value in values] for name, values in figures(evaluation).items()}
    return {name: (shown.get(name), values) for name, values in expected.items() if shown.get(name) != values}
