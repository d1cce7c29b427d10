"""A load generator in a process of its own: some connections, each sending its next request when it has its answer."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

END = b"\r\n\r\n"


@dataclass
class Tally:
    """What all connections saw together."""

    until: float
    seconds: list[float] = field(default_factory=list)
    """Of each request that was answered with 200 before the end."""
    failures: int = 0


class Connection(asyncio.Protocol):
    """One connection that is kept alive."""

    def __init__(self, request: bytes, tally: Tally) -> None:
        self._request, self._tally = request, tally
        self._received = bytearray()
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        # uvloop's transports are none of asyncio's classes, and write all the same.
        self._transport: Any = transport
        self._send()

    def _send(self) -> None:
        self._received.clear()
        self._begun = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take in a piece of an answer; when it is whole, note it and ask again."""
        self._received += data
        head, end, body = self._received.partition(END)
        if not end or len(body) < _length(bytes(head)):
            return
        now = time.perf_counter()
        if now >= self._tally.until:
            self._transport.close()
            return
        if head[9:12] == b"200":
            self._tally.seconds.append(now - self._begun)
        else:
            self._tally.failures += 1
        self._send()

    def connection_lost(self, _: Exception | None) -> None:
        """Note an end that came too early."""
        self._tally.failures += time.perf_counter() < self._tally.until
        self.closed.set_result(None)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    raise ValueError(f"an answer without its length: {head!r}")


async def load(port: int, request: bytes, connections: int, seconds: float) -> Tally:
    """Ask on all connections until the time is over."""
    loop = asyncio.get_running_loop()
    tally = Tally(time.perf_counter() + seconds)
    opened = [
        await loop.create_connection(lambda: Connection(request, tally), "127.0.0.1", port) for _ in range(connections)
    ]
    await asyncio.wait([each.closed for _, each in opened], timeout=seconds + 10)
    return tally


def main(argv: Sequence[str] | None = None) -> int:
    """Send load, and print what came of it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_load", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("content_type")
    parser.add_argument("body", type=Path)
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    given = parser.parse_args(argv)
    body = given.body.read_bytes()
    head = (
        f"POST {given.path} HTTP/1.1\r\nHost: 127.0.0.1:{given.port}\r\nContent-Type: {given.content_type}\r\n"
        f"Accept: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    tally = uvloop.run(load(given.port, head.encode() + body, given.connections, given.seconds))
    taken = sorted(tally.seconds)
    result = {
        "requests": len(taken),
        "failures": tally.failures,
        "p50": taken[len(taken) // 2] if taken else None,
        "p99": taken[len(taken) * 99 // 100] if taken else None,
    }
    sys.stdout.write(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
