"""What the benchmarks ask of the step scripts, which nobody runs often enough to notice that it no longer exists."""

from benchmarks.drawn import OPEN_GATE
from trafficsigns.gate import CRITERIA


def test_the_open_gate_has_a_bound_for_each_criterion_that_no_model_misses():
    bounds = {f"--{name.replace('_', '-')}": bound for name, bound in OPEN_GATE.items()}
    assert bounds == {each.option: 0 if each.comparison == "at_least" else each.highest for each in CRITERIA}
