"""One answer on Granian's own interface: ``granian --interface rsgi app:app``."""

import orjson

HEADERS = [("content-type", "application/json")]


async def app(scope, protocol):
    protocol.response_bytes(200, HEADERS, orjson.dumps({"message": "Hello, World!"}))
