import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from three_signs import CLASSES, SETTINGS, course, doubtful, signs

from trafficsigns import machines, training
from trafficsigns.failures import StepError

TWO = {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"], "network_interface_name": "eth0"}


def told(content):
    return {"SM_RESOURCE_CONFIG": json.dumps(content)}


def test_without_sagemaker_a_machine_is_alone_and_spreads_nothing(tmp_path):
    job = machines.read({}, tmp_path / "resourceconfig.json")
    assert job.is_chief
    assert machines.assemble(job).strategy is tf.distribute.get_strategy()


def test_the_first_host_in_order_is_the_chief_on_every_host(tmp_path):
    file = tmp_path / "resourceconfig.json"
    file.write_text(json.dumps({**TWO, "hosts": ["algo-2", "algo-1"]}))
    for job in (machines.read({}, file), machines.read(told(TWO), tmp_path / "absent.json")):
        assert (job.hosts, job.index, job.is_chief) == (("algo-1", "algo-2"), 1, False)
    assert machines.read(told({**TWO, "current_host": "algo-1"})).is_chief


@pytest.mark.parametrize(
    ("content", "reason"),
    [({"hosts": ["algo-1"]}, "current_host"), ([], "hosts"), ({**TWO, "current_host": "algo-3"}, "algo-3 is none of")],
)
def test_a_configuration_that_does_not_say_who_is_there_is_refused(content, reason):
    with pytest.raises(StepError, match=reason):
        machines.read(told(content))


def test_a_machine_with_several_gpus_uses_them_all_without_being_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind, kind] if kind == "GPU" else [])
    team = machines.assemble(machines.read({}, tmp_path / "resourceconfig.json"))
    assert isinstance(team.strategy, tf.distribute.MirroredStrategy)
    assert team.is_chief


def test_float16_is_for_one_processor():
    machines.check(128, "mixed_float16", 1)
    machines.check(128, "mixed_bfloat16", 8)
    with pytest.raises(StepError, match="mixed_float16 is for one processor, and these are 2: choose mixed_bfloat16"):
        machines.check(128, "mixed_float16", 2)


def test_a_batch_must_be_shared_equally():
    machines.check(128, "float32", 4)
    with pytest.raises(StepError, match="2 processors are more than there are training images"):
        machines.check(0, "float32", 2)
    with pytest.raises(StepError, match="128 images cannot be shared equally by 3 processors"):
        machines.check(128, "float32", 3)


MACHINES = """
import json, logging, os, shutil, sys
from pathlib import Path
from three_signs import CLASSES, SETTINGS, course, doubtful, signs
from trafficsigns import machines, trainer, training
from trafficsigns.checkpoint import Checkpoint
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
place, machines._FIRST_PORT = Path(sys.argv[1]), int(sys.argv[2])
team = machines.assemble(machines.read(os.environ))
images, take = (signs(96, seed=1), doubtful(signs(48, seed=2))), trainer.Trainer.epoch

def learn(checkpoint=None):
    outcome = training.fit(*images, CLASSES, SETTINGS, checkpoint, team)
    return [course(outcome.history), [weight.tolist() for weight in outcome.network.get_weights()]]

def broken_off(checkpoint):
    def epoch(self, stream, number):
        if number == 3:
            raise KeyboardInterrupt
        return take(self, stream, number)
    trainer.Trainer.epoch = epoch
    try:
        training.fit(*images, CLASSES, SETTINGS, checkpoint, team)
    except KeyboardInterrupt:
        trainer.Trainer.epoch = take

unbroken = learn()
own = Checkpoint(place / str(team.is_chief))
broken_off(own)
anew = learn(own)
broken_off(own)
team.meet()
if not team.is_chief:
    shutil.copytree(place / "True", place / "False", dirs_exist_ok=True)
resumed = learn(own)
print(json.dumps([unbroken, anew, resumed]))
team.meet()
"""
"""Training that is broken off; then only the chief has a state, as it alone writes one; then all have it."""


def ports() -> int:
    """Return the first of two ports that are free."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            try:
                second.bind(("127.0.0.1", first.getsockname()[1] + 1))
            except (OSError, OverflowError):
                continue
            return int(first.getsockname()[1])


def test_two_machines_learn_what_one_learns_and_go_on_together_or_begin_anew_together(tmp_path):
    modules = os.pathsep.join(map(str, (Path(machines.__file__).parents[1], Path(__file__).parent)))
    hosts, port = ["127.0.0.1", "localhost"], ports()
    jobs = []
    for host in hosts:
        told = {"SM_RESOURCE_CONFIG": json.dumps({"hosts": hosts, "current_host": host}), "PYTHONPATH": modules}
        command = [sys.executable, "-c", MACHINES, str(tmp_path), str(port)]
        environment = {**os.environ, **told, "TF_CPP_MIN_LOG_LEVEL": "3"}
        # Into files: a full pipe would hold up one machine, and with it the other.
        with (tmp_path / f"{host}.log").open("w") as log:
            jobs.append(subprocess.Popen(command, env=environment, stdout=log))
    assert [job.wait(timeout=300) for job in jobs] == [0, 0]
    said = [(tmp_path / f"{host}.log").read_text() for host in hosts]
    for text in said:
        assert "the machines have states of epochs [2, 0]: training starts from the beginning" in text
        assert text.count("continuing after epoch 2 of an interrupted run") == 1
    together, other = (json.loads(text.splitlines()[-1]) for text in said)
    assert together == other
    unbroken, anew, resumed = together
    assert anew == unbroken
    assert resumed == unbroken
    alone = training.fit(signs(96, seed=1), doubtful(signs(48, seed=2)), CLASSES, SETTINGS)
    np.testing.assert_allclose(unbroken[0], course(alone.history), atol=1e-4)
    for weight, expected in zip(unbroken[1], alone.network.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-4)


APART = 1e-3
"""How far two processors may end from one, as a share of the way that the weights went.

It is some millionths, and half of this with another processor's kernels (ONEDNN_MAX_CPU_ISA=AVX2), since Adam's first
steps are as long for a gradient that is all rounding as for any other. Statistics of half a batch lead 0.8 apart.
"""

MIRRORED = """
import json
from dataclasses import replace
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from three_signs import CLASSES, SETTINGS, SLIM, signs
from trafficsigns import dataset, lenet, machines, presets, training
presets.PRESETS["standard"] = SLIM
images = signs(96, seed=1)
settings = replace(SETTINGS, preset="standard", epochs=2, learning_rate=0.001)
teams = [machines.Team(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])), machines.alone()]
outcomes = [training.fit(images, images, CLASSES, settings, team=team) for team in teams]
# Of 15 images two processors take 14 together, though a batch may have 16.
few = dataset.Images(images.pixels[:15], images.labels[:15])
training.fit(few, few, CLASSES, replace(settings, preset="lenet5", epochs=1), team=teams[0])
keras.utils.set_random_seed(settings.seed)
networks = [outcome.network for outcome in outcomes] + [lenet.build(SLIM, CLASSES)]
together, alone, fresh = (
    np.concatenate([np.ravel(weight) for weight in network.trainable_variables]) for network in networks
)
print(json.dumps([team.strategy.num_replicas_in_sync for team in teams]))
print(json.dumps([[epoch.loss for epoch in outcome.history] for outcome in outcomes]))
print(float(np.linalg.norm(together - alone) / np.linalg.norm(alone - fresh)))
"""


def test_two_processors_learn_what_one_learns_from_the_same_batches():
    """The default network, with fewer filters: shared statistics, the transformer, averages of weights."""
    modules = (Path(machines.__file__).parents[1], Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, modules)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    replicas, losses, apart = done.stdout.splitlines()[-3:]
    assert json.loads(replicas) == [2, 1]
    together, alone = json.loads(losses)
    assert together == pytest.approx(alone, rel=1e-4)
    assert float(apart) < APART
