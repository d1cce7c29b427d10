"""Who trains together: one processor, the GPUs of one machine, or the machines of one SageMaker training job."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trafficsigns.failures import StepError

logger = logging.getLogger(__name__)

RESOURCES = Path("/opt/ml/input/config/resourceconfig.json")
"""Where SageMaker tells a training container about the job's instances."""

_FIRST_PORT = 7777


@dataclass(frozen=True)
class Job:
    """The instances of a training job, by their names in its network, and which of them this one is."""

    hosts: tuple[str, ...] = ("localhost",)
    current: str = "localhost"

    @property
    def index(self) -> int:
        """Number this instance among the hosts, from 0."""
        return self.hosts.index(self.current)

    @property
    def is_chief(self) -> bool:
        """Tell whether this instance writes what there is only one of: checkpoints and the model."""
        return self.index == 0


def read(environment: Mapping[str, str], path: Path = RESOURCES) -> Job:
    """Read what SageMaker tells of the instances; where it tells nothing, this machine is alone.

    It stands in ``resourceconfig.json``, whose content the SDK's drivers put into ``SM_RESOURCE_CONFIG`` as well.
    Raises ``StepError`` when it does not say who the hosts are. Source: SageMaker developer guide, "How Amazon
    SageMaker AI Provides Training Information", distributed training configuration.
    """
    text, source = environment.get("SM_RESOURCE_CONFIG", ""), "SM_RESOURCE_CONFIG"
    if not text:
        text, source = path.read_text(encoding="utf-8") if path.is_file() else "", path.name
    if not text:
        return Job()
    try:
        content = json.loads(text)
        # The order must be the same on every instance: it numbers them.
        job = Job(tuple(sorted(content["hosts"])), content["current_host"])
    except (ValueError, KeyError, TypeError) as error:
        raise StepError(f"{source}: expected hosts and current_host as SageMaker writes them ({error!r})") from error
    if job.current not in job.hosts:
        raise StepError(f"{source}: current_host {job.current} is none of the hosts {', '.join(job.hosts)}")
    return job


@dataclass(frozen=True)
class Team:
    """Everything that trains one network together, seen from one of its machines."""

    strategy: tf.distribute.Strategy
    is_chief: bool = True

    def told(self, numbers: Sequence[float]) -> npt.NDArray[np.float64]:
        """Return what each processor's machine says, on all of them: float64 ``[processors, numbers]``, chief first.

        Every machine must ask, with as many numbers.
        """
        if not self.strategy.extended._in_multi_worker_mode():
            return np.array([numbers], np.float64)
        own = self.strategy.run(lambda: tf.constant([numbers], tf.float64))
        everyones: npt.NDArray[np.float64] = self.strategy.gather(own, axis=0).numpy()
        return everyones

    def meet(self) -> None:
        """Wait until every machine has come this far: one that leaves early is taken for one that has died."""
        self.told([0.0])


def alone() -> Team:
    """Return the team of this process alone, with nothing spread."""
    return Team(tf.distribute.get_strategy())


def assemble(job: Job) -> Team:
    """Spread training over a job's instances, over this machine's GPUs, or not at all.

    Where there are several instances it waits for all of them, and must come before anything else that TensorFlow does.
    """
    if len(job.hosts) > 1:
        # Each has a port of its own, since in a rehearsal all hosts are one machine.
        workers = [f"{host}:{_FIRST_PORT + number}" for number, host in enumerate(job.hosts)]
        task = {"type": "worker", "index": job.index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
        logger.info("%s waits for %s", job.current, ", ".join(job.hosts))
        return Team(tf.distribute.MultiWorkerMirroredStrategy(), job.is_chief)
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return Team(tf.distribute.MirroredStrategy())
    return alone()


def check(batch_size: int, precision: str, replicas: int) -> None:
    """Raise ``StepError`` unless so many processors can share a batch, and compute at a precision, together.

    float16 is for one: Keras looks for gradients that overflowed before the processors add theirs up, and only at the
    first one's. What overflows at another is taken for a step, or the processors wait for each other for ever.
    Source: ``LossScaleOptimizer._tf_apply`` of Keras 3.15.
    """
    if not batch_size:
        raise StepError(f"{replicas} processors are more than there are training images: train with fewer processors")
    if batch_size % replicas:
        raise StepError(
            f"a batch of {batch_size} images cannot be shared equally by {replicas} processors: "
            f"choose a --batch-size that {replicas} divides"
        )
    if precision == "mixed_float16" and replicas > 1:
        raise StepError(
            f"--precision mixed_float16 is for one processor, and these are {replicas}: choose mixed_bfloat16"
        )
    if replicas > 1:
        logger.info("%d processors learn from %d of %d images each", replicas, batch_size // replicas, batch_size)
