"""Two models on the same images: who knows what the other does not, and whether that is more than chance."""

import numpy as np
import pytest

from trafficsigns.champion import ClassChange, compare

LABELS = np.array([0] * 50 + [1] * 50)


def knowing(*wrong: int) -> np.ndarray:
    """Answers of a model that knows all but some images."""
    answers = LABELS.copy()
    answers[list(wrong)] = 1 - answers[list(wrong)]
    return answers


def test_a_model_beside_itself_is_not_worse():
    found = compare(knowing(1, 2), knowing(1, 2), LABELS)
    assert (found.only_champion, found.only_challenger, found.p_value, found.classes) == (0, 0, 1.0, ())


@pytest.mark.parametrize(
    ("lost", "won", "p_value"),
    [(5, 5, 0.623046875), (8, 0, 0.5**8), (0, 8, 1.0), (4, 0, 0.0625), (5, 0, 0.03125), (9, 1, 11 / 1024)],
)
def test_the_p_value_is_mcnemars_one_sided(lost, won, p_value):
    champion = knowing(*range(50, 50 + won))
    challenger = knowing(*range(lost))
    found = compare(champion, challenger, LABELS)
    assert (found.only_champion, found.only_challenger) == (lost, won)
    assert found.p_value == pytest.approx(p_value)


def test_what_both_know_or_neither_says_nothing():
    alone = compare(knowing(), knowing(0, 1, 2), LABELS).p_value
    beside_common_errors = compare(knowing(*range(60, 90)), knowing(0, 1, 2, *range(60, 90)), LABELS).p_value
    assert alone == beside_common_errors == 0.125


def test_classes_that_change_are_counted():
    found = compare(knowing(0, 1, 60), knowing(60, 61, 62), LABELS)
    assert found.classes == (ClassChange(0, 48, 50, 50), ClassChange(1, 49, 47, 50))
    assert (found.champion_accuracy, found.challenger_accuracy) == (0.97, 0.97)
