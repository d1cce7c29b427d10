"""Turns what moto holds into bytes and back: with references from one service to another, and files by their names."""

from __future__ import annotations

import functools
import importlib
import io
import pickle
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import cloudpickle  # type: ignore[import-untyped]
from moto.core.base_backend import BackendDict, BaseBackend

from infra.local.neighbours.storage import StoredKey


class Place(NamedTuple):
    """One of moto's backends: where its class is, and whose it is."""

    module: str
    name: str
    account: str
    region: str

    @classmethod
    def of(cls, backend: BaseBackend) -> Place:
        """Return the place of a backend."""
        kind = type(backend)
        return cls(kind.__module__, kind.__qualname__, backend.account_id, backend.region_name)

    def backend(self) -> Any:
        """Return the backend, a new one if there was none."""
        return _backends(self.module, self.name)[self.account][self.region]


@functools.cache
def _backends(module: str, name: str) -> Any:
    found = (value for value in vars(importlib.import_module(module)).values() if isinstance(value, BackendDict))
    return next(backends for backends in found if backends.backend.__name__ == name)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no types
    """Pickles a unit, with references where it leads to other units, and lists the files that it names."""

    cuts: ClassVar[dict[type, Callable[[Any], dict[str, Any]]]] = {}
    """Classes of which only a part of the state belongs to what leads to them."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=5)
        self.files: list[str] = []

    def persistent_id(self, item: Any) -> Any:
        """Refer to other backends."""
        if isinstance(item, BaseBackend):
            return tuple(Place.of(item))
        if isinstance(item, StoredKey) and item.file:
            self.files.append(item.file)
        return None

    def reducer_override(self, item: Any) -> Any:
        """Pickle what cannot be pickled: locks anew, weak references empty, cryptographic keys in their own format."""
        if type(item) in self.cuts:
            return _rebuilt, (type(item), self.cuts[type(item)](item))
        if isinstance(item, (type(threading.Lock()), type(threading.RLock()))):
            return type(item) if isinstance(item, type(threading.RLock())) else threading.Lock, ()
        if isinstance(item, weakref.WeakValueDictionary):
            return weakref.WeakValueDictionary, ()
        if isinstance(item, defaultdict) and type(item) is not defaultdict:
            # A subclass may want other arguments than the one that pickle would give it.
            return (
                _rebuilt,
                (type(item), {}),
                (vars(item), {"default_factory": item.default_factory}),
                None,
                iter(item.items()),
            )
        if type(item).__module__.startswith("cryptography.") and hasattr(item, "private_bytes"):
            return _private_key, (_der(item),)
        return super().reducer_override(item)


def _rebuilt(kind: type, state: dict[str, Any]) -> Any:
    item: Any = kind.__new__(kind)  # type: ignore[call-overload]
    item.__dict__.update(state)
    return item


def _der(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization as to

    der: bytes = key.private_bytes(to.Encoding.DER, to.PrivateFormat.PKCS8, to.NoEncryption())
    return der


def _private_key(der: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    return load_der_private_key(der, None)


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: tuple[str, str, str, str]) -> Any:
        return Place(*pid).backend()


def dump(item: Any) -> tuple[bytes, list[str]]:
    """Pickle, and list the files that the objects in it name."""
    stream = io.BytesIO()
    pickler = Pickler(stream)
    pickler.dump(item)
    return stream.getvalue(), pickler.files


def load(body: bytes) -> Any:
    """Read what ``dump`` wrote."""
    return _Unpickler(io.BytesIO(body)).load()
