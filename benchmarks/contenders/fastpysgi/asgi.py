"""One answer on FastPySGI, asynchronous: ``fastpysgi asgi:app``."""

import orjson

HEADERS = [(b"content-type", b"application/json")]


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    body = orjson.dumps({"message": "Hello, World!"})
    await send({"type": "http.response.body", "body": body})
