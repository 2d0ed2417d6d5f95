"""Blocks: a whole response as one run of bytes, the same bytes that aiohttp would send.

What needs thought is left to aiohttp: bodies that are no bytes, empty ones by rule, compression,
chunks, connections that end, HTTP/1.0, signals.
"""

import time
from typing import Any

from aiohttp import hdrs, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE, HttpVersion11
from aiohttp.http_writer import _serialize_headers

from api_hour.http.access_log import AccessLogger
from api_hour.http.fast.route_table import tree
from api_hour.http.responses import HTML, JSON
from api_hour.logs.request_id import HEADER

HEADS = 1024  # rendered heads, each for one length of a body
EMPTY = {204, 304}  # and all below 200
SENDING = [  # what a subclass may not change
    *("_do_start_compression", "_length_check", "_prepare_headers", "_start"),
    *("_start_compression", "_write_headers", "body", "content_length", "keep_alive"),
    *("prepare", "write_eof"),
]


class Blocks:
    """Render responses for one server; ``hub`` knows whether it drains."""

    def __init__(self, hub: Any, app: web.Application) -> None:
        self._hub = hub
        self._end = "" if hub.ids else "\r\n"  # of a head; an id may still come
        settings = hub._kwargs
        own = settings.get("access_log_class") is AccessLogger
        logs_headers = bool(settings.get("access_log")) and not own  # another may ask for them
        self._signals = any(one.on_response_prepare for one in tree(app))
        self._heads: dict[type, dict[int, bytes]] = {} if logs_headers else {JSON: {}, HTML: {}}
        self._ordinary: dict[type, bool] = {}
        self._ticking = False

    def render(self, request: Any, response: Any, *, raised: bool = False) -> bytes | None:
        """Return the bytes of ``response``, which count as sent, or None to leave it alone."""
        message = request._message
        if (
            message.should_close
            or message.version is not HttpVersion11
            or message.method == "HEAD"
            or self._hub.draining
            or self._signals
        ):
            return None
        kind = type(response)
        heads = self._heads.get(kind)
        if heads is None or response.__dict__ or response._status != 200:
            if not self._may_send(kind, raised):
                return None
            return self._render_any(response, request._id)
        try:
            body: bytes = response._render()
        except Exception:
            return None  # its prepare() answers for it
        response._eof_sent = response._keep_alive = True
        head = heads.get(len(body)) or self._head(kind, len(body))
        if request._id is None:
            return head + body
        return head + f"{HEADER}: {request._id}\r\n\r\n".encode() + body

    def _head(self, kind: Any, length: int) -> bytes:
        """Render a head, to be used until the second is over."""
        if not self._ticking:
            self._ticking = True
            self._hub._loop.call_later(1 - time.time() % 1, self._tick)
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind._media}\r\nContent-Length: {length}\r\n"
            f"Date: {rfc822_formatted_time()}\r\nServer: {SERVER_SOFTWARE}\r\n{self._end}"
        ).encode()
        if len(self._heads[kind]) < HEADS:
            self._heads[kind][length] = head
        return head

    def _tick(self) -> None:
        self._ticking = False
        for heads in self._heads.values():
            heads.clear()

    def _may_send(self, kind: type, raised: bool) -> bool:
        """Tell whether responses of a class are sent as web.Response sends them."""
        ordinary = self._ordinary.get(kind)
        if ordinary is None:
            same = (getattr(kind, name, 0) is getattr(web.Response, name) for name in SENDING)
            ordinary = self._ordinary[kind] = kind in (JSON, HTML) or all(same)
        return ordinary and (raised or not issubclass(kind, web.HTTPException))

    def _render_any(self, response: Any, identity: str | None) -> bytes | None:
        if (
            response.prepared
            or response._compression
            or response._chunked
            or response._keep_alive is not None
            or response._status < 200
            or response._status in EMPTY
        ):
            return None
        try:
            body = response._body or b""
            if type(body) is not bytes or not _complete(response, body):
                return None
            if identity is not None:
                response._headers.setdefault(HEADER, identity)
            status = f"HTTP/1.1 {response._status} {response._reason}"
            block: bytes = _serialize_headers(status, response._headers) + body
        except Exception:
            return None  # aiohttp will find the same fault
        response._eof_sent = response._keep_alive = True
        return block


def _complete(response: Any, body: bytes) -> bool:
    """Add the headers that aiohttp adds, in its order; False when there are some already."""
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
    headers.setdefault(hdrs.SERVER, SERVER_SOFTWARE)
    return True
