"""The project's settings: read once from a TOML file, checked, and frozen."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval, Len, Lt
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""

DEFAULT_FILE = Path(__file__).with_name("settings.toml")

Share = Annotated[float, Interval(ge=0, le=1)]
Count = Annotated[int, Gt(0)]
CountOrNone = Annotated[int, Interval(ge=0, lt=2**31)]
"""0 leaves it to the preset, or to nobody; the bound is that of ``steps/train.py``."""

Preset = Literal["fast", "standard", "best", "lenet5"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]

ProfileName = Literal["dev", "staging", "prod"]
"""What the endpoint may be."""

UPDATE_SECONDS = 9000
"""How long all bake times of an update may be together: ``steps/deploy.py`` waits half an hour longer for all of it."""

_strict = ConfigDict(extra="forbid", strict=True)


class SettingsError(Exception):
    """Settings that cannot be used; the text names the file, the setting and what was expected."""


@dataclass(frozen=True, config=_strict)
class JobRoles:
    """Roles of the jobs, and of the model that serves; empty: what the stacks made, or else the pipeline's own."""

    preprocess: str
    validate: str
    train: str
    evaluate: str
    deploy: str
    serve: str


@dataclass(frozen=True, config=_strict)
class Aws:
    """Where and as whom to work on AWS."""

    role_arn: str
    bucket: str
    encryption: Literal["S3", "KMS"]
    job_roles: JobRoles


@dataclass(frozen=True, config=_strict)
class Network:
    """What jobs and the model can reach."""

    isolated: bool
    own: bool
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    offline: bool

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if bool(self.subnets) != bool(self.security_groups):
            raise ValueError("subnets and security_groups need each other")
        if self.own and self.subnets:
            raise ValueError("own = true makes a network, and subnets name another one: choose")
        if self.offline and not self.subnets:
            raise ValueError("offline = true is said of subnets, and there are none")

    @property
    def used(self) -> bool:
        """Whether jobs and the model run in subnets."""
        return self.own or bool(self.subnets)


@dataclass(frozen=True, config=_strict)
class GitHub:
    """Which repository may train and deploy on AWS; without an owner none may."""

    owner: str
    repository: str
    owner_id: str
    repository_id: str
    environment: Annotated[str, Len(1)]


@dataclass(frozen=True, config=_strict)
class Automation:
    """What happens by itself on AWS; what is empty, or 0, does not."""

    alert_email: str
    monthly_budget: Annotated[int, Interval(ge=0)]
    idle_hours: Annotated[int, Interval(ge=0, le=336)]
    training_schedule: str
    training_data: str

    def __post_init__(self) -> None:
        """Refuse what would do nothing, silently."""
        if self.monthly_budget and not self.alert_email:
            raise ValueError("monthly_budget needs alert_email: whom should it tell?")
        if bool(self.training_schedule) != bool(self.training_data):
            raise ValueError("training_schedule and training_data need each other")


@dataclass(frozen=True, config=_strict)
class Local:
    """Where the embedded SageMaker lives."""

    state: str
    port: Annotated[int, Interval(ge=0, le=65535)]


@dataclass(frozen=True, config=_strict)
class Images:
    """AWS's containers, by framework and version."""

    framework: str
    training_version: str
    inference_version: str
    python: str
    repository: bool
    training_uri: str
    inference_uri: str


@dataclass(frozen=True, config=_strict)
class Instances:
    """Machine types on AWS."""

    processing: str
    processing_count: Count
    training: str
    training_count: Count
    training_hours: Count
    training_spot: bool
    training_spot_wait_hours: Annotated[int, Ge(0)]
    endpoint: str


@dataclass(frozen=True, config=_strict)
class Data:
    """How the data set is divided."""

    test_fraction: Annotated[float, Gt(0), Lt(1)]
    declared_images: Annotated[int, Ge(0)]
    validation_fraction: Annotated[float, Gt(0), Lt(1)]
    seed: Annotated[int, Interval(ge=0, lt=2**32)]


@dataclass(frozen=True, config=_strict)
class Training:
    """How the network is trained."""

    preset: Preset
    epochs: CountOrNone
    batch_size: CountOrNone
    learning_rate: Annotated[float, Interval(ge=0, lt=math.inf)]
    patience: CountOrNone
    precision: Precision


@dataclass(frozen=True, config=_strict)
class Gate:
    """What a model must reach to be registered."""

    minimum_accuracy: Share
    minimum_class_recall: Share
    maximum_calibration_error: Share
    minimum_corrupted_accuracy: Share
    maximum_latency_ratio: Annotated[float, Interval(gt=0, le=1000)]
    maximum_archive_megabytes: Annotated[float, Interval(gt=0, le=5000)]
    champion_significance: Share


@dataclass(frozen=True, config=_strict)
class Profile:
    """What the endpoint is, and how a new version takes over; the fields are options of ``steps/deploy.py``."""

    mode: Literal["realtime", "serverless"]
    instance_count: Count
    maximum_instance_count: Count
    invocations_per_instance: Count
    memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144]
    maximum_concurrency: Annotated[int, Interval(ge=1, le=200)]
    traffic: Literal["all-at-once", "canary", "linear"]
    step_percentage: Annotated[int, Interval(ge=10, le=50)]
    bake_seconds: Annotated[int, Interval(ge=0, le=3600)]
    maximum_error_rate: Share
    maximum_latency_ms: Annotated[float, Gt(0)]
    capture_percentage: Annotated[int, Interval(ge=0, le=100)]
    keep: Annotated[int, Interval(ge=1, le=100)]

    def __post_init__(self) -> None:
        """Refuse what SageMaker would refuse at the first update."""
        if self.traffic != "all-at-once" and self.instance_count < 2:
            raise ValueError(f'traffic = "{self.traffic}" needs instance_count of two or more')
        steps = {"all-at-once": 1, "canary": 2, "linear": math.ceil(100 / self.step_percentage)}[self.traffic]
        if (steps + 1) * self.bake_seconds > UPDATE_SECONDS:
            raise ValueError(f"bake_seconds, {steps + 1} times in one update, are more than {UPDATE_SECONDS} s in all")
        if self.maximum_instance_count < self.instance_count:
            raise ValueError("maximum_instance_count is below instance_count")


@dataclass(frozen=True, config=_strict)
class Deployment:
    """Where a version is served: one of three profiles."""

    profile: ProfileName
    alarm_topic_arn: str
    dev: Profile
    staging: Profile
    prod: Profile

    @property
    def chosen(self) -> Profile:
        """The profile in use."""
        profile: Profile = getattr(self, self.profile)
        return profile


@dataclass(frozen=True, config=_strict)
class Quickstart:
    """What a run on the synthetic data set changes."""

    preset: Preset
    epochs: Count
    batch_size: Count
    minimum_accuracy: Share
    tracks_per_class: Count
    frames_per_track: Count
    test_per_class: Count


@dataclass(frozen=True, config=_strict)
class Settings:
    """All settings."""

    name: Annotated[str, Len(1, 40)]
    region: str
    aws: Aws
    network: Network
    tags: dict[Annotated[str, Len(1, 128)], Annotated[str, Len(0, 256)]]
    github: GitHub
    automation: Automation
    local: Local
    images: Images
    instances: Instances
    data: Data
    training: Training
    gate: Gate
    deployment: Deployment
    quickstart: Quickstart

    @property
    def training_pipeline(self) -> str:
        """Name of the pipeline that trains."""
        return f"{self.name}-training"

    @property
    def deployment_pipeline(self) -> str:
        """Name of the pipeline that deploys."""
        return f"{self.name}-deployment"

    @property
    def model_package_group(self) -> str:
        """Name of the group in the model registry."""
        return self.name

    @property
    def endpoint(self) -> str:
        """Name of the endpoint."""
        return self.name

    @property
    def state_dir(self) -> Path:
        """The embedded SageMaker's folder; a relative one is taken from the repository."""
        return (ROOT / Path(self.local.state).expanduser()).resolve()


def load(file: Path = DEFAULT_FILE, profile: ProfileName | None = None) -> Settings:
    """Read settings from a file; a ``profile`` takes the place of the one that they name.

    Raises ``SettingsError`` for a file that cannot be read, is no TOML, lacks a setting, has one too many, or holds a
    value out of range.
    """
    settings = _read(file)
    if profile is None:
        return settings
    return replace(settings, deployment=replace(settings.deployment, profile=profile))


def _read(file: Path) -> Settings:
    try:
        # Through JSON, because strict Python input would have to be instances of these classes already.
        return TypeAdapter(Settings).validate_json(json.dumps(tomllib.loads(file.read_text(encoding="utf-8"))))
    except OSError as error:
        raise SettingsError(f"cannot read settings from {file}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{file}: {where}: {first['msg']} (got {first['input']!r})") from error
