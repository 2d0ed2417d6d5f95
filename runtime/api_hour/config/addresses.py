"""The address and the options of a listener, as the configuration gives them. Opens nothing.

To add an option of listeners, add a field to ``ListenerOptions``; if it is meant for the server,
also one of the same name to ``container.ServerOptions``.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from urllib.parse import urlsplit

from api_hour.exceptions import ConfigError

MAX_UNIX_PATH = 107  # bytes; Linux' sun_path without its NUL
FORMS = "tcp://HOST:PORT, udp://HOST:PORT, unix:/PATH, unixgram:/PATH or fd://NUMBER"
HOSTED = ("tcp", "udp")
DATAGRAM = ("udp", "unixgram")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerOptions:
    """What the YAML file may say of a listener beside its URL."""

    certificate: str = ""  # path of a PEM chain: the listener speaks TLS
    key: str = ""  # path of its key, if the certificate's file does not hold it
    proxy_protocol: bool = False  # connections begin with HAProxy's PROXY protocol
    max_connections: int = 0  # open at once in one worker; 0 means no limit


OPTIONS = {field.name: field.type for field in fields(ListenerOptions)}


@dataclass(frozen=True, slots=True)
class Address(ListenerOptions):
    """One listener's URL in parts, and its options."""

    name: str
    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1

    def __str__(self) -> str:
        if self.scheme == "fd":
            return f"fd://{self.fd}"
        if self.path:
            return f"{self.scheme}:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def kind(self) -> socket.SocketKind:
        """Return the socket's type."""
        return socket.SOCK_DGRAM if self.scheme in DATAGRAM else socket.SOCK_STREAM

    def anywhere(self) -> "Address":
        """Return a similar address that cannot be in use: a free port, or a path of its own."""
        if self.scheme == "fd":
            return replace(self, scheme="tcp", host="127.0.0.1", fd=-1)
        return replace(self, path=f"{self.path}.{os.getpid()}" if self.path else "", port=0)

    @classmethod
    def read(cls, name: str, given: object) -> "Address":
        """Return the address of a URL, or of a mapping with ``url`` and options.

        Raises ConfigError.
        """
        if isinstance(given, str):
            return cls.parse(name, given)
        if not isinstance(given, Mapping) or not isinstance(given.get("url"), str):
            raise ConfigError(
                f"listener {name} must be a URL, or a mapping with a url; got {given!r}"
            )
        options = {key: value for key, value in given.items() if key != "url"}
        for key, value in options.items():
            if type(value) is not OPTIONS.get(key):
                raise ConfigError(_bad_option(name, key, value))
        return replace(cls._parse(name, given["url"]), **options)

    @classmethod
    def parse(cls, name: str, url: str, like: "Address | None" = None) -> "Address":
        """Return the address of ``url`` with the options of ``like``.

        Raises ConfigError, which names the forms that are allowed.
        """
        options = {} if like is None else {key: getattr(like, key) for key in OPTIONS}
        return replace(cls._parse(name, url), **options)

    @classmethod
    def _parse(cls, name: str, url: str) -> "Address":
        scheme, _, rest = url.partition(":")
        if scheme in ("unix", "unixgram"):
            return cls(name, scheme, path=_path(name, url, rest))
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigError(f"listener {name}: {url!r}: {error}; write {FORMS}") from None
        if scheme == "fd" and host and host.isascii() and host.isdigit() and url == f"fd://{host}":
            return cls(name, scheme, fd=int(host))
        extra = parts.path or parts.query or parts.fragment or parts.username
        if scheme not in HOSTED or not host or port is None or extra:
            raise ConfigError(f"listener {name}: {url!r} is not an address; write {FORMS}")
        return cls(name, scheme, host=host, port=port)


def _path(name: str, url: str, rest: str) -> str:
    path = rest[2:] if rest.startswith("//") else rest
    if not path:
        raise ConfigError(f"listener {name}: {url!r} names no path; write unix:/PATH")
    path = str(Path(path).absolute())
    if len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise ConfigError(
            f"listener {name}: the path {path!r} is longer than {MAX_UNIX_PATH} bytes, "
            "the limit of the system; choose a shorter one"
        )
    return path


def _bad_option(name: str, key: str, value: object) -> str:
    if key in OPTIONS:
        kind = "a whole number" if OPTIONS[key] is int else "text"
        return f"listener {name}: {key} must be {kind}, got {value!r}"
    return f"listener {name}: {key} is not an option (known: url, {', '.join(OPTIONS)})"
