"""Keeps the embedded SageMaker's records: one SQLite table of JSON documents by kind and name."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""What a Describe call answers, with times as seconds since 1970; keys that start with ``_`` are never shown."""


class Store:
    """Records by kind (``ProcessingJob``, ``ModelPackage``, ...) and name, in order of creation.

    A change is committed before its call returns, or with the ``exclusive`` block around it. Safe to share between
    threads.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # A write-ahead log survives the death of the process at any moment; only a power cut could lose the last
        # writes.
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL,"
            " body TEXT NOT NULL, UNIQUE (kind, name))"
        )

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other threads out for a block that reads, decides and writes; all of its changes hold, or none."""
        with self._lock:
            if self._connection.in_transaction:  # A block inside another one: the outer one commits.
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def insert(self, kind: str, name: str, record: Record) -> bool:
        """Add a record; answers whether the name was free, and changes nothing if it was not."""
        statement = "INSERT INTO records (kind, name, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        with self._lock:
            return self._connection.execute(statement, (kind, name, json.dumps(record))).rowcount == 1

    def get(self, kind: str, name: str) -> Record | None:
        """Read one record, or ``None``."""
        with self._lock:
            row = self._connection.execute(
                "SELECT body FROM records WHERE kind = ? AND name = ?", (kind, name)
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def update(self, kind: str, name: str, **changes: Any) -> Record:
        """Change some fields of a record in one transaction and return the whole; ``KeyError`` if there is none."""
        with self._lock:
            record = self.get(kind, name)
            if record is None:
                raise KeyError(f"{kind} {name}")
            record.update(changes)
            self._connection.execute(
                "UPDATE records SET body = ? WHERE kind = ? AND name = ?", (json.dumps(record), kind, name)
            )
        return record

    def delete(self, kind: str, name: str) -> bool:
        """Remove a record; answers whether there was one."""
        with self._lock:
            return (
                self._connection.execute("DELETE FROM records WHERE kind = ? AND name = ?", (kind, name)).rowcount == 1
            )

    def list(self, kind: str, prefix: str = "") -> list[Record]:
        """Read all records of a kind whose name starts with ``prefix``, oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT body FROM records WHERE kind = ? AND substr(name, 1, ?) = ? ORDER BY id",
                (kind, len(prefix), prefix),
            ).fetchall()
        return [json.loads(body) for (body,) in rows]

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        with self._lock:
            self._connection.close()
