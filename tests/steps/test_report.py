import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from trafficsigns import charts, examples, report

CLASSES = ("Stop", "Give way", "No entry", "<script>alert(1)</script> & co")


def png(colour: tuple[int, int, int], side: int = 32) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def evaluation() -> dict:
    """Invented numbers, each one different, so that a figure in the wrong place cannot go unnoticed."""
    return {
        "metrics": {
            "images": 1203,
            "accuracy": 0.951,
            "accuracy_lower": 0.941,
            "accuracy_upper": 0.961,
            "macro_precision": 0.931,
            "macro_recall": 0.921,
            "macro_f1": 0.911,
            "worst_class_recall": 0.501,
            "top5_accuracy": 0.991,
            "negative_log_likelihood": 0.1234,
            "expected_calibration_error": 0.0456,
        },
        "classes": [
            {"class_id": 0, "class_name": CLASSES[0], "support": 900, "precision": 0.97, "recall": 0.98, "f1": 0.975},
            {"class_id": 1, "class_name": CLASSES[1], "support": 301, "precision": 0.81, "recall": 0.85, "f1": 0.83},
            {"class_id": 2, "class_name": CLASSES[2], "support": 0, "precision": None, "recall": None, "f1": None},
            {"class_id": 3, "class_name": CLASSES[3], "support": 2, "precision": 0.4, "recall": 0.5, "f1": 0.444},
        ],
        "confusion_matrix": [[882, 15, 3, 0], [45, 256, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]],
        "reliability": [
            {"lower": 0.0, "upper": 0.5, "count": 0, "confidence": None, "accuracy": None},
            {"lower": 0.5, "upper": 1.0, "count": 1203, "confidence": 0.97, "accuracy": 0.951},
        ],
        "gate": {
            "passed": False,
            "bounds": [
                {
                    "name": "MinimumAccuracy",
                    "metric": "accuracy_lower",
                    "comparison": "at_least",
                    "bound": 0.95,
                    "value": 0.941,
                    "passed": False,
                },
                {
                    "name": "MaximumCalibrationError",
                    "metric": "expected_calibration_error",
                    "comparison": "at_most",
                    "bound": 0.05,
                    "value": 0.0456,
                    "passed": True,
                },
            ],
        },
        "training": {
            "architecture": "LeNet-5",
            "parameters": 64811,
            "temperature": 0.40878941495112614,
            "selected_epoch": 2,
            "seed": 7,
            "history": [
                {"epoch": 1, "loss": 2.0, "accuracy": 0.5, "validation_loss": 1.5, "validation_accuracy": 0.6},
                {"epoch": 2, "loss": 1.0, "accuracy": 0.8, "validation_loss": None, "validation_accuracy": 0.9},
            ],
            "hyperparameters": {"batch_size": 128},
            "versions": {"tensorflow": "2.21.0"},
        },
        "lineage": {"commit": "3f9a2c1"},
        "robustness": {
            "images": 36,
            "clean": 0.956,
            "mean": 0.789,
            "corrupted": [
                {"kind": kind, "severity": severity, "accuracy": 0.9 - 0.1 * severity + 0.01 * number}
                for number, kind in enumerate(("noise", "blur"))
                for severity in (3, 1, 2)
            ],
        },
        "latency": {
            "p50_milliseconds": 1.23,
            "p99_milliseconds": 4.56,
            "reference_p50_milliseconds": 0.82,
            "ratio": 1.5,
        },
        "champion": None,
    }


@pytest.fixture
def pictures() -> list[bytes | None]:
    return [png((200, 0, 0)), png((250, 250, 250)), None, png((0, 0, 9), side=200)]


@pytest.fixture
def mistakes() -> list[report.Mistake]:
    return [report.Mistake(png((1, 2, 3)), "Images/00017.ppm", class_id=1, answered_id=2, probability=0.876)]


@pytest.fixture
def page(evaluation, pictures, mistakes) -> "Page":
    return Page(report.render(evaluation, pictures, mistakes))


class Page(HTMLParser):
    """A parsed report, refusing what is not well nested."""

    VOID = ("meta", "img", "br")

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


def test_every_number_is_the_one_of_the_evaluation(page, evaluation):
    shown = {}
    for attributes in page.all("data"):
        shown.setdefault(attributes["data-metric"], []).append(attributes["value"])
    for name, value in evaluation["metrics"].items():
        assert shown[name] == [str(value)]
    for verdict in evaluation["gate"]["bounds"]:
        assert shown[verdict["name"]] == [str(verdict["value"])]
    seen = sorted((row for row in evaluation["classes"] if row["support"]), key=lambda row: row["recall"])
    for name in ("precision", "recall", "f1"):
        assert shown[name] == [str(row[name]) for row in seen]


def test_what_people_read_is_the_rounded_number(page):
    for text in (
        "95.10\u202f%",
        "94.10\u202f% \u2013 96.10\u202f%",
        "0.0456",
        "1,203",
        "64,811",
        "0.4088",
        "85.0\u202f%",
    ):
        assert text in page.plain


@pytest.mark.parametrize(("passed", "verdict"), [(True, "Passes the quality gate"), (False, "Does not pass the")])
def test_the_verdict_stands_in_the_first_heading(evaluation, passed, verdict):
    evaluation["gate"]["passed"] = passed
    assert verdict in Page(report.render(evaluation, [None] * 4, [])).plain


def test_each_bound_says_its_own_verdict(page):
    assert page.plain.count("✗ not passed") == 1
    assert page.plain.count("✓ passed") == 1


def test_the_file_needs_nothing_from_outside(page):
    assert "http:" not in page.text
    assert "https:" not in page.text
    assert page.all("script", "link", "iframe", "object") == []
    assert "default-src 'none'" in page.text
    assert "url(" not in page.text
    sources = [attributes["src"] for attributes in page.all("img")]
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_links_lead_to_sections_of_the_page(page):
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [attributes["href"] for attributes in page.all("a")]
    assert len(links) == 11
    assert {link.removeprefix("#") for link in links} <= targets


def test_it_can_be_read_without_eyes(page):
    assert page.tags[0] == ("html", {"lang": "en"})
    assert all("alt" in attributes for attributes in page.all("img"))
    assert all(attributes["scope"] in ("col", "row") for attributes in page.all("th"))
    assert all(attributes["aria-label"] for attributes in page.all("svg"))
    assert [tag for tag, _ in page.tags].count("h1") == 1


def test_names_are_text_wherever_they_appear(page):
    assert "<script" not in page.text
    assert page.text.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; co") >= 3


def test_a_class_without_test_images_is_named_as_unmeasured(page):
    assert "left out of every mean: No entry (2)." in page.plain
    assert [row["data-class"] for row in page.all("tr") if "data-class" in row] == ["3", "1", "0"]


def test_a_mistake_shows_truth_answer_and_probability(page):
    assert "Is Give way Answered No entry, 87.6\u202f% 00017.ppm" in page.plain


def test_a_model_without_a_mistake_or_a_history_has_a_report_too(evaluation):
    evaluation["confusion_matrix"] = [[900, 0, 0, 0], [0, 301, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2]]
    evaluation["training"] = {"classes": list(CLASSES)}
    evaluation["lineage"] = {}
    plain = Page(report.render(evaluation, [None] * 4, [])).plain
    assert "and none wrongly" in plain
    assert "No test image was taken for another class." in plain


def test_the_same_evaluation_gives_the_same_file(evaluation, pictures, mistakes):
    assert report.render(evaluation, pictures, mistakes) == report.render(evaluation, pictures, mistakes)


def test_confusions_are_listed_by_count(evaluation):
    pairs = report.worst_confusions(evaluation["confusion_matrix"])
    assert [(pair.class_id, pair.answered_id, pair.count) for pair in pairs] == [
        (1, 0, 45),
        (0, 1, 15),
        (0, 2, 3),
        (3, 2, 1),
    ]
    assert pairs[0].share == 45 / 301


def test_large_pictures_are_made_smaller_and_small_ones_kept_byte_for_byte():
    small, large = png((9, 9, 9), side=32), png((9, 9, 9), side=250)
    assert base64.b64decode(report.data_uri(small).partition(",")[2]) == small
    with Image.open(io.BytesIO(base64.b64decode(report.data_uri(large).partition(",")[2]))) as shown:
        assert shown.size == (96, 96)


def test_the_most_legible_picture_is_neither_dark_nor_blown_out():
    ramp = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(ramp, format="PNG")
    assert report.most_legible([png((3, 3, 3)), ramp.getvalue(), png((255, 255, 255))]) == ramp.getvalue()
    assert report.most_legible([]) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\u2013"),
        (0.0, "0.00\u202f%"),
        (0.98765, "98.77\u202f%"),
        (0.999999, ">\u202f99.99\u202f%"),
        (1.0, "100.00\u202f%"),
    ],
)
def test_percentages_never_round_up_to_perfection(value, text):
    assert report.percent(value) == text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 2.03), (0.613, 1), (1, 30), (0, 0.0004)])
def test_ticks_are_few_even_and_inside(low, high):
    marks = charts.ticks(low, high)
    assert 2 <= len(marks) <= 6
    assert low <= marks[0] < marks[-1] <= high
    assert np.diff(marks) == pytest.approx(np.full(len(marks) - 1, marks[1] - marks[0]))


def test_learning_curves_break_at_gaps_and_mark_the_selected_epoch():
    series = [charts.Series("loss", "validation", [2.0, 1.0, None, 0.5])]
    drawn = Page(charts.lines("Loss", series, epochs=[1, 2, 3, 4], selected=2, top=None)).tags
    curves = [shape["points"].split() for tag, shape in drawn if tag == "polyline"]
    assert [len(points) for points in curves] == [2, 1]
    (selected,) = [shape for _, shape in drawn if shape.get("class") == "selected"]
    assert float(selected["x1"]) == pytest.approx(float(curves[0][1].partition(",")[0]), abs=0.1)


def test_a_single_epoch_is_a_dot():
    drawn = Page(charts.lines("Accuracy", [charts.Series("a", "training", [1.0])], [1], selected=None, top=1.0)).tags
    assert [tag for tag, _ in drawn].count("circle") == 1


@pytest.mark.parametrize("value", [None, 0.0, 0.9499, 0.95, 1.0])
@pytest.mark.parametrize("bound", [0.0, 0.05, 0.95, 1.0])
@pytest.mark.parametrize("comparison", ["at_least", "at_most"])
def test_a_bullet_draws_its_value_inside_or_outside_the_passing_band(comparison, bound, value):
    passed = value is not None and (value >= bound if comparison == "at_least" else value <= bound)
    verdict = {"name": "Bound", "comparison": comparison, "bound": bound, "value": value, "passed": passed}
    drawn = Page(charts.bullet(verdict)).tags
    (band,) = [shape for _, shape in drawn if shape.get("class") == "passing"]
    marks = [float(shape["cx"]) for tag, shape in drawn if tag == "circle"]
    left, right = float(band["x"]), float(band["x"]) + float(band["width"])
    assert len(marks) == (value is not None)
    assert all((left - 0.01 <= mark <= right + 0.01) is passed for mark in marks)


def test_examples_are_the_surest_right_answers_and_the_surest_wrong_ones():
    labels = np.array([0, 0, 1, 1, 2])
    probabilities = np.array([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.9, 0.1, 0.0]])
    names = ["a", "b", "c", "d", "e"]
    assert examples.clearest(probabilities, labels) == ((1,), (3,), (4,))
    assert examples.clearest(probabilities, labels, count=2) == ((1, 0), (3, 2), (4,))
    assert examples.worst_mistakes(probabilities, labels, names, count=2) == (4, 2)
    assert examples.golden(probabilities, labels) == (1,)


def test_golden_images_are_spread_over_the_classes():
    labels = np.arange(43)
    chosen = examples.golden(np.eye(43), labels)
    assert len(chosen) == 10
    assert (chosen[0], chosen[-1]) == (0, 42)
    assert np.diff(chosen).min() >= 4
    assert examples.golden(np.roll(np.eye(43), 1, axis=1), labels) == ()


def test_spoilt_pictures_are_listed_by_kind_from_mild_to_hard(page):
    text = " ".join(" ".join(page.words).split())
    assert re.search(r"noise 80\.0.% 70\.0.% 60\.0.%", text)
    assert re.search(r"blur 81\.0.% 71\.0.% 61\.0.%", text)


def test_what_changes_against_the_champion_is_named(evaluation, pictures, mistakes):
    evaluation["champion"] = {
        "champion_accuracy": 0.945,
        "challenger_accuracy": 0.951,
        "only_champion": 3,
        "only_challenger": 17,
        "p_value": 0.999,
        "classes": [{"class_id": 1, "champion": 250, "challenger": 256, "support": 301}],
    }
    text = " ".join(" ".join(Page(report.render(evaluation, pictures, mistakes)).words).split())
    assert re.search(r"94\.50.%", text)
    assert "Give way 301 250 256" in text
