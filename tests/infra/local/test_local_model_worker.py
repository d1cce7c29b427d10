"""Who calls the model and when: the loop while it is quick, the thread when it is slow, and all that waited at once."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
import pytest

from infra.local.endpoints.serving import batching
from infra.local.endpoints.serving.batching import QUICK_BYTES, Call, Worker
from infra.local.endpoints.serving.engines import Array, Signature, Spec
from infra.local.endpoints.serving.handlers import Handler

FLOAT = Spec(np.dtype(np.float32), (None,))


SLOW, BLOCKED = 0.6, 99.0


@pytest.fixture(autouse=True)
def slow_begins_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine even a call that does nothing may take longer than a twentieth of a second."""
    monkeypatch.setattr(batching, "QUICK_SECONDS", SLOW / 2)


class Sleeper:
    """An engine that takes as long as its largest input says, in seconds, and notes who called it with how much.

    ``BLOCKED`` takes until it is released.
    """

    signatures: Mapping[str, Signature] = {"serving_default": Signature({"x": FLOAT}, {"y": FLOAT})}

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.released = threading.Event()

    def run(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.calls.append((threading.current_thread().name, len(inputs["x"])))
        if (inputs["x"] < 0).any():
            raise SystemExit(3)
        if inputs["x"].max() == BLOCKED:
            assert self.released.wait(30)
        else:
            time.sleep(float(inputs["x"].max()))
        return {"y": inputs["x"]}


def run(test: Callable[[Worker, Any, Sleeper], Awaitable[None]], **limits: int) -> Sleeper:
    """Run a test with a warm worker, and return its engine."""
    engine = Sleeper()
    ended: list[BaseException] = []

    async def main() -> None:
        worker = Worker(lambda: (Handler(), engine), limits.get("most_rows", 64), limits.get("most_waiting", 100))
        worker.run(asyncio.get_running_loop(), lambda: None, ended.append)
        while not worker.ready:
            await asyncio.sleep(0.001)

        async def ask(seconds: float, size: int = 0) -> Call:
            return await worker.answer(json.dumps({"instances": [seconds]}).encode().ljust(size), None)

        await asyncio.wait_for(test(worker, ask, engine), 30)

    asyncio.run(main())
    assert all(isinstance(each, SystemExit) for each in ended)
    return engine


def test_quick_calls_are_made_in_the_loop_and_slow_ones_in_the_thread() -> None:
    async def test(worker: Worker, ask: Any, _: Sleeper) -> None:
        for seconds in (0, SLOW, SLOW, 0, 0):
            await ask(seconds)

    names = [name for name, _ in run(test).calls]
    # What a call will take is not known before: the first slow one is made in the loop, the first quick one after it
    # in the thread.
    assert names == ["MainThread", "MainThread", "model", "model", "MainThread"]


def test_large_calls_are_made_in_the_thread_at_once() -> None:
    async def test(_: Worker, ask: Any, engine: Sleeper) -> None:
        await ask(0, QUICK_BYTES + 1)
        await asyncio.gather(*[ask(0, QUICK_BYTES // 2) for _ in range(3)])
        await ask(0, QUICK_BYTES)

    assert run(test).calls == [("model", 1), ("model", 3), ("MainThread", 1)]


def test_the_loop_answers_others_while_the_thread_works() -> None:
    async def test(_: Worker, ask: Any, engine: Sleeper) -> None:
        await ask(SLOW)
        slow = asyncio.ensure_future(ask(BLOCKED))
        for _ in range(10):
            await asyncio.sleep(0.005)
        assert not slow.done()
        engine.released.set()
        await slow

    run(test)


def test_all_that_waited_while_the_model_was_busy_goes_together() -> None:
    async def test(_: Worker, ask: Any, engine: Sleeper) -> None:
        await ask(SLOW)
        first = asyncio.ensure_future(ask(BLOCKED))
        while len(engine.calls) < 2:
            await asyncio.sleep(0.005)
        waiting = [asyncio.ensure_future(ask(0)) for _ in range(20)]
        await asyncio.sleep(0.1)
        engine.released.set()
        rest = await asyncio.gather(*waiting)
        assert not any(call.answer is None for call in rest)
        assert {call.batch for call in rest} == {20}
        assert all(call.queue_seconds > 0.05 for call in rest)
        await first

    assert [rows for _, rows in run(test).calls] == [1, 1, 20]


def test_what_comes_at_once_goes_at_once_and_a_single_client_never_waits() -> None:
    async def test(_: Worker, ask: Any, engine: Sleeper) -> None:
        assert (await ask(0)).batch == 1
        assert {call.batch for call in await asyncio.gather(*[ask(0) for _ in range(8)])} == {8}
        assert [(await ask(0)).batch for _ in range(3)] == [1, 1, 1]

    run(test)


def test_it_says_when_too_many_wait() -> None:
    async def test(worker: Worker, ask: Any, engine: Sleeper) -> None:
        await ask(SLOW)
        asked = [asyncio.ensure_future(ask(BLOCKED)) for _ in range(3)]
        await asyncio.sleep(0.02)
        assert worker.full
        engine.released.set()
        await asyncio.gather(*asked)
        assert not worker.full

    run(test, most_waiting=3)


def test_nobody_waits_for_a_model_that_has_died() -> None:
    async def test(worker: Worker, ask: Any, _: Sleeper) -> None:
        await ask(SLOW)
        calls = await asyncio.gather(ask(-1), *[ask(0) for _ in range(3)])
        assert [call.answer for call in calls] == [None] * 4
        assert not worker.ready
        assert (await ask(0)).answer is None

    run(test)


def test_a_caller_that_gives_up_disturbs_nobody() -> None:
    async def test(_: Worker, ask: Any, engine: Sleeper) -> None:
        await ask(SLOW)
        impatient, patient = asyncio.ensure_future(ask(0.1)), asyncio.ensure_future(ask(0.1))
        await asyncio.sleep(0.02)
        impatient.cancel()
        assert (await patient).answer is not None
        assert (await ask(0)).answer is not None

    run(test)
