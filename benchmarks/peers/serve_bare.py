"""The limit: uvicorn, an ASGI function, the engine called in it. No checks, no batching, no log, no handler."""

import json
from collections.abc import Callable

from serve_engine import Model

model = Model()
HEADERS = [(b"content-type", b"application/json")]


async def app(scope: dict, receive: Callable, send: Callable) -> None:
    """Answer a picture."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    answer = json.dumps({"predictions": model.answer(body)}).encode()
    length = (b"content-length", b"%d" % len(answer))
    await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, length]})
    await send({"type": "http.response.body", "body": answer})
