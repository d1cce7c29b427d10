import itertools

import numpy as np
import pandas as pd
import pytest

from trafficsigns import data_quality


@pytest.fixture
def rows():
    generator = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "brightness": generator.beta(2, 5, 9001),
            "contrast": generator.uniform(0.05, 0.3, 9001),
            "width": generator.integers(15, 251, 9001),
            "height": 32,
            "class_id": generator.choice([0, 2, 10], 9001, p=[0.7, 0.2, 0.1]),
        }
    )


def feature(content, name):
    (found,) = (each for each in content["features"] if each["name"] == name)
    return found


def test_the_statistics_are_the_columns_own(rows):
    found = data_quality.statistics(rows)
    assert found["dataset"] == {"item_count": 9001}
    assert [each["name"] for each in found["features"]] == ["brightness", "contrast", "width", "height", "class_id"]
    for name in data_quality.MEASURES:
        numbers = feature(found, name)["numerical_statistics"]
        column = rows[name]
        assert numbers["common"] == {"num_present": 9001, "num_missing": 0}
        for key, value in {
            "mean": column.mean(), "sum": column.sum(), "std_dev": column.std(ddof=0),
            "min": column.min(), "max": column.max(),
        }.items():  # fmt: skip
            assert numbers[key] == pytest.approx(value), (name, key)
        buckets = numbers["distribution"]["kll"]["buckets"]
        assert len(buckets) == 10
        assert sum(bucket["count"] for bucket in buckets) == 9001
        assert all(low["upper_bound"] == high["lower_bound"] for low, high in itertools.pairwise(buckets))


def test_classes_are_names_and_not_numbers(rows):
    category = feature(data_quality.statistics(rows), "class_id")
    assert category["inferred_type"] == "String"
    assert category["string_statistics"]["distinct_count"] == 3
    assert category["string_statistics"]["distribution"]["categorical"]["buckets"] == [
        {"value": str(class_id), "count": int((rows["class_id"] == class_id).sum())} for class_id in (0, 2, 10)
    ]
    domains = feature(data_quality.constraints(rows), "class_id")["string_constraints"]["domains"]
    assert domains == ["0", "2", "10"]


def test_a_sketch_keeps_all_weight_and_the_quantiles(rows):
    values = rows["brightness"].to_numpy()
    levels = data_quality.compact(values)
    assert sum(map(len, levels)) <= data_quality.SKETCH + len(levels)
    assert sum(len(level) << place for place, level in enumerate(levels)) == len(values)
    weighed = np.sort(np.concatenate([np.repeat(level, 1 << place) for place, level in enumerate(levels)]))
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        rank = (values < np.quantile(weighed, share)).mean()
        assert rank == pytest.approx(share, abs=0.002)


@pytest.mark.parametrize("count", [1, 2, 2048, 2049, 4097])
def test_a_sketch_of_few_values_is_all_of_them(count):
    values = np.arange(count, dtype=np.float64)
    levels = data_quality.compact(values)
    assert sum(len(level) << place for place, level in enumerate(levels)) == count
    if count <= data_quality.SKETCH:
        assert levels == [values.tolist()]


def test_what_is_missing_is_counted(rows):
    rows.loc[:8, "brightness"] = np.nan
    numbers = feature(data_quality.statistics(rows), "brightness")["numerical_statistics"]
    assert numbers["common"] == {"num_present": 8992, "num_missing": 9}
    constraint = feature(data_quality.constraints(rows), "brightness")
    assert constraint["completeness"] == pytest.approx(8992 / 9001)
    assert constraint["num_constraints"] == {"is_non_negative": True}
