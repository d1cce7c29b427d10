"""A model's whole life in one call: data to S3, pipeline upserted and started, watched, and its endpoint asked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline import (
    datasets,
    definitions,
    downloads,
    endpoints,
    executions,
    gate,
    lineage,
    objects,
    parameters,
    registry,
)
from pipeline.clouds import Cloud
from pipeline.settings import Settings

WATCH_SECONDS = {"local": 0.5, "aws": 5.0}
"""How often an execution is looked at; AWS throttles who looks more often."""


@dataclass(frozen=True)
class Sample:
    """A test picture, its true class, and what the endpoint said."""

    file: str
    truth: str
    answer: endpoints.Answer


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    snapshot: executions.Snapshot
    report: Path | None
    """The report, fetched; absent when evaluation was not reached."""
    metrics: dict[str, float]
    samples: tuple[Sample, ...]


def dataset(
    settings: Settings, cloud: Cloud, data: str, progress: downloads.Progress = lambda name, here, total: None
) -> datasets.Dataset:
    """Bring a data set to S3 and return where it lies.

    ``data`` is ``synthetic``, ``official`` (downloaded, unless it lies nearby), a folder, or an S3 address. Raises
    ``DatasetError``.
    """
    work = settings.state_dir / "data"
    if data.startswith("s3://"):
        return datasets.existing(settings, cloud, data)
    if data == "synthetic":
        return datasets.upload(settings, cloud, datasets.synthetic(settings, work / "synthetic"))
    if data == "official":
        nearby = datasets.NEARBY
        return datasets.upload(
            settings, cloud, nearby if nearby.is_dir() else datasets.official(work / "gtsrb", progress)
        )
    return datasets.upload(settings, cloud, Path(data).expanduser())


def suited(settings: Settings, data: str) -> dict[str, str]:
    """Return the parameters that suit a named data set: the official one's size, a short training on drawn signs."""
    if data == "official":
        return {"DeclaredImages": str(datasets.OFFICIAL_IMAGES)}
    if data != "synthetic":
        return {}
    quick = settings.quickstart
    return {
        "Preset": quick.preset,
        "Epochs": str(quick.epochs),
        "BatchSize": str(quick.batch_size),
        "MinimumAccuracy": str(quick.minimum_accuracy),
    }


def start(
    settings: Settings, cloud: Cloud, data: datasets.Dataset, changes: Mapping[str, str], version: int | None = None
) -> str:
    """Start the training pipeline, as it was upserted last or a ``version`` of it, on a data set; returns the ARN.

    The newest approved model is the champion that a new one is compared with. Raises ``ParameterError`` for changes
    that the settings would refuse, ``ExecutionError`` for what the cloud refuses.
    """
    champion = registry.newest_approved(cloud, settings.model_package_group)
    known = {"Champion": champion.model} if champion else {}
    return _start(settings, cloud, {**data.parameters, **known}, changes, version=version)


def start_only(
    settings: Settings,
    cloud: Cloud,
    steps: Sequence[str],
    source: str | None,
    changes: Mapping[str, str],
    version: int | None = None,
) -> str:
    """Run some steps again on what an earlier execution, the newest or ``source``, made of the others; returns its ARN.

    It has the parameters of the earlier one, but for ``changes``. Raises as ``start`` does.
    """
    earlier = executions.find(cloud, settings.training_pipeline, source)
    known = executions.parameters(cloud, earlier)
    return _start(settings, cloud, known, changes, executions.Selection(tuple(steps), earlier), version)


def _start(
    settings: Settings,
    cloud: Cloud,
    known: Mapping[str, str],
    changes: Mapping[str, str],
    selection: executions.Selection | None = None,
    version: int | None = None,
) -> str:
    pipeline = settings.training_pipeline
    definition = definitions.current(cloud, pipeline, version)
    values = {**known, **lineage.parameters(definition), **changes}
    parameters.check(values)
    parameters.check_machines(settings, values)
    what = [definition, sorted(values.items()), selection and astuple(selection), version]
    return executions.start(cloud, pipeline, values, token(what, os.environ), selection, version)


def token(what: Any, environment: Mapping[str, str]) -> str | None:
    """Return what makes a start of this happen once in a run of continuous integration, and again in its next attempt.

    ``None`` outside of one: a person who starts the same thing twice wants it twice.
    """
    run = environment.get("GITHUB_RUN_ID")
    if not run:
        return None
    digest = sha256(json.dumps([what, run, environment.get("GITHUB_RUN_ATTEMPT")]).encode())
    return digest.hexdigest()


def follow(cloud: Cloud, arn: str, show: Callable[[executions.Snapshot], None]) -> executions.Snapshot:
    """Show an execution until it has ended, and return it."""
    for snapshot in executions.watch(cloud, arn, WATCH_SECONDS[cloud.kind]):
        show(snapshot)
    return snapshot


def conclude(settings: Settings, cloud: Cloud, snapshot: executions.Snapshot) -> Outcome:
    """Fetch an ended execution's report, and ask the endpoint about the test pictures put aside for it."""
    folder = settings.state_dir / "runs" / snapshot.identifier
    address = evaluated(cloud, snapshot)
    if address is None:
        return Outcome(snapshot, None, {}, ())
    fetch(cloud, address, folder)
    metrics = json.loads((folder / "evaluation.json").read_text())["metrics"]
    deployed = any(step.name == "DeployEndpoint" and step.status == "Succeeded" for step in snapshot.steps)
    samples = _ask(settings, cloud, folder / "samples") if deployed else ()
    return Outcome(snapshot, folder / "report.html", metrics, samples)


def evaluated(cloud: Cloud, snapshot: executions.Snapshot) -> str | None:
    """Return the S3 address of what evaluation wrote, or ``None`` where it was not reached."""
    if not any(step.name == "Evaluate" and step.status == "Succeeded" for step in snapshot.steps):
        return None
    job = snapshot.step("Evaluate").job
    outputs = cloud.client("sagemaker").describe_processing_job(ProcessingJobName=job)["ProcessingOutputConfig"][
        "Outputs"
    ]
    return str(next(output["S3Output"]["S3Uri"] for output in outputs if output["OutputName"] == "evaluation"))


def missed(cloud: Cloud, snapshot: executions.Snapshot) -> list[gate.Missed]:
    """Return the bounds that an execution's model missed, as evaluation judged it.

    Raises ``RegistryError`` when that cannot be read.
    """
    address = evaluated(cloud, snapshot)
    if address is None:
        return []
    return gate.told(registry.evaluation_at(cloud, f"{address}/evaluation.json", snapshot.arn)["gate"]["bounds"])


def fetch(cloud: Cloud, address: str, folder: Path) -> None:
    """Copy everything below an S3 address into a folder."""
    bucket, prefix = objects.split(address)
    s3 = cloud.client("s3")
    for key in objects.keys(s3, bucket, f"{prefix}/"):
        target = folder / key.removeprefix(f"{prefix}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, key, str(target))


def _ask(settings: Settings, cloud: Cloud, folder: Path) -> tuple[Sample, ...]:
    entries = json.loads((folder / "samples.json").read_text())
    return tuple(
        Sample(entry["file"], entry["class_name"], endpoints.ask(cloud, settings.endpoint, folder / entry["file"]))
        for entry in entries
    )
