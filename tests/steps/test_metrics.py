import math

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from trafficsigns import metrics, model_quality


def one_hot(answers: list[int], classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[answers]


def random_case(images: int = 500, classes: int = 9) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, images - classes)])
    return generator.dirichlet(np.full(classes, 0.3), images), labels


def test_counts_rates_and_confusions_of_a_case_worked_by_hand():
    #        true      0  0  0  0  1  1  2  2
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    quality = metrics.measure(one_hot([0, 0, 0, 1, 1, 2, 2, 2], 3), labels)

    assert quality.confusion.tolist() == [[3, 1, 0], [0, 1, 1], [0, 0, 2]]
    assert quality.summary.images == 8
    assert quality.summary.accuracy == 6 / 8
    assert [row.support for row in quality.classes] == [4, 2, 2]
    assert [row.recall for row in quality.classes] == pytest.approx([3 / 4, 1 / 2, 1])
    assert [row.precision for row in quality.classes] == pytest.approx([1, 1 / 2, 2 / 3])
    assert [row.f1 for row in quality.classes] == pytest.approx([6 / 7, 1 / 2, 4 / 5])
    assert quality.summary.macro_recall == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert quality.summary.macro_precision == pytest.approx((1 + 1 / 2 + 2 / 3) / 3)
    assert quality.summary.macro_f1 == pytest.approx((6 / 7 + 1 / 2 + 4 / 5) / 3)
    assert quality.summary.worst_class_recall == 1 / 2
    averages = model_quality.figures(quality.confusion)
    assert averages["weighted_recall"] == pytest.approx(6 / 8)
    assert averages["weighted_precision"] == pytest.approx((4 * 1 + 2 / 2 + 2 * 2 / 3) / 8)


def test_a_class_without_images_is_unknown_and_left_out_of_every_mean():
    quality = metrics.measure(one_hot([0, 1, 2, 0], 3), np.array([0, 1, 1, 0]))

    assert quality.classes[2] == metrics.ClassQuality(class_id=2, support=0, precision=None, recall=None, f1=None)
    assert quality.summary.macro_recall == pytest.approx((1 + 1 / 2) / 2)
    assert quality.summary.worst_class_recall == 1 / 2
    assert quality.confusion[1, 2] == 1


def test_a_class_that_is_never_answered_has_precision_zero():
    quality = metrics.measure(one_hot([0, 0], 2), np.array([0, 1]))
    assert (quality.classes[1].precision, quality.classes[1].recall, quality.classes[1].f1) == (0, 0, 0)
    assert quality.summary.macro_precision == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("errors", "lower", "upper"),
    [(213, 98.07, 98.52), (147, 98.63, 99.01), (85, 99.17, 99.46), (68, 99.32, 99.58), (37, 99.60, 99.79)],
)
def test_the_interval_of_published_results_is_the_known_one(errors, lower, upper):
    labels = np.zeros(12_630, dtype=np.int64)
    summary = metrics.measure(one_hot([1] * errors + [0] * (12_630 - errors), 2), labels).summary
    assert round(100 * summary.accuracy_lower, 2) == lower
    assert round(100 * summary.accuracy_upper, 2) == upper


def test_likelihood_of_a_case_worked_by_hand():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    summary = metrics.measure(probabilities, np.array([1, 1])).summary
    assert summary.negative_log_likelihood == pytest.approx((math.log(4) + math.log(1.25)) / 2)


def test_top_five_agrees_with_scikit_learn():
    probabilities, labels = random_case()
    summary = metrics.measure(probabilities, labels).summary
    assert summary.top5_accuracy == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5))
    assert summary.accuracy < summary.top5_accuracy < 1


def test_a_certain_wrong_answer_costs_much_but_not_infinitely():
    summary = metrics.measure(one_hot([1], 2), np.array([0])).summary
    assert math.isfinite(summary.negative_log_likelihood)
    assert summary.negative_log_likelihood > 10


def test_calibration_error_of_a_case_worked_by_hand():
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False, True, False])
    groups = metrics.calibrate(confidence, correct)
    # Four answers promise 0.95 and keep 0.75, two promise 0.55 and keep 0.50.
    assert metrics.calibration_error(groups) == pytest.approx((4 * 0.20 + 2 * 0.05) / 6)
    assert [group.count for group in groups if group.count] == [2, 4]


def test_bins_are_open_below_and_closed_above():
    groups = metrics.calibrate(np.array([0.0, 0.25, 0.2500001, 1.0]), np.full(4, True), bins=4)
    assert [group.count for group in groups] == [2, 1, 0, 1]
    assert (groups[2].confidence, groups[2].accuracy) == (None, None)


def test_every_answer_falls_into_one_of_fifteen_bins():
    probabilities, labels = random_case()
    groups = metrics.measure(probabilities, labels).reliability
    assert len(groups) == 15
    assert sum(group.count for group in groups) == len(labels)
    for group in groups:
        assert group.count == 0 or group.lower < group.confidence <= group.upper


@pytest.mark.parametrize(
    ("probabilities", "labels", "reason"),
    [
        (np.zeros((0, 3)), np.zeros(0, dtype=int), "no image"),
        (one_hot([0, 1], 3), np.array([0]), "do not fit"),
        (one_hot([0, 1], 3), np.array([0, 3]), "label 3 lies outside the model's 3 classes"),
        (one_hot([0, 1], 3), np.array([0, -1]), "label -1 lies outside"),
        (np.array([[0.5, np.nan], [0.5, 0.5]]), np.array([0, 1]), "1 of 2 answers hold a probability that is not"),
        (np.array([[2.0, 1.0]]), np.array([0]), "softmax"),
        (np.array([[1.5, -0.5]]), np.array([0]), "softmax"),
    ],
)
def test_what_is_no_distribution_over_known_classes_is_refused(probabilities, labels, reason):
    with pytest.raises(ValueError, match=reason):
        metrics.measure(probabilities, labels)
