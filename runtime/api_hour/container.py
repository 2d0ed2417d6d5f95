"""What a project implements and the process manager calls; imports the standard library only."""

import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol


class Server(Protocol):
    """Speak one protocol on one listener inside a worker."""

    async def start(self, sock: socket.socket) -> None:
        """Accept on ``sock``, which the master keeps: close only what was accepted."""

    async def drain(self, deadline: float) -> None:
        """Stop accepting, tell the peers, finish; return by ``deadline`` (``loop.time()``)."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Hold what the process manager tells a server that has an attribute ``options``."""

    listener: str = ""
    fast: bool = True
    access_log: bool = False
    request_ids: bool = False
    metrics: bool = False
    trusted_proxies: tuple[str, ...] = ()  # networks, or "unix"
    tls: ssl.SSLContext | None = None
    max_connections: int = 0  # open at once; 0 is no limit
    drain_idle: float = 5.0  # seconds in which idle connections are still answered


class Container:
    """Wire an application: open its engines, name its servers, hold its configuration.

    ``config`` is an instance of ``settings`` when the class declares one, else a plain dict.
    """

    settings: ClassVar[type | None] = None

    def __init__(self, config: Any = None) -> None:
        self.config: Any = {} if config is None else config
        self.ready = False  # the worker's: true from accepting until the drain begins

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        """Open what the services need; it stays open while the daemon serves."""
        yield

    def servers(self) -> Mapping[str, Server]:
        """Return the server of each listener, by the listener's name; called after the engines."""
        return {}
