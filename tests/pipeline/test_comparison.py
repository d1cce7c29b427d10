"""Two versions side by side: what is better, what changed, what only one has."""

from pipeline import comparison
from pipeline.comparison import Row


def test_of_each_metric_it_is_said_which_way_is_better():
    first = {"images": 10, "accuracy": 0.9, "latency_ratio": 2.0, "champion_p_value": 0.1, "old": 1.0, "same": 1.0}
    second = {"images": 12, "accuracy": 0.8, "latency_ratio": 1.5, "champion_p_value": 0.9, "new": 1.0, "same": 1.0}
    rows = {row.name: row for row in comparison.metrics(first, second)}
    assert list(rows) == ["images", "accuracy", "latency_ratio", "champion_p_value", "old", "same", "new"]
    verdicts = {name: row.verdict for name, row in rows.items() if row.verdict}
    # More pictures, and another champion, are neither better nor worse.
    assert verdicts == {"accuracy": "worse", "latency_ratio": "better"}
    assert rows["accuracy"].difference == 0.8 - 0.9
    assert rows["old"].difference is rows["new"].difference is None
    assert rows["same"].difference == 0


def test_classes_are_found_by_name_and_the_greatest_change_comes_first():
    def table(**recalls):
        return [{"class_name": name, "recall": recall} for name, recall in recalls.items()]

    first = table(stop=0.9, yield_=0.5, same=1.0, unseen=None, gone=0.7)
    second = table(same=1.0, yield_=0.9, stop=0.85, unseen=None, added=0.4)
    rows = comparison.classes(first, second)
    assert {row.name for row in rows[:2]} == {"gone", "added"}
    assert [(row.name, row.verdict) for row in rows[2:]] == [("yield_", "better"), ("stop", "worse")]


def test_of_parameters_only_the_different_ones_are_kept():
    rows = comparison.differences({"Epochs": "14", "Seed": "7", "Gone": "x"}, {"Epochs": "20", "Seed": "7", "New": "y"})
    assert rows == [Row("Epochs", "14", "20"), Row("Gone", "x", None), Row("New", None, "y")]
