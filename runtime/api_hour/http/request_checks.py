"""What this server does differently from aiohttp, on the fast path and beside it.

It refuses a Host header that names no host, or none of the listener's ``hosts``; a
Transfer-Encoding that names no known coding or comes with HTTP/1.0; any HTTP but 1.0 and 1.1;
CONNECT; and a path of more than ``MAX_SEGMENTS``. It answers ``OPTIONS *``. What it does with
malformed requests is in ``http/parser.py``, with compressed bodies in ``http/compressed_body.py``.
"""

import ipaddress
import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_writer import HttpVersion10, HttpVersion11

from api_hour.logs.request_id import HEADER, Ids, current

Handle = Callable[[Any], Awaitable[web.StreamResponse]]

VERSIONS = HttpVersion11, HttpVersion10
MAX_SEGMENTS = 100  # of a path: for each of them the dispatcher hashes all before it
# RFC 9110, 7.2, and RFC 3986, 3.2.2, but without a comma: only a list of hosts, joined, has one.
HOST = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")


def checked(handle: Handle, ids: Ids | None, hosts: tuple[str, ...] | None = None) -> Handle:
    """Return ``handle`` behind the checks, one of which ``hosts`` is for.

    With ``ids``, each request gets an id first.
    """

    def handle_checked(request: web.Request) -> Awaitable[web.StreamResponse]:
        if ids is not None:
            identity = ids.of(request.headers.get(HEADER))
            request._id = identity
            current.set(identity)
        answer = _answer(request, hosts)
        return handle(request) if answer is None else _as_coroutine(answer)

    return handle_checked


async def _as_coroutine(answer: web.Response) -> web.Response:
    return answer


@lru_cache(256)
def good_host(host: str | None) -> bool:
    """Return whether ``host`` is one host, with or without a port, or None.

    The parser refuses two Host headers, and HTTP/1.1 without one.
    """
    return host is None or HOST.fullmatch(host) is not None


@lru_cache(256)
def is_ours(host: str | None, hosts: tuple[str, ...] | None) -> bool:
    """Return whether a good ``host`` is an IP address, localhost or one of ``hosts``, or None.

    A page of a stranger can let its own name lead here (DNS rebinding), and then read what it
    gets: its browser sends that name. Without ``hosts``, every name is ours.
    """
    if host is None or hosts is None:
        return True
    name = re.sub(r":[0-9]*$", "", host)
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name.lower().rstrip(".") in ("localhost", *hosts)
    return True


def has_many_segments(path: str) -> bool:
    """Return whether to look ``path`` up would take long; a query may follow it."""
    return path.count("/") > MAX_SEGMENTS and path.partition("?")[0].count("/") > MAX_SEGMENTS


def _answer(request: web.Request, hosts: tuple[str, ...] | None) -> web.Response | None:
    """Return the answer to a request that the application never sees, else None."""
    headers, message = request.headers, request._message
    if message.version not in VERSIONS:  # a parser may take 0.9, 1.2 and 2.0 too
        request._version = HttpVersion11  # of the answer
        if message.version < HttpVersion10 or message.version.major > 1:
            return refusal(505, "HTTP Version Not Supported")
    if not good_host(headers.get(hdrs.HOST)):
        return refusal(400, "Invalid Host header")
    # RFC 9112, 3.2.2: the host of an absolute URL wins over the header; here both must be ours.
    if not (is_ours(headers.get(hdrs.HOST), hosts) and is_ours(message.url._netloc or None, hosts)):
        return refusal(421, "Misdirected Request: no name of this listener (its hosts)")
    # RFC 9112, 6.1: with HTTP/1.0 the framing counts as faulty.
    if hdrs.TRANSFER_ENCODING in headers and (
        not message.chunked or message.version is HttpVersion10
    ):
        return refusal(400, "Invalid Transfer-Encoding header")
    if message.method == hdrs.METH_CONNECT:
        return refusal(501, "CONNECT is not supported")
    if has_many_segments(message.path):
        return refusal(414, "Too many segments in the path")
    return web.Response() if message.path == "*" else None


def refusal(status: int, text: str) -> web.Response:
    """Return an answer after which the connection is closed."""
    response = web.Response(status=status, text=f"{status}: {text}")
    response.force_close()
    return response
