from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.local.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "deep" / "records.sqlite")


def test_a_name_is_taken_once_in_its_kind(store: Store) -> None:
    assert store.insert("Model", "a", {"n": 1})
    assert not store.insert("Model", "a", {"n": 2})
    assert store.insert("Endpoint", "a", {"n": 3})
    assert store.get("Model", "a") == {"n": 1}
    assert store.get("Model", "b") is None


def test_an_update_changes_some_fields_and_keeps_the_rest(store: Store) -> None:
    store.insert("Model", "a", {"x": 1, "y": 2})
    assert store.update("Model", "a", y=3, z=4) == {"x": 1, "y": 3, "z": 4}
    assert store.get("Model", "a") == {"x": 1, "y": 3, "z": 4}
    with pytest.raises(KeyError, match="Model b"):
        store.update("Model", "b", y=3)


def test_deleting_says_whether_there_was_one(store: Store) -> None:
    store.insert("Model", "a", {})
    assert store.delete("Model", "a")
    assert not store.delete("Model", "a")


def test_lists_are_in_order_of_creation_and_prefixes_are_plain_text(store: Store) -> None:
    for name in ("b", "a_1", "a%", "aX1"):
        store.insert("Model", name, {"name": name})
    store.update("Model", "b", again=True)
    assert [record["name"] for record in store.list("Model")] == ["b", "a_1", "a%", "aX1"]
    assert [record["name"] for record in store.list("Model", "a_")] == ["a_1"]


def test_concurrent_changes_are_all_kept(store: Store) -> None:
    store.insert("Model", "a", {"count": 0})

    def add(_: int) -> None:
        with store.exclusive():
            record = store.get("Model", "a")
            assert record is not None
            store.update("Model", "a", count=record["count"] + 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(100)))
    assert store.get("Model", "a") == {"count": 100}


def test_what_was_answered_is_on_disk_at_once(store: Store, tmp_path: Path) -> None:
    store.insert("Model", "a", {"n": 1})
    other = sqlite3.connect(tmp_path / "deep" / "records.sqlite")
    assert json.loads(other.execute("SELECT body FROM records").fetchone()[0]) == {"n": 1}
    other.close()


def test_an_exclusive_block_changes_all_or_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError, match="half way"), store.exclusive():
        store.insert("Model", "a", {})
        with store.exclusive():
            store.insert("Model", "b", {})
        raise RuntimeError("half way")
    assert store.list("Model") == []
    with store.exclusive():
        store.insert("Model", "a", {"n": 1})
    assert store.list("Model") == [{"n": 1}]
