"""What an endpoint is to be: whose model, on what, and how carefully a new one takes over."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

MODES = ("realtime", "serverless")
TRAFFIC = ("all-at-once", "canary", "linear")

VARIANT = "AllTraffic"
"""The only variant's name; it stays the same from version to version, since scaling and alarms go by it."""


UPDATE_SECONDS = 9000
"""How long all bake times of an update may be together."""


@dataclass(frozen=True)
class Target:
    """An endpoint as it is wanted; every field but ``role_arn`` and the capacity's has the settings' own name."""

    group: str
    endpoint: str
    role_arn: str
    mode: str
    instance_type: str
    instance_count: int
    maximum_instance_count: int
    """More than ``instance_count``: the endpoint scales between the two."""
    invocations_per_instance: int
    """Of a minute, at which an endpoint that scales gets another instance."""
    memory_mb: int
    maximum_concurrency: int
    traffic: str
    step_percentage: int
    """Of a canary, or of each linear step."""
    bake_seconds: int
    maximum_error_rate: float
    """Share of requests that may end in an error of the server within a minute."""
    maximum_latency_ms: float
    alarm_topic_arn: str
    capture_percentage: int
    capture_uri: str
    keep: int
    """How many earlier configurations and models stay, to go back to."""
    subnet: tuple[str, ...]
    """That the model runs in; none: a network of SageMaker's."""
    security_group: tuple[str, ...]
    kms_key: str
    """ARN of the key that the instances' volumes and captured requests are encrypted with; empty: keys of AWS's own."""
    tag: tuple[str, ...]
    """Of whatever is created, each as ``key=value``."""

    @property
    def update_seconds(self) -> int:
        """How long all bake times of an update are together: one after each step, and one before the old ones end."""
        steps = {"all-at-once": 1, "canary": 2, "linear": math.ceil(100 / max(1, self.step_percentage))}
        return (steps[self.traffic] + 1) * self.bake_seconds

    @property
    def scales(self) -> bool:
        """Whether the number of instances follows the load."""
        return self.mode == "realtime" and self.maximum_instance_count > self.instance_count

    @property
    def errors_alarm(self) -> str:
        """Name of the alarm on errors of the server."""
        return f"{self.endpoint}-errors"

    @property
    def latency_alarm(self) -> str:
        """Name of the alarm on the model's latency."""
        return f"{self.endpoint}-latency"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser an option for each of a target's fields."""
    whose = parser.add_argument_group("whose model, and where")
    whose.add_argument("--model-package-group", required=True, help="whose newest approved version is to serve")
    whose.add_argument("--endpoint-name", required=True, help="endpoint to create or update")
    whose.add_argument("--role-arn", required=True, help="role that the model runs with")
    capacity = parser.add_argument_group("capacity")
    capacity.add_argument("--mode", choices=MODES, default="realtime", help="instances, or paid by the request")
    capacity.add_argument("--instance-type", default="ml.m6i.large", help="of a realtime endpoint")
    capacity.add_argument("--instance-count", type=_count, default=1, help="of a realtime endpoint")
    capacity.add_argument("--maximum-instance-count", type=_count, help="to which it may grow; none: it stays")
    capacity.add_argument("--invocations-per-instance", type=_count, default=6000, help="a minute, at which it grows")
    capacity.add_argument("--memory-mb", type=_count, default=2048, help="of a serverless endpoint")
    capacity.add_argument("--maximum-concurrency", type=_count, default=5, help="of a serverless endpoint")
    guard = parser.add_argument_group("how a version takes over from another")
    guard.add_argument("--traffic", choices=TRAFFIC, default="all-at-once", help="how traffic moves to it")
    guard.add_argument("--step-percentage", type=_percentage, default=50, help="of a canary, or of each linear step")
    guard.add_argument("--bake-seconds", type=_whole, default=60, help="after each step, watching the alarms")
    guard.add_argument("--maximum-error-rate", type=_share, default=0.01, help="alarm: share of failed requests")
    guard.add_argument("--maximum-latency-ms", type=float, default=1000.0, help="alarm: mean of the model's latency")
    guard.add_argument("--alarm-topic-arn", default="", help="SNS topic that the alarms tell")
    guard.add_argument("--keep", type=_whole, default=3, help="earlier configurations and models that stay")
    capture = parser.add_argument_group("data capture")
    capture.add_argument("--capture-percentage", type=_percentage, default=0, help="of the requests; 0: none")
    capture.add_argument("--capture-uri", default="", help="S3 prefix of what is captured")
    around = parser.add_argument_group("network, key and tags")
    around.add_argument("--subnet", action="append", help="that the model runs in; may be repeated")
    around.add_argument("--security-group", action="append", help="of the model, in subnets; may be repeated")
    around.add_argument("--kms-key", default="", help="ARN of the key for volumes and captured requests")
    around.add_argument("--tag", action="append", type=_tag, help="KEY=VALUE, of whatever is created; may be repeated")


def target_of(arguments: argparse.Namespace) -> Target:
    """Read a target from parsed options.

    Raises ``ValueError`` where one option makes no sense beside another; the text says which.
    """
    values = {**vars(arguments)}
    values["maximum_instance_count"] = values["maximum_instance_count"] or values["instance_count"]
    repeated = ("subnet", "security_group", "tag")
    values |= {name: tuple(values[name] or ()) for name in repeated}
    fields = [name for name in Target.__dataclass_fields__ if name not in ("group", "endpoint")]
    target = Target(values["model_package_group"], values["endpoint_name"], **{name: values[name] for name in fields})
    if target.traffic != "all-at-once" and target.instance_count < 2:
        raise ValueError(
            f"--traffic {target.traffic} needs --instance-count 2 or more: a step is at most half of the instances"
        )
    if target.traffic != "all-at-once" and target.step_percentage > 50:
        raise ValueError(f"--step-percentage {target.step_percentage}: a step is at most half of the instances")
    if target.update_seconds > UPDATE_SECONDS:
        raise ValueError(
            f"--bake-seconds {target.bake_seconds}: moving traffic would take {target.update_seconds} s, and the "
            f"deployment waits {UPDATE_SECONDS} s"
        )
    if target.maximum_instance_count < target.instance_count:
        raise ValueError(
            f"--maximum-instance-count {target.maximum_instance_count} is below "
            f"--instance-count {target.instance_count}"
        )
    if bool(target.subnet) != bool(target.security_group):
        raise ValueError("--subnet and --security-group need each other")
    if target.capture_percentage and target.mode == "realtime" and not target.capture_uri.startswith("s3://"):
        raise ValueError("--capture-percentage needs a --capture-uri that begins with s3://")
    return target


def _tag(text: str) -> str:
    if not text.partition("=")[1] or text.startswith("="):
        raise argparse.ArgumentTypeError(f"{text!r} is no KEY=VALUE")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above zero")
    return int(text)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _percentage(text: str) -> int:
    if not text.isdecimal() or int(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 100")
    return int(text)


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to 1")
    return value
