"""Which of the settings' bounds a registered version misses."""

import pytest

from pipeline import gate, settings

LOADED = settings.load()
BOUNDS = gate.bounds(LOADED)
KEPT = {criterion.metric: BOUNDS[name] for name, criterion in gate.GATE.items()}
"""Metrics that lie on their bounds."""


def test_a_metric_on_its_bound_keeps_it():
    assert gate.missed(BOUNDS, KEPT) == []


@pytest.mark.parametrize("name", gate.GATE)
def test_a_metric_beyond_its_bound_is_named_with_both_numbers(name):
    metric, comparison, words = gate.GATE[name]
    bad = BOUNDS[name] + (-0.01 if comparison == "at_least" else 0.01)
    (missed,) = gate.missed(BOUNDS, {**KEPT, metric: bad})
    assert (missed.name, missed.value, missed.bound) == (name, bad, BOUNDS[name])
    verb = "needs" if comparison == "at_least" else "may be"
    assert str(missed) == f"{words} {bad:.5g} {verb} {BOUNDS[name]:g}"


@pytest.mark.parametrize("metrics", [{}, dict.fromkeys(KEPT)], ids=["absent", "null"])
def test_what_was_not_measured_keeps_nothing(metrics):
    missed = gate.missed(BOUNDS, metrics)
    assert [each.name for each in missed] == list(gate.GATE)
    assert all("was not measured" in str(each) for each in missed)


def test_the_bounds_are_those_of_the_settings():
    assert BOUNDS["MinimumAccuracy"] == LOADED.gate.minimum_accuracy
    assert sorted(BOUNDS.values()) == sorted(vars(LOADED.gate).values())


def test_of_evaluations_own_verdicts_the_missed_ones_are_told():
    verdicts = [
        {"name": "MinimumAccuracy", "value": 0.5, "bound": 0.9, "passed": False},
        {"name": "MinimumClassRecall", "value": 0.5, "bound": 0.4, "passed": True},
    ]
    assert [str(each) for each in gate.told(verdicts)] == ["accuracy (lower end) 0.5 needs 0.9"]
