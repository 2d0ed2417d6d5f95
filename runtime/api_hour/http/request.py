"""The request: aiohttp's own, which knows proxies, request ids and the drain."""

import asyncio
import json
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, cast

from aiohttp import MultipartReader, hdrs, web
from aiohttp.helpers import reify
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError
from multidict import MultiDictProxy
from yarl import URL

from api_hour.http.compressed_body import CompressedBody
from api_hour.http.proxy_headers import Client, TrustedProxies, authority
from api_hour.logs import request_id

CLOSED = ("Connection closed.",)  # what aiohttp's RuntimeError says to who reads after the end
SERVER = "api_hour"  # the header of that name; versions would tell whom to attack, and how
MAX_CAUSES = 100  # of an error; "raise e from e" makes a circle of them
MAX_PREAMBLE = 100  # lines before the first part of a body; browsers send none
MAPPED = "::ffff:"  # before an IPv4 address


def forwarded_prefix(request: web.Request) -> str:
    """Return the part of the path that a trusted proxy has cut off, such as ``/app``; or ``""``.

    A link to a path of the application, as its client sees it, begins with this prefix.
    """
    known = isinstance(request, Request) and request._proxies
    return cast(Request, request)._client.prefix if known else ""


class Request(web.Request):
    """aiohttp's request; while the worker drains, its connection is not kept."""

    ATTRS = web.Request.ATTRS | {"_id", "_started"}
    _id: str | None = None
    _started: float | None = None
    _proxies: TrustedProxies | None = None  # set in the subclass of each server

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._started = monotonic()  # aiohttp reads uvloop's time(), which counts milliseconds
        if not self._rel_url.raw_path:  # "http://host" is "http://host/" (RFC 9110, 4.2.3)
            query = self._rel_url.raw_query_string
            self._rel_url = URL.build(path="/", query_string=query, encoded=True)

    @property
    def route_name(self) -> str:
        """Return the path of the route as the project wrote it, or an empty string."""
        # A router of the project's own finds what has no route.
        route = getattr(self._match_info, "route", None)
        resource = None if route is None else route.resource
        return "" if resource is None else resource.canonical

    @reify
    def remote(self) -> str | None:
        """Return the client's address, which is the peer's unless a trusted proxy names another."""
        return self._client.address if self._proxies else self._peer

    @reify
    def scheme(self) -> str:
        """Return ``https`` or ``http``, as the client used it."""
        forwarded = self._client.scheme if self._proxies else None
        return forwarded or ("https" if self._transport_sslcontext else "http")

    @reify
    def host(self) -> str:
        """Return the host, perhaps with a port, as the client asked for it."""
        host: str = super().host
        if not self._proxies:
            return host
        client = self._client
        return authority(client.host or host, client.port, self.scheme)

    @reify
    def _client(self) -> Client:
        if not self._protocol.client_named:  # type: ignore[attr-defined]
            return Client(self._peer)  # the peer is a proxy, but the headers are not its own
        return cast(TrustedProxies, self._proxies).client(self._peer, self.headers)

    @property
    def _peer(self) -> str | None:
        name = self._transport_peername
        peer = name and str(name[0] if isinstance(name, list | tuple) else name)
        # A listener of both IPv6 and IPv4 shows IPv4 addresses in this form.
        return peer[len(MAPPED) :] if peer and peer.startswith(MAPPED) and "." in peer else peer

    @property
    def keep_alive(self) -> bool:
        """Return whether the connection outlives this request."""
        return not (self._message.should_close or self._protocol.closing)  # type: ignore[attr-defined]

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        if response.headers.get(hdrs.SERVER) == SERVER_SOFTWARE:  # aiohttp's, or nobody's own
            response.headers[hdrs.SERVER] = SERVER
        if self._id is not None:
            response.headers.setdefault(request_id.HEADER, self._id)
        await super()._prepare_hook(response)
        self.protocol.begin_answer(self, response)  # type: ignore[attr-defined]

    async def read(self) -> bytes:
        """Return the body; without suspending if all of it has arrived."""
        body = self.read_nowait()
        return await super().read() if body is None else body

    def read_nowait(self) -> bytes | None:
        """Return the body; None if it has not all arrived, or must be inflated, or is too large."""
        if self._read_bytes is None:
            payload = self._payload
            if (
                not payload.is_eof()
                or type(payload) is CompressedBody
                or 0 < self._client_max_size < payload.total_bytes
            ):
                return None
            one_piece = len(getattr(payload, "_buffer", ())) == 1 and payload._exception is None
            take = payload._read_nowait_chunk if one_piece else payload.read_nowait
            self._read_bytes = take(-1)
        return self._read_bytes

    @property
    def path_variables(self) -> Mapping[str, str]:
        """Return the variables in the path; ``match_info`` has them, too, and costs more."""
        return self.match_info

    async def multipart(self) -> MultipartReader:
        """Return an iterator over the parts of the body."""
        reader = await super().multipart()
        reader.__class__ = _Parts  # of the same layout; it is made deep inside of aiohttp
        return reader

    async def post(self) -> "MultiDictProxy[str | bytes | bytearray | web.FileField]":
        """Return the fields of a form; raises HTTPBadRequest if the body is not one."""
        try:
            return await super().post()
        except (ValueError, LookupError, RuntimeError, HttpProcessingError) as error:
            if error.args == CLOSED:
                raise
            raise web.HTTPBadRequest(text="The body is not a form") from error

    async def json(self, *, loads: Callable[[str], Any] = json.loads) -> Any:
        """Return the body as JSON; a Content-Type without a charset is not parsed."""
        body, media = await self.read(), self._message.headers.get(hdrs.CONTENT_TYPE, "")
        named = "charset" in media.lower() and self.charset
        return loads(body.decode(named or "utf-8"))


class _Parts(MultipartReader):
    """The parts of a body; the loop goes on between them, because a small one takes long, too."""

    _before = 0  # lines before the first part

    async def _readline(self) -> bytes:
        if self._at_bof:
            self._before += 1
            if self._before > MAX_PREAMBLE:
                raise ValueError(f"no part begins within {MAX_PREAMBLE} lines")
        else:
            await asyncio.sleep(0)
        return await super()._readline()


def is_of_client(request: web.BaseRequest, error: BaseException) -> bool:
    """Return whether the client alone caused ``error``: by its body, or because it has left."""
    body = request._payload.exception()
    cause: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if cause is None:
            break
        if cause is body or isinstance(cause, RequestPayloadError):
            return True
        cause = cause.__cause__
    return has_left(request) and (isinstance(error, ConnectionError) or error.args == CLOSED)


def has_left(request: web.BaseRequest) -> bool:
    """Return whether nobody is left to be answered."""
    transport = request.transport
    return transport is None or transport.is_closing()


def body_error(error: BaseException) -> tuple[int, str]:
    """Return the status and the text of the answer to a body that failed."""
    if isinstance(error, TimeoutError):
        return 408, "Request Timeout"
    return 400, "Malformed body"
