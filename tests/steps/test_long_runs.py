"""What hours of training need: lines that tell how far it is, a state to go on from, an end to what is hopeless."""

import ast
import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from three_signs import CLASSES, SETTINGS, course, failure, run, same, signs

import train
from pipeline import clouds, definitions, settings
from trafficsigns import dataset, presets, trainer, training
from trafficsigns.checkpoint import Checkpoint
from trafficsigns.failures import StepError

pytest_plugins = ["three_signs"]


def test_an_interrupted_run_goes_on_to_the_same_weights(images, slim, tmp_path, monkeypatch):
    """To the same of everything: what is learnt with, judged and kept, and would be gone on with."""
    whole = training.fit(*images, CLASSES, slim, Checkpoint(tmp_path / "whole"))
    checkpoint = Checkpoint(tmp_path / "run")
    taken = trainer.Trainer.epoch

    def epoch(self, stream, number):
        if number == 3:
            raise KeyboardInterrupt
        return taken(self, stream, number)

    monkeypatch.setattr(trainer.Trainer, "epoch", epoch)
    with pytest.raises(KeyboardInterrupt):
        training.fit(*images, CLASSES, slim, checkpoint)
    monkeypatch.setattr(trainer.Trainer, "epoch", taken)
    resumed = training.fit(*images, CLASSES, slim, checkpoint)
    assert course(resumed.history) == course(whole.history)
    assert same(resumed.network, whole.network)
    (left, _), (expected, _) = checkpoint.restore(), Checkpoint(tmp_path / "whole").restore()
    for arrays, others in zip(left, expected, strict=True):
        for array, other in zip(arrays, others, strict=True):
            np.testing.assert_array_equal(array, other)


KILLED_IN_EPOCH_3 = """
import os, signal, sys
import train
from trafficsigns import trainer

take = trainer.Trainer.epoch

def epoch(self, stream, number):
    told = take(self, stream, number)
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return told

trainer.Trainer.epoch = epoch
sys.exit(train.main())
"""
"""The job's own script, which dies when it has learnt from an epoch that no state knows of yet."""


def test_a_job_killed_in_the_middle_and_started_again_ends_like_an_unbroken_one(channels):
    """As a spot interruption that left no time: SIGKILL, then a second job with the same checkpoints."""

    def job(name, script):
        folders = ["--model-dir", str(channels / name), "--checkpoint-dir", str(channels / "checkpoints")]
        command = [sys.executable, *script, "--preset", "lenet5", "--epochs", "4", "--batch-size", "16", *folders]
        steps = {**os.environ, "PYTHONPATH": str(Path(train.__file__).parent)}
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, env=steps, check=False)

    def left(name):
        record = json.loads((channels / name / "1/assets.extra/training.json").read_text())
        saved = tf.saved_model.load(str(channels / name / "1"))
        history = [training.Epoch(**epoch) for epoch in record["history"]]
        return course(history), [weight.numpy() for weight in saved.weights]

    assert job("unbroken", [train.__file__]).returncode == 0
    victim = job("victim", ["-c", KILLED_IN_EPOCH_3])
    assert victim.returncode == -signal.SIGKILL
    assert "epoch 2/4" in victim.stdout
    second = job("second", [train.__file__])
    assert second.returncode == 0
    assert "continuing after epoch 2 of an interrupted run" in second.stdout
    assert "epoch 2/4" not in second.stdout
    (history, weights), (expected_history, expected) = left("second"), left("unbroken")
    assert history == expected_history
    for weight, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_training_ends_early_when_patience_does_with_the_best_epochs_weights(images, monkeypatch, caplog):
    taken, after = trainer.Trainer.epoch, []

    def epoch(self, stream, number):
        told = taken(self, stream, number)
        after.append(self.averaged.get_weights())
        return told

    monkeypatch.setattr(trainer.Trainer, "epoch", epoch)
    judged = iter([(0.5, 0.7), (0.4, 0.9), (0.6, 0.8), (0.5, 0.9), (0.3, 0.99)])
    monkeypatch.setattr(training, "judge", lambda *_: next(judged))
    with caplog.at_level(logging.INFO, logger=training.__name__):
        outcome = training.fit(*images, CLASSES, replace(SETTINGS, epochs=5, patience=2))
    assert (outcome.selected_epoch, len(outcome.history)) == (2, 4)
    assert "no better epoch than 2 in 2 more: training ends early" in caplog.text
    kept = outcome.network.get_weights()
    assert [all(map(np.array_equal, kept, weights)) for weights in after] == [False, True, False, False]


def test_a_damaged_state_is_reported_and_not_used(tmp_path, caplog):
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.restore() is None
    checkpoint.save([[np.ones(3)], []], [])
    assert checkpoint.restore() is not None
    content = (tmp_path / "state.npz").read_bytes()
    (tmp_path / "state.npz").write_bytes(content[: len(content) // 2])
    with caplog.at_level(logging.WARNING):
        assert checkpoint.restore() is None
    assert "state.npz" in caplog.text
    np.savez(tmp_path / "state.npz", other=np.ones(3))
    assert checkpoint.restore() is None


def test_a_state_that_cannot_be_written_leaves_no_half_and_the_one_before(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save([[np.ones(3)], []], [])

    def full(path, **content):
        path.write_bytes(b"PK")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save([[np.zeros(3)], []], [])
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]
    (((kept,),), _) = checkpoint.restore()
    np.testing.assert_array_equal(kept, np.ones(3))


def test_a_place_that_takes_no_state_is_noticed_before_training(channels, capsys):
    (channels / "checkpoints").write_text("")
    assert run("--epochs", "1", "--checkpoint-dir", str(channels / "checkpoints")) == 1
    told = capsys.readouterr()
    assert str(channels / "checkpoints") in told.err
    assert "epoch 1/1" not in told.out


def test_runs_share_a_state_only_if_nothing_between_them_differs(images):
    known = training.identity(*images, CLASSES, SETTINGS)
    assert training.identity(*images, CLASSES, SETTINGS) == known
    learnt, judged = images
    changes = {
        "preset": "standard", "epochs": 4, "batch_size": 32, "learning_rate": 0.02, "seed": 2, "patience": 1,
        "precision": "mixed_bfloat16",
    }  # fmt: skip
    assert set(changes) == set(asdict(SETTINGS))
    others = [
        *(training.identity(*images, CLASSES, replace(SETTINGS, **{name: value})) for name, value in changes.items()),
        training.identity(*images, 4, SETTINGS),
        training.identity(signs(96, seed=3), judged, CLASSES, SETTINGS),
        training.identity(replace(learnt, labels=learnt.labels[::-1]), judged, CLASSES, SETTINGS),
        training.identity(learnt, signs(48, seed=3), CLASSES, SETTINGS),
        training.identity(learnt, replace(judged, labels=judged.labels[::-1]), CLASSES, SETTINGS),
    ]
    others.append(training.identity(*images, CLASSES, SETTINGS, replicas=2))
    assert len({known, *others}) == len(others) + 1


def test_the_code_that_decides_is_whatever_training_imports_but_what_only_reads_keeps_and_tells():
    package, found, waiting = Path(training.__file__).parent, set(), ["training"]
    while waiting:
        name = waiting.pop()
        if name in found or not (package / f"{name}.py").exists():
            continue
        found.add(name)
        for node in ast.walk(ast.parse((package / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "trafficsigns":
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trafficsigns."):
                waiting.append(node.module.partition(".")[2])
    decisive = found - {"checkpoint", "failures", "images", "records"}
    assert decisive == {name.removesuffix(".py") for name in training._CODE}


def test_other_code_or_another_version_is_another_run(images, monkeypatch, tmp_path):
    known = training.identity(*images, CLASSES, SETTINGS)
    monkeypatch.setattr(training.keras, "__version__", "0")
    assert training.identity(*images, CLASSES, SETTINGS) != known
    monkeypatch.undo()
    package = Path(training.__file__).parent
    for name in training._CODE:
        (tmp_path / name).write_bytes((package / name).read_bytes())
    monkeypatch.setattr(training, "__file__", str(tmp_path / "training.py"))
    assert training.identity(*images, CLASSES, SETTINGS) == known
    for name in training._CODE:
        (tmp_path / name).write_bytes((package / name).read_bytes() + b"#")
        assert training.identity(*images, CLASSES, SETTINGS) != known
        (tmp_path / name).write_bytes((package / name).read_bytes())


def test_a_finished_run_leaves_no_state(channels):
    assert run("--epochs", "1", "--checkpoint-dir", str(channels / "checkpoints")) == 0
    assert [path.stat().st_size for path in (channels / "checkpoints").rglob("*.npz")] == [0]


def test_each_epoch_writes_one_line_with_the_time_that_is_left(images, caplog):
    with caplog.at_level(logging.INFO, logger=training.__name__):
        outcome = training.fit(*images, CLASSES, replace(SETTINGS, epochs=2))
    number = r"([0-9.]+)"
    pattern = (
        f"epoch (\\d+)/2 loss {number} accuracy {number} validation_loss {number} validation_accuracy {number} "
        f"images/s {number} eta {number}s"
    )
    found = [re.fullmatch(pattern, record.message) for record in caplog.records]
    assert [int(match[1]) for match in found] == [1, 2]
    assert float(found[1][5]) == pytest.approx(outcome.history[1].validation_accuracy, abs=1e-4)
    assert float(found[0][7]) == pytest.approx(outcome.history[0].seconds, abs=0.5)
    assert float(found[1][7]) == 0


def test_sagemakers_metric_definitions_read_each_number_from_that_line(caplog):
    loaded = settings.load()
    text = definitions.render(loaded, clouds.offline(loaded))[loaded.training_pipeline]
    steps = {step["Name"]: step["Arguments"] for step in json.loads(text)["Steps"]}
    scraped = steps["TrainLeNet"]["AlgorithmSpecification"]["MetricDefinitions"]
    with caplog.at_level(logging.INFO, logger=training.__name__):
        training._report([training.Epoch(1, 1.25, 0.5, 0.75, 0.875, 900, 10)], 3)
    found = {each["Name"]: re.findall(each["Regex"], caplog.records[-1].message) for each in scraped}
    told = {"loss": "1.2500", "accuracy": "0.5000", "validation_loss": "0.7500", "validation_accuracy": "0.8750"}
    assert found == {name: [number] for name, number in told.items()}


def test_an_epoch_in_which_the_machine_slept_does_not_spoil_the_time_that_is_left(caplog):
    history = [training.Epoch(number, 1, 1, 1, 1, 1, seconds) for number, seconds in enumerate((9000, 30, 32), 1)]
    with caplog.at_level(logging.INFO, logger=training.__name__):
        training._report(history, 8)
    assert caplog.records[-1].message.endswith("eta 160s")


def test_a_long_epoch_tells_how_far_it_is(images, monkeypatch, caplog):
    """Three calls of ten seconds each make an epoch: after the first of epoch 2 of 3, five are left."""
    learner = trainer.Trainer(
        presets.PRESETS["lenet5"], trainer.Options(3, 16, 0.01), 3, 6, tf.distribute.get_strategy()
    )
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(trainer, "_STEPS_AT_ONCE", 2)
    monkeypatch.setattr(trainer, "_SILENCE", 9.0)
    plan, alone = dataset.Plan(16, 1, 1, None), tf.distribute.get_strategy()
    stream = training._stream(images[0], np.arange(96), plan, 0, alone)
    with caplog.at_level(logging.INFO, logger=trainer.__name__):
        learner.epoch(stream, 2)
    told = [record.message for record in caplog.records]
    assert told == [f"epoch 2 step {done}/6 eta {left}s" for done, left in ((2, 50), (4, 40), (6, 30))]


@pytest.mark.parametrize("preset", ["lenet5", "standard"])
def test_a_training_that_diverges_stops_and_says_where(channels, capsys, preset):
    assert run("--learning-rate", "1e30", "--preset", preset) == 1
    assert re.search(r"loss is no number since epoch \d+, step \d+: .*--learning-rate", failure(channels, capsys))


def test_a_training_that_learns_nothing_stops_and_says_so(channels, capsys):
    """Far too high a rate, and yet no loss that is no number: hours of it would lead to nothing."""
    assert run("--learning-rate", "30", "--epochs", "40") == 1
    reason = failure(channels, capsys)
    assert re.search(
        r"after epoch \d+ the loss is .*, and guessing one of 3 classes .* 1\.099: .*--learning-rate", reason
    )


def test_nobody_is_hurried_in_the_first_quarter():
    def history(*losses):
        return [training.Epoch(number, loss, 0, 1, 0, 0, 0) for number, loss in enumerate(losses, 1)]

    training._require_learning(history(9.0, 9.0), 4, 43)
    training._require_learning(history(*[9.0] * 10), 40, 43)
    training._require_learning(history(9.0, 9.0, 3.7), 4, 43)
    for hopeless in (history(9.0, 9.0, 3.8), history(*[9.0] * 11)):
        with pytest.raises(StepError, match=r"guessing one of 43 classes would make it 3\.761"):
            training._require_learning(hopeless, 4 if len(hopeless) == 3 else 40, 43)


def test_weights_that_break_in_the_last_step_are_not_exported(channels, capsys, monkeypatch):
    monkeypatch.setattr(training, "judge", lambda *_: (float("nan"), 0.3))
    assert run("--epochs", "1") == 1
    assert "the validation loss is no number after epoch 1" in failure(channels, capsys)
