"""The contract between a project and the process manager. Imports the standard library only."""

import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol


class Server(Protocol):
    """Speaks one protocol on one listener inside a worker.

    A server with an attribute ``options`` is given ``ServerOptions`` before it starts; one with an
    attribute ``requests`` is recycled after ``max_requests`` of them. One that has a method
    ``document()``, which returns the OpenAPI document of what it serves as JSON (bytes), or None,
    is asked for it by ``api_hour openapi``, once it has started.
    """

    async def start(self, sock: socket.socket) -> None:
        """Start accepting on ``sock``, a duplicate of the master's socket that the server owns.

        Called once more for each socket that the worker takes over from one that is gone.
        """

    async def drain(self, deadline: float) -> None:
        """Stop accepting, tell the peers, finish; return by ``deadline`` (of ``loop.time()``)."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What the process manager tells a server that has an attribute ``options``.

    The worker fills in each field: ``listener``, ``tls`` and ``access_log`` by itself, the others
    from the setting (``config/settings.py``) or the listener's option (``config/addresses.py``) of
    the same name.
    """

    listener: str = ""  # its name
    tls: ssl.SSLContext | None = None
    access_log: bool = False
    access_log_skip: Sequence[str] = ()  # paths; one that ends with "/": all below it
    fast: bool = True
    request_ids: bool = False
    metrics: bool = False
    trusted_proxies: Sequence[str] = ()  # networks, or "unix"
    proxy_headers: Sequence[str] = (  # those that are believed, in lower case
        *("x-forwarded-for", "x-forwarded-proto", "x-real-ip", "forwarded"),
    )
    hosts: tuple[str, ...] | None = None  # names by which it is asked; None means by any
    proxy_protocol: bool = False  # each connection begins with a header of a trusted proxy
    max_connections: int = 0  # open at once; 0 means no limit
    keepalive: float = 75.0  # seconds that an idle connection is kept
    header_timeout: float = 30.0  # seconds for a request's head; like the next, 0 means no limit
    body_timeout: float = 30.0  # seconds in which nothing of a request's body comes
    body_min_rate: int = 240  # bytes a second, on average, after body_timeout
    request_timeout: float = 0.0  # seconds for an endpoint's whole answer
    threads: int = 32  # for threaded endpoints
    send_timeout: float = 60.0  # seconds in which a peer reads nothing
    drain_idle: float = 5.0  # seconds for which idle connections are still answered in a drain


class Container:
    """An application: it opens engines, names servers and holds the configuration.

    ``config`` is an instance of ``settings`` if the class declares one, otherwise a plain dict.
    """

    settings: ClassVar[type | None] = None

    def __init__(self, config: Any = None) -> None:
        self.config: Any = {} if config is None else config
        self.ready = False  # set by the worker: true while it accepts and is not draining

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        """Open what the services need before the ``yield``, and close it after; it stays open
        while the daemon serves.
        """
        yield

    def servers(self) -> Mapping[str, Server]:
        """Return the server of each listener, by the listener's name; called after the engines."""
        return {}
