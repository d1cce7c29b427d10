"""One call at a time inside moto, which is not made for threads, and none while a call only waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto.sqs.models import Queue
from urllib3.connection import HTTPConnection

_condition = threading.Condition(threading.Lock())
_holder: int | None = None


@contextmanager
def turn() -> Iterator[None]:
    """Keep every other call out of moto."""
    global _holder
    with _condition:
        _holder = threading.get_ident()
        try:
            yield
        finally:
            _holder = None
            _condition.notify_all()


@contextmanager
def released() -> Iterator[None]:
    """Let other calls go ahead for the length of a block, if this thread has the turn at all."""
    global _holder
    if _holder != threading.get_ident():
        yield
        return
    _holder = None
    _condition.release()
    try:
        yield
    finally:
        _condition.acquire()
        _holder = threading.get_ident()


def _wait_for_messages(queue: Queue, timeout: int) -> None:
    """Wait for any call to end: one of them may have brought a message."""
    global _holder
    if _holder == threading.get_ident():
        _holder = None
        _condition.wait_for(lambda: queue.messages, timeout)
        _holder = threading.get_ident()


def install() -> None:
    """Make moto let go of its turn where it waits: in a long poll, and for the answer of an HTTP server.

    That server may be this one, or may ask this one before it answers.
    """
    stock_getresponse = HTTPConnection.getresponse

    def getresponse(connection: HTTPConnection) -> Any:
        with released():
            return stock_getresponse(connection)

    Queue.wait_for_messages = _wait_for_messages
    HTTPConnection.getresponse = getresponse  # type: ignore[method-assign, assignment]
