"""The response writer: a whole response as the bytes that aiohttp would send, in one piece.

Where aiohttp does more than to write a head and a body, the response is left to it: bodies that
are not bytes, statuses without a body, compression, chunks, HEAD, connections that close,
``on_response_prepare`` signals.
"""

import time
from typing import Any

from aiohttp import hdrs, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_writer import _serialize_headers

from api_hour.http.access_log import AccessLogger
from api_hour.http.connection import Connections
from api_hour.http.fast.route_table import with_subapps
from api_hour.http.request import SERVER
from api_hour.http.responses import HTML, JSON, Encoded
from api_hour.logs.request_id import HEADER

MAX_HEADS = 1024  # rendered heads of one class, each for one length of the body
WITHOUT_BODY = {204, 304}  # statuses, and all below 200
LAZY = JSON, HTML, Encoded
SENDING = [  # what a subclass may not override
    *("_do_start_compression", "_length_check", "_prepare_headers", "_start"),
    *("_start_compression", "_write_headers", "body", "content_length", "keep_alive"),
    *("prepare", "write_eof"),
]


class ResponseWriter:
    """Renders the responses of one server.

    A JSON or HTML response that nobody touched has one of a few heads: status 200, its media
    type, the body's length, the date. These are kept until the second is over.
    """

    def __init__(self, connections: Connections, app: web.Application) -> None:
        self._connections = connections
        # With request ids the head is open, because each response adds a header of its own.
        self._head_end = "" if connections.ids else "\r\n"
        settings = connections._kwargs
        ours = settings.get("access_log_class") is AccessLogger
        # Any other access log may ask for response headers, which a kept head does not have.
        may_log_headers = bool(settings.get("access_log")) and not ours
        self._signals = any(subapp.on_response_prepare for subapp in with_subapps(app))
        self._heads: dict[type, dict[int, bytes]] = (
            {} if may_log_headers else {kind: {} for kind in LAZY}
        )
        self._ordinary: dict[type, bool] = {}  # by class, see _is_ordinary
        self._ticking = False

    def render(self, request: Any, response: Any, *, raised: bool = False) -> bytes | None:
        """Return the bytes of ``response``, which then counts as sent; None leaves it to aiohttp.

        The request is one of HTTP/1.1. ``raised`` allows an HTTPException, of which aiohttp warns
        when it is returned.
        """
        message = request._message
        if (
            message.should_close
            or message.method == "HEAD"
            or self._connections.closing
            or self._signals
        ):
            return None
        kind = type(response)
        heads = self._heads.get(kind)
        if heads is None or response.__dict__ or response._status != 200:
            if not self._is_ordinary(kind, raised):
                return None
            return self._render_any(response, request._id)
        try:
            body: bytes = response._render()
        except Exception:
            return None  # prepare() will fail too, log it and answer with a 500
        response._eof_sent = response._keep_alive = True
        head = heads.get(len(body)) or self._head(kind, len(body))
        if request._id is None:
            return head + body
        return head + f"{HEADER}: {request._id}\r\n\r\n".encode() + body

    def _head(self, kind: Any, length: int) -> bytes:
        """Render a head, and keep it until the second is over."""
        if not self._ticking:
            self._ticking = True
            self._connections._loop.call_later(1 - time.time() % 1, self._forget_heads)
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind._media}\r\nContent-Length: {length}\r\n"
            f"Date: {rfc822_formatted_time()}\r\nServer: {SERVER}\r\n{self._head_end}"
        ).encode()
        if len(self._heads[kind]) < MAX_HEADS:
            self._heads[kind][length] = head
        return head

    def _forget_heads(self) -> None:
        self._ticking = False
        for heads in self._heads.values():
            heads.clear()

    def _is_ordinary(self, kind: type, raised: bool) -> bool:
        """Return whether responses of a class are sent as web.Response sends them."""
        ordinary = self._ordinary.get(kind)
        if ordinary is None:
            same = (getattr(kind, name, 0) is getattr(web.Response, name) for name in SENDING)
            ordinary = self._ordinary[kind] = kind in LAZY or all(same)
        return ordinary and (raised or not issubclass(kind, web.HTTPException))

    def _render_any(self, response: Any, identity: str | None) -> bytes | None:
        if (
            response.prepared
            or response._compression
            or response._chunked
            or response._keep_alive is not None
            or response._status < 200
            or response._status in WITHOUT_BODY
        ):
            return None
        try:
            body = response._body or b""
            if type(body) is not bytes or not _add_headers(response, body):
                return None
            if identity is not None:
                response._headers.setdefault(HEADER, identity)
            status = f"HTTP/1.1 {response._status} {response._reason}"
            data: bytes = _serialize_headers(status, response._headers) + body
        except Exception:
            return None  # aiohttp will fail in the same way, and say so
        response._eof_sent = response._keep_alive = True
        return data


def _add_headers(response: Any, body: bytes) -> bool:
    """Add what aiohttp adds, in its order; return False if the handler set the framing itself."""
    headers = response._headers
    if hdrs.CONTENT_LENGTH in headers or hdrs.TRANSFER_ENCODING in headers:
        return False
    headers[hdrs.CONTENT_LENGTH] = str(len(body))
    for cookie in (response._cookies or {}).values():
        headers.add(hdrs.SET_COOKIE, cookie.output(header="")[1:])
    if body:
        headers.setdefault(hdrs.CONTENT_TYPE, "application/octet-stream")
    if hdrs.DATE not in headers:
        headers[hdrs.DATE] = rfc822_formatted_time()
    headers.setdefault(hdrs.SERVER, SERVER)
    return True
