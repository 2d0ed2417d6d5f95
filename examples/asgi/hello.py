"""An ASGI application, such as any framework makes; it does not know which server runs it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope["state"], receive, send)
    elif scope["type"] == "http":
        await answer(scope, send)


async def lifespan(state: Message, receive: Receive, send: Send) -> None:
    """Open what the application needs, and close it when the server stops."""
    await receive()
    state["message"] = "Hello, World!"
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("The application has ended", flush=True)
    await send({"type": "lifespan.shutdown.complete"})


async def answer(scope: Message, send: Send) -> None:
    await asyncio.sleep(0.01)
    body = json.dumps({"message": scope["state"]["message"], "path": scope["path"]}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
