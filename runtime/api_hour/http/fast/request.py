"""The request of the fast path: its attributes are computed on first access."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Protocol

from aiohttp.http import StreamWriter

from api_hour.http.fast.route_table import Found
from api_hour.http.request import Request
from api_hour.http.responses import LazyAttribute


class Flushable(Protocol):
    """A connection that may hold answers back until the end of their batch."""

    def flush(self) -> bool:
        """Write them; return whether the peer is still there."""


class FastRequest(Request):
    """A request whose attributes are computed on first access.

    FastConnection creates it without calling ``__init__`` and sets ``_message``, ``_payload``,
    ``_connection``, ``_task``, ``_found`` and ``_cache``. What BaseRequest.__init__ would set
    beside them is lazy here. Middlewares and handlers mostly read two or three of them.
    """

    ATTRS = Request.ATTRS | {"_connection", "_found"}
    _connection: Flushable
    _found: Found | None = None

    _headers = LazyAttribute(attrgetter("_message.headers"))
    _method = LazyAttribute(attrgetter("_message.method"))
    _version = LazyAttribute(attrgetter("_message.version"))
    _rel_url = LazyAttribute(attrgetter("_message.url"))
    _transport_sslcontext = LazyAttribute(attrgetter("_connection.ssl_context"))
    _transport_peername = LazyAttribute(attrgetter("_connection.peername"))
    _transport_sockname = LazyAttribute(attrgetter("_connection.sockname"))
    _state = LazyAttribute(lambda _: {})
    _match_info = LazyAttribute(
        lambda request: request._found and request._found[0].match_info(request._found[1])
    )
    _payload_writer = LazyAttribute(lambda request: StreamWriter(request._protocol, request._loop))

    @property
    def route_name(self) -> str:
        """Return the path of the route as the project wrote it, or an empty string."""
        return self._found[0].name if self._found else super().route_name

    @property
    def path_variables(self) -> Mapping[str, str]:
        """Return the variables in the path, without ``match_info`` if nobody has asked for it."""
        return self._found[1] if self._found else self.match_info

    # Any, because mypy lets no settable property narrow the type of an attribute.
    @property
    def _protocol(self) -> Any:
        """Return the connection, after it has sent the answers that wait in its batch.

        Whoever asks for the protocol may write to the transport, and must not overtake them.
        """
        self._connection.flush()
        return self._connection

    @_protocol.setter
    def _protocol(self, connection: Any) -> None:
        self._connection = connection
