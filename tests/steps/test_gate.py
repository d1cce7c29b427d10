import math

import pytest

from trafficsigns import gate

BOUND = 0.25


def judge_alone(criterion: gate.Criterion, value: float | None, bound: float = BOUND) -> gate.Verdict:
    (verdict,) = gate.judge([gate.Bound(criterion, bound)], {criterion.metric: value}).bounds
    return verdict


@pytest.mark.parametrize("criterion", gate.CRITERIA, ids=lambda criterion: criterion.name)
def test_a_bound_passes_on_one_side_and_on_itself(criterion):
    above, below = math.nextafter(BOUND, 1), math.nextafter(BOUND, 0)
    better, worse = (above, below) if criterion.comparison == "at_least" else (below, above)
    assert judge_alone(criterion, better).passed
    assert judge_alone(criterion, BOUND).passed
    assert not judge_alone(criterion, worse).passed


@pytest.mark.parametrize("criterion", gate.CRITERIA, ids=lambda criterion: criterion.name)
def test_what_could_not_be_measured_passes_nothing(criterion):
    assert not judge_alone(criterion, None, bound=0.0).passed
    assert not judge_alone(criterion, None, bound=1.0).passed


def test_what_the_gate_asks_for():
    assert [(c.name, c.option, c.metric, c.comparison) for c in gate.CRITERIA] == [
        ("MinimumAccuracy", "--minimum-accuracy", "accuracy_lower", "at_least"),
        ("MinimumClassRecall", "--minimum-class-recall", "worst_class_recall", "at_least"),
        ("MaximumCalibrationError", "--maximum-calibration-error", "expected_calibration_error", "at_most"),
        ("MinimumCorruptedAccuracy", "--minimum-corrupted-accuracy", "mean_corrupted_accuracy", "at_least"),
        ("MaximumLatencyRatio", "--maximum-latency-ratio", "latency_ratio", "at_most"),
        ("MaximumArchiveMegabytes", "--maximum-archive-megabytes", "archive_megabytes", "at_most"),
        ("ChampionSignificance", "--champion-significance", "champion_p_value", "at_least"),
    ]


@pytest.mark.parametrize("failing", [None, *(criterion.metric for criterion in gate.CRITERIA)])
def test_one_failing_bound_closes_the_gate(failing):
    limits = (0.95, 0.6, 0.05, 0.7, 12, 20, 0.05)
    bounds = [gate.Bound(criterion, limit) for criterion, limit in zip(gate.CRITERIA, limits, strict=True)]
    signs = [1 if bound.criterion.comparison == "at_least" else -1 for bound in bounds]
    good, bad = (
        {bound.criterion.metric: bound.bound * (1 + step * sign) for bound, sign in zip(bounds, signs, strict=True)}
        for step in (0.01, -0.01)
    )
    outcome = gate.judge(bounds, good if failing is None else {**good, failing: bad[failing]})
    assert outcome.passed is (failing is None)
    assert [verdict.metric for verdict in outcome.bounds if not verdict.passed] == ([failing] if failing else [])


@pytest.mark.parametrize("bound", [-0.01, 1.01, math.nan, math.inf])
def test_a_bound_outside_zero_to_one_is_refused_by_name(bound):
    with pytest.raises(ValueError, match=r"MinimumAccuracy .* between 0 and 1"):
        gate.Bound(gate.CRITERIA[0], bound)


def test_a_ratio_and_a_size_may_be_above_one():
    for criterion in gate.CRITERIA:
        assert gate.Bound(criterion, criterion.highest).bound == criterion.highest
        with pytest.raises(ValueError, match=f"{criterion.name} .* between 0 and {criterion.highest:g}"):
            gate.Bound(criterion, criterion.highest * 1.01)
    assert {c.name for c in gate.CRITERIA if c.highest > 1} == {"MaximumLatencyRatio", "MaximumArchiveMegabytes"}


def test_a_gate_without_bounds_is_refused():
    with pytest.raises(ValueError, match="at least one bound"):
        gate.judge([], {})


def test_a_metric_that_nobody_measures_is_a_defect_not_a_verdict():
    with pytest.raises(KeyError):
        gate.judge([gate.Bound(gate.CRITERIA[0], 0.5)], {"accuracy": 0.9})


def test_a_verdict_reads_as_one_sentence():
    verdict = judge_alone(gate.CRITERIA[2], 0.5)
    assert gate.sentence(verdict) == (
        "MaximumCalibrationError: expected_calibration_error is 0.5000, must be at most 0.2500: NOT passed"
    )
