import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, fbeta_score, precision_recall_fscore_support

from trafficsigns import model_quality

NAMES = {"accuracy", *(f"weighted_{name}" for name in ("precision", "recall", "f0_5", "f1", "f2"))}


@pytest.fixture
def case():
    """500 answers, of which three in four are right, about classes of which one has no image and one is never named."""
    generator = np.random.default_rng(2)
    labels = generator.choice([0, 1, 2, 4], 500, p=[0.5, 0.3, 0.15, 0.05])
    answers = np.where(generator.random(500) < 0.75, labels, generator.choice([0, 1, 2, 3], 500))
    answers[answers == 4] = 0
    return labels, answers


@pytest.fixture
def confusion(case):
    return confusion_matrix(*case, labels=range(5))


def test_the_figures_are_scikit_learns(case, confusion):
    found = model_quality.figures(confusion)
    assert set(found) == NAMES
    assert found["accuracy"] == pytest.approx(accuracy_score(*case))
    options = {"labels": range(5), "average": "weighted", "zero_division": 0}
    precision, recall, _, _ = precision_recall_fscore_support(*case, **options)
    assert (found["weighted_precision"], found["weighted_recall"]) == pytest.approx((precision, recall))
    for name, beta in (("f0_5", 0.5), ("f1", 1), ("f2", 2)):
        assert found[f"weighted_{name}"] == pytest.approx(fbeta_score(*case, beta=beta, **options)), name


def test_many_matrices_are_judged_as_each_alone(confusion):
    together = model_quality.figures(np.stack([confusion, confusion.T]))
    for index, alone in enumerate((confusion, confusion.T)):
        assert {name: values[index] for name, values in together.items()} == pytest.approx(model_quality.figures(alone))


def test_the_statistics_have_model_monitors_names(confusion):
    found = model_quality.statistics(confusion)
    assert found["dataset"] == {"item_count": 500}
    metrics = found["multiclass_classification_metrics"]
    assert set(metrics) == {"confusion_matrix", *NAMES, *(f"{name}_best_constant_classifier" for name in NAMES)}
    assert metrics["confusion_matrix"]["4"]["0"] == confusion[4, 0]
    assert metrics["accuracy_best_constant_classifier"]["value"] == confusion[0].sum() / 500


def test_a_threshold_is_what_chance_alone_rarely_falls_below(confusion):
    found = model_quality.constraints(confusion)["multiclass_classification_constraints"]
    assert set(found) == NAMES
    measured = model_quality.figures(confusion)
    for name, constraint in found.items():
        assert constraint["comparison_operator"] == "LessThanThreshold"
        assert measured[name] - 0.06 < constraint["threshold"] < measured[name] - 0.02, name
    # The binomial distribution says the same of the accuracy.
    width = 1.96 * (measured["accuracy"] * (1 - measured["accuracy"]) / 500) ** 0.5
    assert found["accuracy"]["threshold"] == pytest.approx(measured["accuracy"] - width, abs=0.005)
    assert model_quality.constraints(confusion) == model_quality.constraints(confusion)


def test_a_model_without_a_right_answer_has_figures_too():
    found = model_quality.figures(np.array([[0, 3], [2, 0]]))
    assert set(found.values()) == {0.0}
