"""A worker that is asked for its application's document, and serves nobody.

``api_hour openapi`` boots it as ``--check`` boots one. Its stdout may hold what the project prints,
so the document takes a file that was open before the fork.
"""

import asyncio
from collections.abc import Mapping
from typing import IO, ClassVar

from api_hour.container import Server
from api_hour.exceptions import ConfigError
from api_hour.worker.process import Worker


class DocumentWorker(Worker):
    """Writes the document of one of its servers into ``file``, then is ready."""

    file: ClassVar[IO[bytes]]
    listener: ClassVar[str | None] = None  # whose server is asked; None if only one can answer

    def checked(self) -> None:
        """Print nothing: whoever asked for the document prints it."""

    def _become_ready(self, loop: asyncio.AbstractEventLoop) -> None:
        self.file.write(find(self._servers, self.listener, self.generation.spec))
        self.file.flush()
        super()._become_ready(loop)


def find(servers: Mapping[str, Server], listener: str | None, spec: str) -> bytes:
    """Return the one document of ``servers``, or that of the server of ``listener``.

    Raises ConfigError if there is none or more than one, or if ``listener`` names no server.
    """
    if listener is not None and listener not in servers:
        raise ConfigError(
            f"--listener {listener} names no server of {spec}; there is {_listed(servers)}"
        )
    asked = servers if listener is None else {listener: servers[listener]}
    found = {
        name: document for name, server in asked.items() if (document := _of(name, server, spec))
    }
    if len(found) > 1:
        raise ConfigError(
            f"the servers {_listed(found)} of {spec} have a document each: "
            f"choose one with --listener {next(iter(found))}"
        )
    if not found:
        raise ConfigError(
            f"no server of {spec} has a document ({_listed(asked)} was asked): "
            "make an api_hour.API for its application"
        )
    return next(iter(found.values()))


def _of(name: str, server: Server, spec: str) -> bytes | None:
    """Return the document of a server, which need not have one."""
    if not hasattr(server, "document"):
        return None
    document: object = server.document()
    if document is None or isinstance(document, bytes):
        return document
    raise ConfigError(
        f"document() of the server {name} of {spec} must return JSON as bytes, or None; "
        f"got {document!r:.60}"
    )


def _listed(servers: Mapping[str, object]) -> str:
    return ", ".join(servers) or "none"
