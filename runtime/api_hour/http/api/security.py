"""Who may call an endpoint: keys and tokens that come with a request."""

import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiohttp import hdrs, web

from api_hour.exceptions import ConfigError
from api_hour.http.errors import problem


class APIKey:
    """Lets in who sends one of some keys in a header or in a cookie.

    Keys are compared in a time that does not depend on what was sent. There is none in the query,
    because logs and browsers keep URLs.
    """

    def __init__(
        self, keys: str | Iterable[str], *, header: str = "X-API-Key", cookie: str | None = None
    ) -> None:
        """``cookie`` is asked for instead of ``header``. Raises ConfigError for an unusable key."""
        given = (
            [keys] if isinstance(keys, str) else list(keys) if isinstance(keys, Iterable) else []
        )
        if not given or not all(isinstance(key, str) and key.isascii() and key for key in given):
            raise ConfigError("APIKey: a key is a text of ASCII characters, and may not be empty")
        self._keys = [key.encode() for key in given]
        self._cookie = cookie
        self._sent_as = header if cookie is None else cookie
        self.name = "APIKey"
        place = "header" if cookie is None else "cookie"
        self.scheme: Mapping[str, Any] = {"type": "apiKey", "in": place, "name": self._sent_as}

    async def check(self, request: web.Request) -> None:
        """Return if the request has one of the keys; raise a 401 if not."""
        sources = request.headers if self._cookie is None else request.cookies
        sent = sources.get(self._sent_as)
        if sent is None:
            raise _unauthorized("APIKey", f"Send the key as {self._sent_as}")
        given = sent.encode("utf-8", "surrogateescape")
        if not sum(hmac.compare_digest(given, key) for key in self._keys):
            raise _unauthorized("APIKey", f"The key sent as {self._sent_as} is not known")


class Bearer:
    """Lets in who sends a token that ``verify`` knows, as ``Authorization: Bearer TOKEN``.

    ``verify`` returns what the token says, such as its claims, or None if the token is not valid.
    An endpoint or a provider finds it in ``request[Bearer.CLAIMS]``.
    """

    CLAIMS: web.RequestKey[Any] = web.RequestKey("CLAIMS", object)

    def __init__(
        self, verify: Callable[[str], Awaitable[object]], *, bearer_format: str = "JWT"
    ) -> None:
        """``bearer_format`` is for the document."""
        self._verify = verify
        self.name = "Bearer"
        self.scheme: Mapping[str, Any] = {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": bearer_format,
        }

    async def check(self, request: web.Request) -> None:
        """Return if the request has a valid token; raise a 401 if not."""
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthorized("Bearer", "Send a token as Authorization: Bearer TOKEN")
        token = token.strip()
        claims = await self._verify(token) if token.isascii() else None
        if claims is None:
            raise _unauthorized('Bearer error="invalid_token"', "The token is not valid")
        request[self.CLAIMS] = claims


def _unauthorized(challenge: str, message: str) -> web.HTTPUnauthorized:
    error = web.HTTPUnauthorized(headers={hdrs.WWW_AUTHENTICATE: challenge})
    return problem(error, message)
