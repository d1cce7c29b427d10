import base64
import io
import re
from html.parser import HTMLParser

import invented
import numpy as np
import pytest
from invented import CLASSES, png
from PIL import Image

from trafficsigns import charts, diagrams, examples, report


@pytest.fixture
def evaluation() -> dict:
    return invented.evaluation()


@pytest.fixture
def pictures() -> list[bytes | None]:
    return [png((200, 0, 0)), png((250, 250, 250)), None, png((0, 0, 9), side=200)]


@pytest.fixture
def mistakes() -> list[report.Mistake]:
    reasons = png((4, 5, 6))
    return [report.Mistake(png((1, 2, 3)), "Images/00017.ppm", 1, 2, probability=0.876, reasons=reasons)]


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
    for name, value in beyond(evaluation).items():
        assert shown[name] == [str(value)], name


def beyond(evaluation):
    """What else the page shows as figures, by the names that it gives them."""
    robustness, explanation, data = (evaluation[key] for key in ("robustness", "explanation", "data"))
    spoilt = {f"{each['kind']}_{each['severity']}": each["accuracy"] for each in robustness["corrupted"]}
    shares = {f"share_{part['name']}": part["mean"] for part in explanation["parts"]}
    amounts = {f"amount_{part['name']}": part["mean_absolute"] for part in explanation["parts"]}
    keys = ("min", "mean", "std_dev", "max")
    measures = {f"{each['name']}_{key}": each[key] for each in data["measures"] for key in keys}
    return {
        **spoilt, **shares, **amounts, **measures,
        "robustness_clean": robustness["clean"],
        "robustness_mean": robustness["mean"],
        "latency_ratio": evaluation["latency"]["ratio"],
        "latency_p50_milliseconds": evaluation["latency"]["p50_milliseconds"],
        "latency_p99_milliseconds": evaluation["latency"]["p99_milliseconds"],
        "explanation_covered": explanation["covered"],
        "explanation_seen": explanation["seen"],
        "data_images": data["images"],
        "data_expectations": data["expectations"],
        "data_findings": len(data["findings"]),
        **{f"data_{split}": images for split, images in data["splits"].items()},
    }  # fmt: skip


def test_what_people_read_is_the_rounded_number(page):
    for text in (
        "95.10\u202f%",
        "2,891",
        "+0.300",
        "\u22120.050",
        "0.311",
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
    assert len(links) == 13
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
    evaluation["lineage"], evaluation["parameters"] = {}, {}
    evaluation["data"] = None
    plain = Page(report.render(evaluation, [None] * 4, [])).plain
    assert "and none wrongly" in plain
    assert "No test image was taken for another class." in plain
    assert "What validation said of the data was not given" in plain


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


def test_the_champions_numbers_are_figures_too(evaluation, pictures, mistakes):
    compared = {"champion_accuracy": 0.9451, "challenger_accuracy": 0.951, "only_champion": 3, "only_challenger": 17}
    evaluation["champion"] = {**compared, "p_value": 0.997, "classes": []}
    page = Page(report.render(evaluation, pictures, mistakes))
    shown = {attributes["data-metric"]: attributes["value"] for attributes in page.all("data")}
    assert {name: shown[name] for name in compared} == {name: str(value) for name, value in compared.items()}
    assert shown["champion_p_value"] == "0.997"


def test_what_the_data_lacks_is_named_with_its_files(page):
    assert "warning no content stands in two splits a<b>.ppm, b.ppm, c.ppm … 16 of 4567 images" in page.plain
    assert "d.ppm" not in page.plain


def test_good_data_is_said_to_be_good(evaluation, pictures, mistakes):
    evaluation["data"]["findings"] = []
    assert "27 expectations. All were met." in Page(report.render(evaluation, pictures, mistakes)).plain


def test_lineage_digests_parameters_and_versions_are_all_there(page, evaluation):
    terms = {}
    for section in ("lineage", "parameters", "versions"):
        terms |= evaluation[section]
    terms |= evaluation["training"]["versions"]
    terms |= {f"SHA-256 of the {name}": value for name, value in evaluation["digests"].items()}
    for name, value in terms.items():
        assert f"{name} {value}" in page.plain


def test_a_mistake_stands_beside_its_reasons(page):
    pictures = [attributes for attributes in page.all("img") if "red where" in attributes["alt"]]
    assert [picture["src"] for picture in pictures] == ["data:image/png;base64," + encoded(png((4, 5, 6)))]
    assert "speaks for No entry, blue where for Give way" in pictures[0]["alt"]


def encoded(content):
    return base64.b64encode(content).decode()


def test_a_curve_falls_where_the_numbers_do_and_begins_unspoilt():
    drawn = Page(diagrams.severities("noise", [1.0, 0.9, 0.7, 0.75], low=0.5)).tags
    (curve,) = [shape["points"] for tag, shape in drawn if tag == "polyline"]
    points = np.array([point.split(",") for point in curve.split()], dtype=float)
    assert (np.diff(points[:, 0]) > 0).all()
    heights = points[:, 1]
    assert heights[0] == 26 and heights[2] == pytest.approx(26 + 0.6 * 74, abs=0.1)
    assert heights[3] < heights[2]
    labels = [shape["aria-label"] for tag, shape in drawn if tag == "svg"]
    assert labels == ["Accuracy against severity of noise: as it is 1.000, a little 0.900, more 0.700, much 0.750"]


def test_panels_share_an_axis_that_holds_all_their_values():
    assert diagrams.lowest([0.93, 0.71, 1.0]) == pytest.approx(0.7)
    assert diagrams.lowest([1.0, 1.0]) == pytest.approx(0.9)
    assert diagrams.lowest([0.0]) == 0.0


def test_columns_are_as_high_as_their_counts(evaluation):
    (measure, _) = evaluation["data"]["measures"]
    boxes = [shape for tag, shape in Page(diagrams.histogram(measure)).tags if tag == "rect"]
    heights = [float(box["height"]) for box in boxes]
    counts = [bucket["count"] for bucket in measure["buckets"]]
    np.testing.assert_allclose(np.array(heights) / heights[-1], np.array(counts) / counts[-1], rtol=1e-3)
    flat = {**measure, "buckets": [{"lower_bound": 32.0, "upper_bound": 32.0, "count": 7.0}]}
    assert Page(diagrams.histogram(flat)).tags


def test_the_balance_shows_every_class_even_one_without_images():
    drawn = Page(diagrams.balance([("Stop", 20), ("Give way", 0), ("No entry", 5)])).tags
    heights = [float(box["height"]) for tag, box in drawn if tag == "rect"]
    assert heights == [100, 0, 25]
    label = next(shape["aria-label"] for tag, shape in drawn if tag == "svg")
    assert label == "Training images of each class: fewest Give way with 0, most Stop with 20"


def test_the_part_with_the_largest_share_has_the_strongest_colour():
    shares = {"centre": 0.5, "top": 0.1, "right": -0.25, "bottom": 0.0, "left": 0.05, "surroundings": 0.01}
    drawn = [shape for tag, shape in Page(diagrams.regions(shares)).tags if "fill-opacity" in shape]
    opacities = {round(float(shape["fill-opacity"]), 3): shape["class"] for shape in drawn}
    assert len(drawn) == 6
    assert max(opacities) == 0.9
    assert opacities[0.47] == "wrong"
    assert sum(css == "wrong" for css in opacities.values()) == 1
