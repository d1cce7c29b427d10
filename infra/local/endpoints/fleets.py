"""The instances of an endpoint configuration: model servers by variant, who of them answers, and how they end."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from infra.local.endpoints.variants import ModelServer
from infra.local.store import Record

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 60
"""How long a fleet that is replaced may take to answer what it was asked; SageMaker's limit for one invocation."""

AVOID_SECONDS = 1
"""How long others are asked first after a connection broke off; of a dying process more is known by then."""

Launch = Callable[[Record], ModelServer]
"""Starts the model server of a production variant."""


class Busy(Exception):
    """A serverless variant that answers as many requests as it may at once."""


class Retired(Exception):
    """A fleet that takes no more requests: another one has taken over."""


class Unavailable(Exception):
    """No instance answers at the moment; those that died are being started again."""


class UnknownVariant(Exception):
    """A target variant that the configuration does not name."""


@dataclass(eq=False)
class Instance:
    """One model server, whether it answers, and how many requests it is answering."""

    server: ModelServer
    ready: bool = False
    outstanding: int = 0
    leaving: bool = False
    deaths: int = 0
    avoided_until: float = 0.0

    @property
    def answering(self) -> bool:
        """Whether a request may be sent to it."""
        return self.ready and not self.leaving and self.server.child.running

    def avoid(self) -> None:
        """Let others be asked first for a moment: it broke off a connection.

        A killed process takes new requests while it is being taken apart, and loses them.
        """
        self.avoided_until = time.monotonic() + AVOID_SECONDS


@dataclass(eq=False)
class Variant:
    """A production variant as it runs: its settings, its weight now, its instances."""

    settings: Record
    weight: float
    instances: list[Instance] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The variant's name."""
        return str(self.settings["VariantName"])

    @property
    def count(self) -> int:
        """How many instances it has, without those that leave."""
        return sum(not instance.leaving for instance in self.instances)

    def choose(self) -> Instance:
        """Choose an instance by the variant's routing strategy."""
        answering = [instance for instance in self.instances if instance.answering]
        if not answering:
            raise Unavailable(f"no instance of variant {self.name} answers")
        now = time.monotonic()
        answering = [instance for instance in answering if instance.avoided_until <= now] or answering
        limit = self.settings.get("ServerlessConfig", {}).get("MaxConcurrency")
        if limit and sum(instance.outstanding for instance in self.instances) >= limit:
            raise Busy(f"variant {self.name} answers {limit} requests already, its MaxConcurrency")
        if self.settings.get("RoutingConfig", {}).get("RoutingStrategy") == "LEAST_OUTSTANDING_REQUESTS":
            return min(answering, key=lambda instance: instance.outstanding)
        return random.choice(answering)  # noqa: S311  # It shares out traffic and guards no secret.


class Fleet:
    """All instances of one endpoint configuration. Safe to share between threads."""

    def __init__(self, config: Record, launch: Launch, kept: Mapping[str, Record]) -> None:
        """Describe a fleet, and start nothing yet.

        ``kept`` maps variants to summaries whose weights and counts are taken over instead of the initial ones.
        """
        self.config = config
        self.name = str(config["EndpointConfigName"])
        self._launch = launch
        self._changed = threading.Condition()
        self._retired = False
        self.variants = {variant["VariantName"]: _variant(variant, kept) for variant in config["ProductionVariants"]}
        self._counts: dict[str, int] = {
            name: kept.get(name, {}).get("DesiredInstanceCount") or variant.settings.get("InitialInstanceCount", 1)
            for name, variant in self.variants.items()
        }

    @property
    def size(self) -> int:
        """How many instances the fleet has, or is to have when it starts."""
        return sum(self._counts.values())

    def start(self) -> None:
        """Start all instances and wait until they answer.

        Raises ``UnservableModel`` when one does not, and leaves it to the caller to ``stop`` the others.
        """
        for name, variant in self.variants.items():
            for _ in range(self._counts[name]):
                self._add(variant)
        for variant in self.variants.values():
            self._await(variant.instances)

    def _add(self, variant: Variant) -> Instance:
        instance = Instance(self._launch(variant.settings))
        with self._changed:
            # A fleet that was told to stop while this one started must not keep it.
            if self._retired:
                instance.server.stop()
                raise Retired(self.name)
            variant.instances.append(instance)
        return instance

    def _await(self, instances: list[Instance]) -> None:
        for instance in list(instances):
            instance.server.wait()
            instance.ready = True

    # Requests

    @contextmanager
    def request(self, target: str | None) -> Iterator[tuple[Variant, Instance]]:
        """Choose who answers a request, and count it for the length of the block.

        Raises ``UnknownVariant``, ``Unavailable``, ``Busy`` or ``Retired``.
        """
        with self._changed:
            if self._retired:
                raise Retired(self.name)
            variant = self._variant_for(target)
            instance = variant.choose()
            instance.outstanding += 1
        try:
            yield variant, instance
        finally:
            with self._changed:
                instance.outstanding -= 1
                self._changed.notify_all()

    def _variant_for(self, target: str | None) -> Variant:
        if target is None:
            variants = list(self.variants.values())
            weights = [variant.weight for variant in variants]
            return random.choices(variants, weights if any(weights) else None)[0]  # noqa: S311  # As above.
        if target not in self.variants:
            raise UnknownVariant(target)
        return self.variants[target]

    # Changes

    def resize(self, name: str, count: int) -> None:
        """Start or drain instances of a variant until it has so many.

        Raises ``UnservableModel`` when a new one does not answer; it is gone then.
        """
        variant = self.variants[name]
        self._counts[name] = count
        while variant.count < count:
            instance = self._add(variant)
            try:
                self._await([instance])
            except Exception:
                self._remove(variant, instance)
                self._counts[name] = variant.count
                raise
        while variant.count > count:
            self._remove(variant, next(each for each in reversed(variant.instances) if not each.leaving))

    def _remove(self, variant: Variant, instance: Instance) -> None:
        instance.leaving = True
        self._drain([instance])
        instance.server.stop()
        with self._changed:
            variant.instances.remove(instance)

    def mend(self) -> None:
        """Start again what has died, later each time it does so; answers at once."""
        for variant in self.variants.values():
            for instance in list(variant.instances):
                if instance.ready and not instance.leaving and not instance.server.child.running:
                    instance.ready = False
                    instance.deaths += 1
                    # What it started must not outlive it; later its number may be another process's.
                    instance.server.child.release()
                    threading.Thread(target=self._revive, args=(variant, instance), daemon=True).start()

    def _revive(self, variant: Variant, instance: Instance) -> None:
        logger.warning("an instance of variant %s died (%d so far) and is started again", variant.name, instance.deaths)
        time.sleep(min(2 ** (instance.deaths - 1) - 1, 60))
        try:
            with self._changed:
                if self._retired or instance.leaving:
                    return
                instance.server.revive()
            instance.server.wait()
        except Exception as error:  # noqa: BLE001
            # The edge of a thread: the instance is found dead once more, and waited for longer.
            logger.error("an instance of variant %s does not come back: %s", variant.name, error)
        instance.ready = True

    def stop(self, drain: bool = True) -> None:
        """Take no more requests, let those under way be answered, and end all instances."""
        with self._changed:
            self._retired = True
        instances = [instance for variant in self.variants.values() for instance in variant.instances]
        if drain:
            self._drain(instances)
        for instance in instances:
            instance.server.stop()

    def _drain(self, instances: list[Instance]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not any(instance.outstanding for instance in instances), DRAIN_SECONDS)

    def kill(self) -> None:
        """End the processes at once; whoever waits for them finds them dead."""
        with self._changed:
            self._retired = True
        for variant in self.variants.values():
            for instance in list(variant.instances):
                instance.server.child.stop(grace_seconds=0)

    def summaries(self, status: str | None = None) -> list[Record]:
        """Return the variants as DescribeEndpoint lists them, in a ``VariantStatus`` where one is given."""
        return [_summary(variant, self._counts[name], status) for name, variant in self.variants.items()]


def _variant(settings: Record, kept: Mapping[str, Record]) -> Variant:
    weights = {"DesiredWeight": settings.get("InitialVariantWeight", 1.0), **kept.get(settings["VariantName"], {})}
    return Variant(settings, weights["DesiredWeight"])


def _summary(variant: Variant, count: int, status: str | None) -> Record:
    summary: Record = {
        "VariantName": variant.name,
        "CurrentWeight": variant.weight,
        "DesiredWeight": variant.weight,
    }
    if serverless := variant.settings.get("ServerlessConfig"):
        summary |= {"CurrentServerlessConfig": serverless, "DesiredServerlessConfig": serverless}
    else:
        summary |= {"CurrentInstanceCount": variant.count, "DesiredInstanceCount": count}
    return summary | ({"VariantStatus": [{"Status": status}]} if status else {})
