"""Requests: aiohttp's, and one that makes its parts when they are asked for."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from aiohttp import web
from aiohttp.http import StreamWriter

from api_hour import request_id
from api_hour.routes import Found


class Request(web.Request):
    """Be aiohttp's request; while the worker drains, its connection is not kept."""

    ATTRS = web.Request.ATTRS | {"_id"}
    _id: str | None = None

    @property
    def route_name(self) -> str:
        """Return the path of the route as the project has written it, or nothing."""
        info = self._match_info  # a mapping, and often an empty one
        resource = None if info is None else info.route.resource
        return "" if resource is None else resource.canonical

    @property
    def keep_alive(self) -> bool:
        """Tell whether the connection outlives this request."""
        return not (self._message.should_close or self._protocol.draining)  # type: ignore[attr-defined]

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        if self._id is not None:
            response.headers.setdefault(request_id.HEADER, self._id)
        await super()._prepare_hook(response)

    async def read(self) -> bytes:
        """Return the body; at once when all of it is here."""
        payload = self._payload
        if self._read_bytes is None:
            if not payload.is_eof() or 0 < self._client_max_size < payload.total_bytes:
                return await super().read()
            self._read_bytes = payload.read_nowait()
        return self._read_bytes


class _Made:
    """Be an attribute that is made when it is first read."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.make = make

    def __set_name__(self, _owner: type, name: str) -> None:
        self.name = name

    def __get__(self, request: object, _owner: type) -> Any:
        value = self.make(request)
        setattr(request, self.name, value)
        return value


class FastRequest(Request):
    """Be a request of which most is made when it is asked for; FastHandler sets the rest."""

    ATTRS = Request.ATTRS | {"_connection", "_found"}
    _connection: Any
    _found: Found | None = None

    _headers = _Made(attrgetter("_message.headers"))
    _method = _Made(attrgetter("_message.method"))
    _version = _Made(attrgetter("_message.version"))
    _rel_url = _Made(attrgetter("_message.url"))
    _transport_sslcontext = _Made(attrgetter("_connection.ssl_context"))
    _transport_peername = _Made(attrgetter("_connection.peername"))
    _transport_sockname = _Made(attrgetter("_connection.sockname"))
    _state = _Made(lambda _: {})
    _match_info = _Made(lambda one: one._found and one._found[0].match_info(one._found[1]))
    _payload_writer = _Made(lambda one: StreamWriter(one._protocol, one._loop))

    @property
    def route_name(self) -> str:
        """Return the path of the route as the project has written it, or nothing."""
        return self._found[0].name if self._found else super().route_name

    @property
    def _protocol(self) -> Any:
        """Return the connection; who has it may write, so what is answered goes out first."""
        self._connection.flush()
        return self._connection

    @_protocol.setter
    def _protocol(self, connection: Any) -> None:
        self._connection = connection
