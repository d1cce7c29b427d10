"""Making a registered version anew from its own definition and parameters, and comparing the two.

What is run is the definition that SageMaker kept with the execution, not what the repository would build today, under a
pipeline's name of its own: neither that pipeline's cache nor the checkpoints of the first training can answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import comparison, definitions, executions, objects, registry
from pipeline.clouds import Cloud
from pipeline.executions import Snapshot
from pipeline.registry import Version
from pipeline.settings import Settings

JOBS = ("Processing", "Training")
"""The types of step that make something; the others judge, register and deploy."""

OF_THE_MACHINE = frozenset(
    {"latency_p50_milliseconds", "latency_p99_milliseconds", "latency_ratio", "archive_megabytes"}
)
"""Metrics that two runs of the same thing need not share: times, and the size of an archive with times in it."""


class ReproductionError(Exception):
    """A version that cannot be made anew or compared; the text is one line."""


@dataclass(frozen=True)
class Fact:
    """One thing that must come out the same."""

    name: str
    registered: Any
    reproduced: Any
    judged: bool = True
    """Whether it must; times, for example, need not."""

    @property
    def same(self) -> bool:
        """Whether it did."""
        return bool(self.registered == self.reproduced)


def start(settings: Settings, cloud: Cloud, found: Version) -> str:
    """Run a version's own definition with its own parameters, up to the evaluation; return the execution's ARN.

    Nothing is registered and nothing deployed. Raises ``ReproductionError`` when the version cannot be made anew or
    compared, ``RegistryError`` when its evaluation cannot be read, and ``ExecutionError`` when the execution that made
    it is gone or the cloud refuses: all of that before any job runs.
    """
    if not found.execution:
        raise ReproductionError(
            f"version {found.number} does not say which execution made it (property Execution): train it anew"
        )
    _digests(registry.evaluation(cloud, found), f"version {found.number}")
    text = definition(executions.definition(cloud, found.execution))
    name = f"{settings.name}-reproduction-{found.number}"
    definitions.put(settings, cloud, name, text)
    return executions.start(cloud, name, executions.parameters(cloud, found.execution))


def definition(original: str) -> str:
    """Return a definition's jobs alone, whose results no cache and no checkpoint brings; all else is as it was.

    Raises ``ReproductionError`` when a job depends on a step of another kind. Pure.
    """
    content = json.loads(original)
    steps = [_fresh(step) for step in content["Steps"] if step["Type"] in JOBS]
    left_out = {step["Name"] for step in content["Steps"]} - {step["Name"] for step in steps}
    for step in steps:
        if needed := sorted(left_out & {*step.get("DependsOn", []), *_steps_read(step["Arguments"])}):
            raise ReproductionError(f"step {step['Name']} needs {', '.join(needed)}, which is no job")
    return json.dumps({**content, "Steps": steps})


def _fresh(step: Mapping[str, Any]) -> dict[str, Any]:
    arguments = dict(step["Arguments"])
    if checkpoints := arguments.get("CheckpointConfig"):
        parts = [checkpoints["S3Uri"], {"Get": "Execution.PipelineExecutionId"}]
        arguments["CheckpointConfig"] = {**checkpoints, "S3Uri": {"Std:Join": {"On": "/", "Values": parts}}}
    return {**{key: value for key, value in step.items() if key != "CacheConfig"}, "Arguments": arguments}


def _steps_read(value: Any) -> Iterator[str]:
    """Yield the names of the steps whose results a part of a definition reads."""
    if isinstance(value, Mapping):
        reference = value.get("Get")
        if isinstance(reference, str) and reference.startswith("Steps."):
            yield reference.split(".")[1]
        for item in value.values():
            yield from _steps_read(item)
    elif isinstance(value, list):
        for item in value:
            yield from _steps_read(item)


def compare(cloud: Cloud, found: Version, snapshot: Snapshot) -> list[Fact]:
    """Compare a registered version with what an execution made: data, weights, and every metric.

    Raises ``ReproductionError`` and ``RegistryError`` when something of the two cannot be read.
    """
    manifests = [_manifest(cloud, each) for each in (executions.look(cloud, found.execution), snapshot)]
    address = f"{_outputs(cloud, snapshot, 'Evaluate')['evaluation']}/evaluation.json"
    registered = registry.evaluation(cloud, found)
    reproduced = registry.evaluation_at(cloud, address, snapshot.arn)
    digests = comparison.metrics(
        _digests(registered, f"version {found.number}"), _digests(reproduced, snapshot.identifier)
    )
    metrics = comparison.metrics(registered["metrics"], reproduced["metrics"])
    return [
        Fact("manifest of the data", manifests[0], manifests[1]),
        *(Fact(row.name, row.first, row.second) for row in digests),
        *(Fact(row.name, row.first, row.second, row.name not in OF_THE_MACHINE) for row in metrics),
    ]


def _digests(evaluation: Mapping[str, Any], whose: str) -> Mapping[str, str]:
    """Return what evaluation wrote down of test images and weights, whose files hold times too."""
    digests = evaluation.get("digests")
    if not isinstance(digests, Mapping) or "weights" not in digests:
        raise ReproductionError(f"the evaluation of {whose} holds no digest of the weights: nothing can be compared")
    return digests


def _manifest(cloud: Cloud, snapshot: Snapshot) -> str:
    """Return a digest of what preprocessing wrote down about every image, its content's digest among it."""
    address = _outputs(cloud, snapshot, "Preprocess")["manifest"]
    (bucket, prefix), s3, total = objects.split(address), cloud.client("s3"), hashlib.sha256()
    found = list(objects.keys(s3, bucket, f"{prefix}/"))
    if not found:
        raise ReproductionError(f"the manifest of {snapshot.arn} is gone: nothing lies below {address}")
    for key in found:
        content = hashlib.sha256(s3.get_object(Bucket=bucket, Key=key)["Body"].read()).hexdigest()
        total.update(f"{key.removeprefix(f'{prefix}/')}\0{content}\n".encode())
    return total.hexdigest()


def _outputs(cloud: Cloud, snapshot: Snapshot, step: str) -> dict[str, str]:
    job = next((candidate.job for candidate in snapshot.steps if candidate.name == step and candidate.job), None)
    if job is None:
        raise ReproductionError(f"{snapshot.arn} has no job of step {step}: it was made by another kind of pipeline")
    described = cloud.client("sagemaker").describe_processing_job(ProcessingJobName=job)
    return {each["OutputName"]: each["S3Output"]["S3Uri"] for each in described["ProcessingOutputConfig"]["Outputs"]}
