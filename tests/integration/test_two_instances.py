"""Training on two instances of the embedded SageMaker, through the same definition as on one."""

import json

import pytest

from infra.local.jobs.container import namespaces_refused

TOLERANCE = 1e-4
"""Of losses after two epochs. What is added up in another order differs in the last bits, and training amplifies it."""


@pytest.mark.integration
def test_two_instances_learn_what_one_learns(make_signs):
    if namespaces_refused():
        pytest.skip(f"this machine gives no mount namespaces: {namespaces_refused()}")
    signs = make_signs("instances")
    # The bound ends each run before anything is deployed.
    bounds = ("--set", "MinimumAccuracy=0.9999", "--set", "Preset=lenet5", "--set", "Epochs=2")
    histories = []
    for count in (1, 2):
        # To SageMaker's step cache the number of instances is no difference; a patience that two epochs never try is.
        counted = ("--set", f"TrainingInstanceCount={count}", "--set", f"Patience={count + 7}")
        signs("run", *bounds, *counted, code=4)
        newest = max((signs.state / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime)
        histories.append(json.loads((newest / "evaluation.json").read_text())["training"]["history"])
        log = signs("logs", "TrainLeNet")
        assert ("2 processors learn from 16 of 32 images each" in log) is (count == 2)
    for alone, together in zip(*histories, strict=True):
        for name in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
            assert together[name] == pytest.approx(alone[name], abs=TOLERANCE), name
