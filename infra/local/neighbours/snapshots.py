"""Writes what moto holds in memory to one SQLite file, before a changing call is answered, and reads it at the start.

What moto holds is saved in units. A service of an account and a region is one unit, written anew when a call has
changed it. Two services have finer units, because their calls are frequent and what they hold is much: see ``units``.
Nothing is unpickled but this file, which only this program writes.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import platform
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import moto
from moto.core.base_backend import AccountSpecificBackend
from moto.core.common_models import BaseModel
from moto.iam import models as iam

from infra.local.neighbours import turns
from infra.local.neighbours.pickles import Pickler, Place, dump, load

logger = logging.getLogger(__name__)

LAYOUT = f"layout 2, moto {moto.__version__}, Python {'.'.join(platform.python_version_tuple()[:2])}"
"""What must be the same in the process that reads. Pickles name classes and functions, of moto and of this package:
where one of these moves or keeps something else, the layout gets another number."""


class Unit(NamedTuple):
    """What is saved by itself: a backend (``kind`` and ``name`` empty), or a thing in it."""

    place: Place
    kind: str = ""
    name: str = ""


class _Touched(threading.local):
    """What the call under way in this thread has had to do with; ``None`` where that is of no interest."""

    units: dict[Unit, None] | None = None
    places: dict[Place, None] | None = None


_touched = _Touched()


def note(unit: Unit, certainly: bool = True) -> None:
    """Remember that the call under way changes a unit, or may do so unless it only reads."""
    if (units := _touched.units) is not None and (certainly or _touched.places is not None):
        units[unit] = None


class Refused(RuntimeError):
    """A state folder that this version cannot take up; the text says how to go on."""


class Database:
    """The file: units by place, kind and name, in order of creation, each with pieces that are only ever added."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            # A write-ahead log survives the death of the process at any moment.
            for statement in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
                self._connection.execute(f"PRAGMA {statement}")
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise self.refusal(str(error)) from error

    def _prepare(self) -> None:
        if not self._connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            if self._path.with_name("records.sqlite").exists():
                raise self.refusal("it holds records without what moto held beside them")
            with self.transaction():
                self._connection.execute("CREATE TABLE layout (text TEXT NOT NULL)")
                self._connection.execute("INSERT INTO layout VALUES (?)", (LAYOUT,))
                self._connection.execute(
                    "CREATE TABLE units (id INTEGER PRIMARY KEY, place TEXT NOT NULL, kind TEXT NOT NULL,"
                    " name TEXT NOT NULL, body BLOB NOT NULL, files TEXT NOT NULL, UNIQUE (place, kind, name))"
                )
                self._connection.execute(
                    "CREATE TABLE pieces (unit INTEGER NOT NULL REFERENCES units ON DELETE CASCADE, body BLOB NOT NULL)"
                )
                self._connection.execute("CREATE INDEX pieces_of_units ON pieces (unit)")
        (written,) = self._connection.execute("SELECT text FROM layout").fetchone()
        if written != LAYOUT:
            raise self.refusal(f"it was written by {written}, and this is {LAYOUT}")

    def refusal(self, why: str) -> Refused:
        """Make the error that says how to go on."""
        state = self._path.parent
        return Refused(f"the state in {state} cannot be used: {why}; move or remove {state} to begin with an empty one")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all changes of a block, or none."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def put(self, unit: Unit, body: bytes, files: list[str]) -> int:
        """Write a unit and return its number."""
        (number,) = self._connection.execute(
            "INSERT INTO units (place, kind, name, body, files) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET body = excluded.body, files = excluded.files RETURNING id",
            (*_columns(unit), body, " ".join(files)),
        ).fetchone()
        return int(number)

    def add(self, number: int, body: bytes) -> None:
        """Write one more piece of a unit."""
        self._connection.execute("INSERT INTO pieces VALUES (?, ?)", (number, body))

    def delete(self, unit: Unit) -> None:
        """Remove a unit and its pieces."""
        self._connection.execute("DELETE FROM units WHERE place = ? AND kind = ? AND name = ?", _columns(unit))

    def files(self, unit: Unit) -> set[str]:
        """Return the files that a unit names."""
        row = self._connection.execute(
            "SELECT files FROM units WHERE place = ? AND kind = ? AND name = ?", _columns(unit)
        ).fetchone()
        return set(row[0].split()) if row else set()

    def units(self) -> Iterator[tuple[Unit, int, bytes, str]]:
        """Read all units with their numbers and files: outer ones first (by the names of their kinds), older first."""
        for number, place, kind, name, body, files in self._connection.execute("SELECT * FROM units ORDER BY kind, id"):
            yield Unit(Place(*place.split()), kind, name), number, body, files

    def pieces(self, number: int) -> Iterator[bytes]:
        """Read the pieces of a unit in their order."""
        for (body,) in self._connection.execute("SELECT body FROM pieces WHERE unit = ? ORDER BY rowid", (number,)):
            yield body

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _columns(unit: Unit) -> tuple[str, str, str]:
    return " ".join(unit.place), unit.kind, unit.name


_COMPARED = ("", "bucket")
"""Kinds of units that calls touch far more often than they change them; they are few enough to remember."""


def _digest(body: bytes | None) -> bytes:
    return hashlib.blake2b(body or b"", digest_size=16).digest()


class Kind:
    """What a unit's object is, and how it gets its place again; this one is a backend's."""

    def find(self, unit: Unit) -> Any:
        """Return the unit's object as it is to be pickled, or ``None`` where there is none any more."""
        backend = unit.place.backend()
        return Pickler.cuts.get(type(backend), vars)(backend)

    def restore(self, unit: Unit, item: Any) -> None:
        """Put the object back."""
        vars(unit.place.backend()).update(item)

    def news(self, unit: Unit) -> Any:
        """Return what has come to the unit since the last time and is kept in pieces, if anything."""
        return None

    def append(self, unit: Unit, news: Any) -> None:
        """Put a piece back."""


class Snapshots:
    """Saves after each call what the call has changed."""

    def __init__(self, state: Path, kinds: dict[str, Kind]) -> None:
        self._database, self._bodies = Database(state / "moto.sqlite"), state / "objects"
        self._kinds = {"": Kind(), **kinds}
        self._digests: dict[Unit, bytes] = {}
        self._unsaved: set[Place] = set()
        self._waiting: dict[str, list[tuple[Unit, int, bytes]]] = {}

    def load(self) -> None:
        """Fill moto with what was saved, and remove the bodies that belong to nothing.

        A service that nobody has imported yet is filled when it is, which may take a second. Raises ``Refused`` where
        something cannot be read.
        """
        self._watch()
        # What is read stays; looking through it for garbage over and over would take as long again.
        gc.disable()
        named: set[str] = set()
        for unit, number, body, files in self._database.units():
            named.update(files.split())
            if unit.place.module in sys.modules:
                self._restore(unit, number, body)
            else:
                self._waiting.setdefault(unit.place.module, []).append((unit, number, body))
        gc.freeze()
        gc.enable()
        for path in self._bodies.iterdir():
            if path.name not in named:
                path.unlink()

    def _watch(self) -> None:
        """Make moto tell which backends a call asks for."""
        stock = AccountSpecificBackend.__getitem__

        def getitem(backends: Any, region: str) -> Any:
            for waiting in self._waiting.pop(backends.backend.__module__, ()):
                self._restore(*waiting)
            backend = stock(backends, region)
            if (places := _touched.places) is not None:
                places[Place.of(backend)] = None
            return backend

        AccountSpecificBackend.__getitem__ = getitem

    def _restore(self, unit: Unit, number: int, body: bytes) -> None:
        kind = self._kinds[unit.kind]
        try:
            kind.restore(unit, load(body))
            for piece in self._database.pieces(number):
                kind.append(unit, load(piece))
        except Exception as error:
            # Whatever a pickle raises, the way out is the same.
            raise self._database.refusal(f"{' '.join(_columns(unit))}: {error!r}") from error

    @contextmanager
    def call(self, reads_only: bool) -> Iterator[None]:
        """Have moto to oneself for a call; what it changed is saved when the block ends, however it ends.

        A call that only reads saves no more than what has been noted expressly.
        """
        with turns.turn():
            for module in [module for module in self._waiting if module in sys.modules]:
                for waiting in self._waiting.pop(module):
                    self._restore(*waiting)
            units: dict[Unit, None] = {}
            places: dict[Place, None] = {}
            _touched.units, _touched.places = units, None if reads_only else places
            try:
                yield
            finally:
                _touched.units = _touched.places = None
                self._save([*map(Unit, places), *units])

    def _save(self, touched: list[Unit]) -> None:
        changed = [(unit, pickled) for unit in touched if (pickled := self._pickled(unit))]
        if not changed:
            return
        obsolete: set[str] = set()
        with self._database.transaction():
            for unit, (body, files) in changed:
                obsolete |= self._database.files(unit)
                if body is None:
                    self._database.delete(unit)
                    continue
                obsolete -= set(files)
                number = self._database.put(unit, body, files)
                if news := self._kinds[unit.kind].news(unit):
                    self._database.add(number, dump(news)[0])
        self._digests.update((unit, _digest(body)) for unit, (body, _) in changed if unit.kind in _COMPARED)
        for file in obsolete:
            (self._bodies / file).unlink(missing_ok=True)

    def _pickled(self, unit: Unit) -> tuple[bytes | None, list[str]] | None:
        """Return a unit's pickle, empty if it is gone, and its files; ``None`` where there is nothing to write."""
        item = self._kinds[unit.kind].find(unit)
        if not item:
            return None, []
        try:
            body, files = dump(item)
            if self._digests.get(unit) == _digest(body):
                return None
            if not unit.kind:
                load(body)  # What nobody could read would keep the next server from starting.
        except Exception as error:  # noqa: BLE001 - pickle raises whatever the objects' own methods raise
            # Some service holds what no process can hand on to another, such as a thread. The others must not suffer.
            if unit.place not in self._unsaved:
                logger.error("%s is not saved and will be gone after the server's end: %r", unit.place.module, error)
            self._unsaved.add(unit.place)
            return None
        return body, files

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def install() -> None:
    """Spare moto what would cost most here: the memory of every object it ever made, and IAM at every call."""

    def unseen(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            places, _touched.places = _touched.places, None
            try:
                return function(*arguments, **options)
            finally:
                _touched.places = places

        return wrapped

    # Every call to any service looks for its caller in IAM; when a key was last used is not worth a pickle of IAM.
    for name in ("get_account_id_from", "mark_account_as_visited"):
        setattr(iam, name, unseen(getattr(iam, name)))
    BaseModel.__new__ = staticmethod(lambda cls, *_, **__: object.__new__(cls))
