"""One answer on FastPySGI, synchronous: ``fastpysgi wsgi:app``."""

import orjson


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [orjson.dumps({"message": "Hello, World!"})]
