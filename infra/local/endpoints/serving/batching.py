"""Zero-wait batching: whatever queued while the model was busy is its next call. Nothing ever waits for company."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from infra.local.endpoints.serving import handlers, rest
from infra.local.endpoints.serving.engines import Array, BadRequest, Engine
from infra.local.endpoints.serving.handlers import Answer, Context, Handler

logger = logging.getLogger(__name__)

QUICK_SECONDS = 0.05
"""What calls may take and still be made in the loop, which answers nobody else meanwhile."""

QUICK_BYTES = 256 * 1024
"""What calls may hold and still be made in the loop: larger pictures, and many of them, are not quick."""

Outcome = dict[str, Array] | Exception


@dataclass
class Call:
    """One request on its way through the model."""

    body: bytes
    context: Context | None
    """For the handler; a call of TensorFlow Serving's own interface has none."""
    future: asyncio.Future[None]
    answer: Answer | None = None
    predict: rest.Predict | None = None
    queued: float = field(default_factory=time.perf_counter)
    queue_seconds: float = 0.0
    model_seconds: float = 0.0
    batch: int = 0
    """How many requests its call of the engine held; 0 if it needed none."""


class Answered(NamedTuple):
    """What came of one predict call."""

    outcome: Outcome
    batch: int
    """How many requests the engine's call held."""
    seconds: float
    """What the engine's call took."""


def predict_all(engine: Engine, calls: Sequence[rest.Predict], most_rows: int) -> list[Answered]:
    """Answer predict calls, those that fit together in one call of the engine.

    Fit together do calls of one signature whose inputs and outputs all have rows, and whose rows are alike. If the
    engine refuses them together, each is asked alone: one bad picture must not spoil its neighbours' answers.
    """
    if len(calls) == 1:
        return [_alone(engine, calls[0])]
    answered: dict[int, Answered] = {}
    for group in _groups(engine, calls, most_rows):
        start = time.perf_counter()
        answers = _together(engine, [calls[index] for index in group]) if len(group) > 1 else None
        seconds = time.perf_counter() - start
        if answers is None:
            answered.update({index: _alone(engine, calls[index]) for index in group})
        else:
            pairs = zip(group, answers, strict=True)
            answered.update({index: Answered(answer, len(group), seconds) for index, answer in pairs})
    return [answered[index] for index in range(len(calls))]


def _groups(engine: Engine, calls: Sequence[rest.Predict], most_rows: int) -> list[list[int]]:
    groups: dict[Any, list[int]] = {}
    full: list[list[int]] = []
    rows: dict[Any, int] = {}
    for index, call in enumerate(calls):
        lengths = {len(value) if value.ndim else -1 for value in call.inputs.values()}
        if not engine.signatures[call.signature].by_rows or len(lengths) != 1:
            full.append([index])
            continue
        (length,) = lengths
        key = (call.signature, *((name, value.shape[1:]) for name, value in call.inputs.items()))
        if rows.get(key, 0) + length > most_rows and key in groups:
            full.append(groups.pop(key))
            rows[key] = 0
        groups.setdefault(key, []).append(index)
        rows[key] = rows.get(key, 0) + length
    return full + list(groups.values())


def _together(engine: Engine, calls: Sequence[rest.Predict]) -> list[dict[str, Array]] | None:
    """Answer several calls at once, or ``None`` if they must be asked one by one."""
    ends = np.cumsum([len(next(iter(call.inputs.values()))) for call in calls])
    names = calls[0].inputs
    try:
        outputs = engine.run(
            calls[0].signature, {name: np.concatenate([c.inputs[name] for c in calls]) for name in names}
        )
    except Exception as error:  # noqa: BLE001  # whose fault it is shows when each is asked alone
        logger.debug("%d calls together failed: %s", len(calls), error)
        return None
    if any(value.ndim == 0 or len(value) != ends[-1] for value in outputs.values()):
        return None
    cut = {name: np.split(value, ends[:-1]) for name, value in outputs.items()}
    return [{name: values[index] for name, values in cut.items()} for index in range(len(calls))]


def _alone(engine: Engine, call: rest.Predict) -> Answered:
    start = time.perf_counter()
    outcome: Outcome
    try:
        outcome = engine.run(call.signature, call.inputs)
    except Exception as error:  # noqa: BLE001  # it becomes this request's answer
        outcome = error
    return Answered(outcome, 1, time.perf_counter() - start)


class Worker:
    """Whoever talks to handler and engine, one set of calls at a time.

    A thread loads the model. After that the loop itself makes the calls, as long as they are quick, because to wake a
    thread and be woken by it costs as much as a small network; what is slow goes to the thread, so that /ping answers.
    """

    def __init__(self, start: Callable[[], tuple[Handler, Engine]], most_rows: int, most_waiting: int) -> None:
        self._start, self._most_rows, self._most_waiting = start, most_rows, most_waiting
        self._queue: queue.SimpleQueue[list[Call]] = queue.SimpleQueue()
        self._gathered: list[Call] = []
        self._working: list[Call] = []
        self._waiting = 0
        self._company = False
        """Whether the last set held several calls."""
        self._seconds = 0.0
        """What the last set of calls took."""
        self.ready = False
        self.observe: Callable[[list[Call]], None] = lambda _: None
        """Told of every set of calls that the engine was given at once."""

    def run(
        self, loop: asyncio.AbstractEventLoop, began: Callable[[], None], ended: Callable[[BaseException], None]
    ) -> None:
        """Start to load.

        In the loop ``began`` is told when the model can be asked, ``ended`` if it cannot be loaded or kills its thread.
        """
        self._loop, self._ended = loop, ended
        self._began = began
        threading.Thread(target=self._run, name="model", daemon=True).start()

    @property
    def full(self) -> bool:
        """Whether so many calls wait that another would wait too long."""
        return self._waiting >= self._most_waiting

    async def answer(self, body: bytes, context: Context | None) -> Call:
        """Have a request answered; call it in the loop. Without a model it comes back without an answer."""
        call = Call(body, context, self._loop.create_future())
        if not self.ready:
            return call
        self._waiting += 1
        self._gathered.append(call)
        if len(self._gathered) == 1:
            self._loop.call_soon(self._dispatch)
        try:
            await call.future
        finally:
            self._waiting -= 1
        return call

    def _dispatch(self, seen: int = 0) -> None:
        """Take all that was gathered while the model was busy; runs in the loop.

        A turn of the loop reads from a few connections only. As long as turns bring more, there is something to read
        and no time is lost by reading it first. A client that is alone goes without the second turn.
        """
        if self._working or not self._gathered or not self.ready:
            return
        count = len(self._gathered)
        if count > seen and (count > 1 or self._company):
            self._loop.call_soon(self._dispatch, count)
            return
        self._working, self._gathered, self._company = self._gathered, [], count > 1
        if self._seconds > QUICK_SECONDS or sum(len(call.body) for call in self._working) > QUICK_BYTES:
            self._queue.put(self._working)
            return
        try:
            self._work(self._working)
        except BaseException as error:  # noqa: BLE001  # as in the thread below
            self._over(error)
        else:
            self._done()

    def _run(self) -> None:
        try:
            self._handler, self._engine = self._start()
            self.ready = True
            self._loop.call_soon_threadsafe(self._began)
            while True:
                self._work(self._queue.get())
                self._loop.call_soon_threadsafe(self._done)
        except BaseException as error:  # noqa: BLE001  # the edge of a thread: the server must not go on without it
            self._loop.call_soon_threadsafe(self._over, error)

    def _done(self) -> None:
        calls, self._working = self._working, []
        if self._gathered:
            self._loop.call_soon(self._dispatch)
        self.observe(calls)
        for call in calls:
            if not call.future.done():
                call.future.set_result(None)

    def _over(self, error: BaseException) -> None:
        """End: nobody may wait for an answer that will not come."""
        self.ready = False
        self._working += self._gathered
        self._gathered = []
        self._done()
        self._ended(error)

    def _work(self, calls: list[Call]) -> None:
        start = time.perf_counter()
        for call in calls:
            call.queue_seconds = start - call.queued
            self._prepare(call)
        asked = [call for call in calls if call.predict is not None]
        answered = predict_all(self._engine, [call.predict for call in asked if call.predict], self._most_rows)
        for call, (outcome, batch, seconds) in zip(asked, answered, strict=True):
            call.model_seconds, call.batch = seconds, batch
            self._finish(call, outcome)
        self._seconds = time.perf_counter() - start

    def _prepare(self, call: Call) -> None:
        try:
            body = call.body
            if call.context is not None and self._handler.before is not None:
                said = self._handler.before(handlers.stream(body), call.context)
                body = said.encode() if isinstance(said, str) else said
            call.predict = rest.parse(body, self._engine.signatures)
        except BadRequest as error:
            call.answer = refusal(error)
        except Exception as error:  # noqa: BLE001  # whatever a handler does wrong is its request's answer
            call.answer = handlers.failed(error)

    def _finish(self, call: Call, outcome: Outcome) -> None:
        try:
            if isinstance(outcome, Exception):
                raise outcome
            assert call.predict is not None
            content = rest.body(outcome, call.predict.by_rows)
            if call.context is None or self._handler.after is None:
                call.answer = Answer(200, content)
            else:
                call.answer = handlers.answer(*self._handler.after(handlers.served(200, content), call.context))
        except BadRequest as error:
            # Since 2.20 the image passes TensorFlow Serving's refusals on without asking the output handler.
            call.answer = refusal(error)
        except Exception as error:  # noqa: BLE001  # as above
            call.answer = handlers.failed(error)


def refusal(error: BadRequest) -> Answer:
    """Answer as TensorFlow Serving does what it does not take."""
    return Answer(400, rest.error(str(error)))
