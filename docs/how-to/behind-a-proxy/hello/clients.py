"""Who is asking: only the proxy reaches the listener, so its word is believed."""

from aiohttp import web


def address_of(request: web.Request) -> str:
    """Return the client's address, which the proxy writes over what was sent."""
    return request.headers.get("X-Real-IP") or request.remote or "unknown"
