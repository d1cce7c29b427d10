"""Hostile pickles: each would do something with ``pickle.loads``, and does nothing here."""

import io
import os
import pickle
import subprocess

import numpy as np
import pytest

from trafficsigns.sources import unpickling
from trafficsigns.sources.unpickling import MALFORMED, Refused, load


class Does:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Strange:
    """An object of a class of its own."""


def hostile(mark) -> dict[str, object]:
    command = f"touch {mark}"
    return {
        "a shell command": Does(os.system, command),
        "a process": Does(subprocess.check_call, ["touch", str(mark)]),
        "code": Does(eval, f"open({str(mark)!r}, 'w')"),
        "a file": Does(open, str(mark), "w"),
        "a look-up that leads to any function": Does(getattr, Does(__import__, "os"), "system"),
        "an import": Does(__import__, "antigravity"),
        "another pickle": Does(pickle.loads, pickle.dumps(Does(os.system, command))),
        "a file loaded by numpy": Does(np.load, str(mark)),
        "a class of its own": Strange(),
        "a function": os.system,
    }


KINDS = list(hostile(""))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["at the top", "among the features", "inside an array"])
def test_nothing_is_executed(kind, place, protocol, tmp_path):
    mark = tmp_path / "mark"
    value = hostile(mark)[kind]
    if place == "inside an array":
        value = np.array([value], dtype=object)
    content = pickle.dumps(value if place == "at the top" else {"features": value}, protocol)
    with pytest.raises((Refused, ValueError)):
        load(content)
    assert not mark.exists()


def test_the_stand_ins_really_keep_from_something(tmp_path):
    """Control: the standard reader does what these pickles say."""
    pickle.loads(pickle.dumps(hostile(tmp_path / "mark")["a shell command"]))
    assert (tmp_path / "mark").exists()


def opcodes(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"not a pickle",
        b"\x80\x05.",
        opcodes(b"]"),
        opcodes(b"}U\x08featuresBx"),
        opcodes(b"Pidentifier\n"),
        opcodes(b"\x82\x01"),
        opcodes(b"cos\nsystem\n"),
        opcodes(b"c__builtin__\neval\n"),
        opcodes(b"cnumpy\nload\n"),
        opcodes(b"cnumpy.core.multiarray\n_reconstruct.__globals__\n"),
        # The state of a stand-in itself, which must not be changed for others.
        opcodes(RECONSTRUCT, b"}U\x08__call__K\x01sb"),
        opcodes(RECONSTRUCT, b"N}U\x08__call__K\x01s\x86b"),
        opcodes(RECONSTRUCT, b")\x81"),
        opcodes(b"B\xff\xff\xff\x7f"),
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        opcodes(b"(" * 100_000),
        opcodes(b"h\x07"),
        # A memo with four thousand million places.
        opcodes(b"K\x01r\xff\xff\xff\xff") + b"cos\nsystem\n",
    ],
)
def test_broken_and_hand_made_pickles_are_refused(content):
    with pytest.raises((Refused, *MALFORMED)):
        load(content)


def test_a_stand_in_survives_who_tries_to_change_it():
    for attack in (b"}U\x08__call__K\x01sb", b"N}U\x04nameU\x04evil\x86b"):
        with pytest.raises((Refused, *MALFORMED)):
            load(opcodes(RECONSTRUCT, attack))
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(load(pickle.dumps({"a": array}, 2))["a"], array)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (2, 4)},
        {"shape": (-1, 6)},
        {"shape": (2**62, 2**62)},
        {"shape": ("2", "x")},
        {"raw": b"short"},
        {"raw": [1, 2, 3]},
        {"dtype": "O8"},
        {"dtype": "V6"},
        {"dtype": "u16"},
        {"dtype": 3},
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_together_are_refused(change, monkeypatch):
    made = unpickling._Made("dtype", (change.get("dtype", "u1"), 0, 1))
    array = unpickling._Made("reconstruct", ())
    array.__setstate__((1, change.get("shape", (2, 3)), made, False, change.get("raw", bytes(6))))
    with pytest.raises((Refused, *MALFORMED)):
        unpickling._array(array)


def test_every_cut_of_a_pickle_is_refused():
    content = pickle.dumps({"features": np.zeros((2, 3), np.uint8), "labels": [1, 2]}, 4)
    for end in range(len(content)):
        with pytest.raises((Refused, *MALFORMED)):
            load(content[:end])


def test_random_damage_never_does_anything_but_fail_or_give_plain_data(monkeypatch):
    content = pickle.dumps({"features": np.zeros((4, 5), np.uint8), "labels": np.arange(3)}, 2)
    rng = np.random.default_rng(11)
    given = 0
    for _ in range(3000):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        try:
            loaded = load(io.BytesIO(bytes(damaged)))
        except (Refused, *MALFORMED):
            continue
        given += 1
        assert all(isinstance(value, np.ndarray | int | float | str | bytes | list | tuple | dict | bool | None)
                   for value in loaded.values())  # fmt: skip
    assert 0 < given < 3000
