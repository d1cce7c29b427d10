import json

import pytest
import tensorflow as tf

from trafficsigns import machines
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


def test_float16_is_for_one_processor():
    machines.check_precision("mixed_float16", 1)
    machines.check_precision("mixed_bfloat16", 8)
    with pytest.raises(StepError, match="mixed_float16 is for one processor, and these are 2: mixed_bfloat16"):
        machines.check_precision("mixed_float16", 2)


def test_a_batch_must_be_shared_equally():
    machines.check_batch(128, 4)
    with pytest.raises(StepError, match="128 images cannot be shared equally by 3 processors"):
        machines.check_batch(128, 3)
