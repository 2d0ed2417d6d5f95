"""Who is asking: nobody but the proxy reaches the listener ``http``, so its word is believed."""

from aiohttp import web


def address_of(request: web.Request) -> str:
    """Return the address of the client, which the proxy has written over what the client sent."""
    return request.headers.get("X-Real-IP") or request.remote or "unknown"
