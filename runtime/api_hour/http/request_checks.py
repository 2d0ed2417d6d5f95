"""What this server does otherwise than aiohttp, on the fast path and beside it.

Refused: a Host header that names no host, a Transfer-Encoding that names no coding, and CONNECT.
``OPTIONS *`` is answered.
"""

import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from aiohttp import hdrs, web

from api_hour.logs.request_id import HEADER, Ids, current

Handle = Callable[[Any], Awaitable[web.StreamResponse]]

# RFC 9110, 7.2, and RFC 3986, 3.2.2, but no comma: only a joined list brings one
HOST = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")


def strict(handle: Handle, ids: Ids | None) -> Handle:
    """Return ``handle`` behind the checks, with an id for each request if there are ``ids``."""

    def checked(request: web.Request) -> Awaitable[web.StreamResponse]:
        if ids is not None:
            identity = ids.of(request.headers.get(HEADER))
            request._id = identity
            current.set(identity)
        answer = _answer(request)
        return handle(request) if answer is None else _given(answer)

    return checked


async def _given(answer: web.Response) -> web.Response:
    return answer


@lru_cache(256)
def good_host(host: str | None) -> bool:
    """Tell whether ``host`` is one host and perhaps a port.

    The parser refuses two of them, and none in HTTP/1.1.
    """
    return host is None or HOST.fullmatch(host) is not None


def _answer(request: web.Request) -> web.Response | None:
    headers, message = request.headers, request._message
    if not good_host(headers.get(hdrs.HOST)):
        return _refusal(400, "Invalid Host header")
    if hdrs.TRANSFER_ENCODING in headers and not message.chunked:
        return _refusal(400, "Invalid Transfer-Encoding header")
    if message.method == hdrs.METH_CONNECT:
        return _refusal(501, "CONNECT is not supported")
    return web.Response() if message.path == "*" else None


def _refusal(status: int, text: str) -> web.Response:
    response = web.Response(status=status, text=f"{status}: {text}")
    response.force_close()
    return response
