"""The addresses and the options of a listener, as the configuration gives them. Opens nothing.

To add an option of listeners, add a field to ``ListenerOptions``; if it is meant for the server,
also one of the same name to ``container.ServerOptions``. An option of one socket is a field of
``SocketOptions``. Either may stand in the YAML file or in the query of a URL.
"""

import grp
import os
import pwd
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from api_hour.exceptions import ConfigError

MAX_ADDRESSES = 32  # of one listener; the channel carries 64 descriptors at once
MAX_UNIX_PATH = 107  # bytes; Linux' sun_path without its NUL
NAME = r"(?a:[\w.-]+)"  # of a listener; it is sent to workers and successors, and read there
HOST_NAME = r"(?a:[\w.-]+)"
FORMS = "tcp://HOST:PORT, udp://HOST:PORT, unix:/PATH, unixgram:/PATH or fd://NUMBER"
HOSTED = ("tcp", "udp")
PATHS = ("unix", "unixgram")
DATAGRAM = ("udp", "unixgram")
EVERYWHERE = "*"  # a host: all addresses of the machine, of IPv6 only if it has that
SWITCH = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
TLS_VERSIONS = ("1.2", "1.3")

Reader = Callable[[Any], object]


class KeyPair(NamedTuple):
    """The paths of a PEM chain and of its key, which may be the same file."""

    certificate: str
    key: str = ""


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("text")
    return value


def _whole_number(value: Any) -> int:
    if isinstance(value, bool) or not str(value).isascii() or not str(value).isdigit():
        raise ValueError("a whole number")
    return int(value)


def _switch(value: Any) -> bool:
    switch = SWITCH.get(str(value).lower())
    if switch is None:
        raise ValueError("on or off")
    return switch


def _one_of(*known: str) -> Reader:
    def read(value: Any) -> str:
        if isinstance(value, bool) or str(value) not in known:
            raise ValueError(" or ".join(known))
        return str(value)

    return read


def _mode(value: Any) -> int:
    """Return a mode; only text, because YAML reads 0660 as 432 and 660 as itself."""
    try:
        mode = int(value, 8)
    except (TypeError, ValueError):
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ValueError("octal digits in quotes, as in '0660'")
    return mode


def _user(value: Any) -> int:
    try:
        return _number(value) if _number(value) >= 0 else pwd.getpwnam(value).pw_uid
    except (KeyError, TypeError, ValueError):
        raise ValueError("a user of this machine") from None


def _group(value: Any) -> int:
    try:
        return _number(value) if _number(value) >= 0 else grp.getgrnam(value).gr_gid
    except (KeyError, TypeError, ValueError):
        raise ValueError("a group of this machine") from None


def _number(value: Any) -> int:
    text = "" if isinstance(value, bool) else str(value)
    return int(text) if text.isascii() and text.isdigit() else -1


def _pairs(value: Any) -> tuple[KeyPair, ...]:
    try:
        return tuple(KeyPair(**{key: _text(path) for key, path in item.items()}) for item in value)
    except (AttributeError, TypeError, ValueError):
        raise ValueError("a list of mappings with certificate and key") from None


def _hosts(value: Any) -> tuple[str, ...]:
    """Return names in lower case; in a URL they are one text with commas."""
    names = value.split(",") if isinstance(value, str) and value else value or []
    if not isinstance(names, list) or not all(
        isinstance(name, str) and re.fullmatch(HOST_NAME, name) for name in names
    ):
        raise ValueError("a list of host names without ports")
    return tuple(name.lower().rstrip(".") for name in names)


BY_TYPE: dict[object, Reader] = {str: _text, int: _whole_number, bool: _switch}


def _option(default: object, reader: Reader) -> Any:
    return field(default=default, metadata={"read": reader})


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerOptions:
    """What may be said of a listener beside its URLs."""

    certificate: str = ""  # path of a PEM chain: the listener speaks TLS
    key: str = ""  # path of its key, if the certificate's file does not hold it
    certificates: tuple[KeyPair, ...] = _option((), _pairs)  # chosen by name; the first by default
    ca: str = ""  # path of the authorities of client certificates
    verify: str = _option("", _one_of("required", "optional"))  # client certificates
    tls_min: str = _option("", _one_of(*TLS_VERSIONS))
    ciphers: str = ""  # of TLS 1.2, as OpenSSL writes them
    hosts: tuple[str, ...] | None = _option(None, _hosts)  # beside localhost and IP addresses
    proxy_protocol: bool = False  # connections begin with HAProxy's PROXY protocol
    max_connections: int = 0  # open at once in one worker; 0 means no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketOptions:
    """What may be said of one address: the file of a unix socket, or an IPv6 socket."""

    mode: int | None = _option(None, _mode)
    user: int | None = _option(None, _user)
    group: int | None = _option(None, _group)
    ipv6only: bool = False


OPTIONS = {field.name: field for field in fields(ListenerOptions)}
SOCKET_OPTIONS = {field.name: field for field in fields(SocketOptions)}
OF_TLS = ("key", "ca", "verify", "tls_min", "ciphers")


@dataclass(frozen=True, slots=True)
class Address(SocketOptions):
    """One URL in parts, and the options of its socket."""

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
    def query(self) -> str:
        """Return the options of the socket as they stand in a URL."""
        given = {
            "mode": None if self.mode is None else f"{self.mode:04o}",
            "user": self.user,
            "group": self.group,
            "ipv6only": "on" if self.ipv6only else None,
        }
        shown = "&".join(f"{key}={value}" for key, value in given.items() if value is not None)
        return f"?{shown}" if shown else ""

    @property
    def kind(self) -> socket.SocketKind:
        """Return the socket's type."""
        return socket.SOCK_DGRAM if self.scheme in DATAGRAM else socket.SOCK_STREAM

    def takes(self, option: str) -> bool:
        """Tell whether an option of sockets has a meaning here."""
        if option == "ipv6only":
            return ":" in self.host
        return self.scheme in PATHS

    def completed(self, folder: str, mode: int, user: int | None, group: int | None) -> "Address":
        """Return the address with what it does not say itself of a unix socket's file.

        ``folder`` is where its path begins; symbolic links in it are kept.
        """
        if self.scheme not in PATHS:
            return self
        return replace(
            self,
            path=os.path.join(folder, self.path),
            mode=mode if self.mode is None else self.mode,
            user=user if self.user is None else self.user,
            group=group if self.group is None else self.group,
        )

    def anywhere(self) -> "Address":
        """Return a free port of this machine, which nobody else can reach, for the same kind."""
        scheme = "udp" if self.kind == socket.SOCK_DGRAM else "tcp"
        return Address(scheme, host="127.0.0.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings(ListenerOptions):
    """A listener: its name, its addresses and its options."""

    name: str
    addresses: tuple[Address, ...]
    origin: str = ""  # who named the addresses, if that may surprise an operator

    @property
    def options(self) -> list[str]:
        """Return the names of the options that are given."""
        return [key for key, option in OPTIONS.items() if getattr(self, key) != option.default]

    @property
    def key_pairs(self) -> tuple[KeyPair, ...]:
        """Return the paths of every certificate and key, the default first; none without TLS."""
        first = (KeyPair(self.certificate, self.key),) if self.certificate else ()
        return first + self.certificates

    def anywhere(self) -> "ListenerSettings":
        """Return a similar listener whose addresses cannot be in use."""
        return replace(self, addresses=tuple(address.anywhere() for address in self.addresses))


def read(name: str, given: object, like: ListenerSettings | None = None) -> ListenerSettings:
    """Return the listener of a URL, of a list of them, or of a mapping with ``url`` and options.

    Options that are not given are those of ``like``. Raises ConfigError.
    """
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise ConfigError(
            f"listener {name!r}: a name must be text of letters, digits, dots, hyphens and "
            "underscores, in quotes if it is a number"
        )
    options = dict(given) if isinstance(given, Mapping) else {"url": given}
    urls = options.pop("url", None)
    urls = [urls] if isinstance(urls, str) else urls
    if not (isinstance(urls, list) and urls and all(isinstance(url, str) for url in urls)):
        raise ConfigError(
            f"listener {name} must be a URL, a list of URLs, or a mapping with a url; got {given!r}"
        )
    shared = _read_options(name, list(options.items()))
    of_listener = {key: value for key, value in shared.items() if key in OPTIONS}
    of_sockets = {key: value for key, value in shared.items() if key in SOCKET_OPTIONS}
    addresses = []
    for url in urls:
        address, own = _read_url(name, url)
        of_listener |= _agreeing(name, of_listener, own)
        kept = of_sockets if like is None else _of_socket(like.addresses[0]) | of_sockets
        fitting = {key: value for key, value in kept.items() if address.takes(key)}
        addresses.append(replace(address, **fitting | _of_this_socket(name, address, own)))
    for key in of_sockets:
        if not any(address.takes(key) for address in addresses):
            raise ConfigError(_misplaced(name, key))
    defaults = {} if like is None else {key: getattr(like, key) for key in OPTIONS}
    listener = ListenerSettings(name=name, addresses=tuple(addresses), **defaults | of_listener)
    _check(listener)
    return listener


def _read_url(name: str, url: str) -> tuple[Address, dict[str, Any]]:
    """Return the address, and the options of the query."""
    base, _, query = url.partition("?")
    try:
        given = parse_qsl(
            query.replace("+", "%2B"), keep_blank_values=True, strict_parsing=bool(query)
        )
    except ValueError:
        raise ConfigError(
            f"listener {name}: {url!r}: write options as in {base}?mode=0660&group=www-data"
        ) from None
    return _parse(name, base), _read_options(name, given)


def _read_options(name: str, given: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    known = OPTIONS | SOCKET_OPTIONS
    values: dict[str, Any] = {}
    for key, value in given:
        if key not in known:
            raise ConfigError(
                f"listener {name}: {key} is not an option (known: url, {', '.join(known)})"
            )
        if key in values:
            raise ConfigError(f"listener {name}: {key} is given twice: remove one")
        reader = known[key].metadata.get("read") or BY_TYPE[known[key].type]
        try:
            values[key] = reader(value)
        except ValueError as error:
            raise ConfigError(f"listener {name}: {key} must be {error}, got {value!r}") from None
    return values


def _agreeing(name: str, before: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return the listener's options of one URL; they hold for all its addresses."""
    ours = {key: value for key, value in own.items() if key in OPTIONS}
    for key, value in ours.items():
        if before.get(key, value) != value:
            raise ConfigError(
                f"listener {name}: {key} is {before[key]!r} and {value!r}: the addresses of a "
                "listener share it; make two listeners"
            )
    return ours


def _of_this_socket(name: str, address: Address, own: dict[str, Any]) -> dict[str, Any]:
    options = {key: value for key, value in own.items() if key in SOCKET_OPTIONS}
    for key in options:
        if not address.takes(key):
            raise ConfigError(_misplaced(name, key))
    return options


def _of_socket(address: Address) -> dict[str, Any]:
    return {key: getattr(address, key) for key in SOCKET_OPTIONS}


def _misplaced(name: str, key: str) -> str:
    where = "an IPv6 address" if key == "ipv6only" else "a unix socket"
    return f"listener {name}: {key} belongs to {where}: remove it"


def _check(listener: ListenerSettings) -> None:
    """Raise ConfigError for what cannot be meant together."""
    name, addresses = listener.name, listener.addresses
    if len(addresses) > MAX_ADDRESSES:
        raise ConfigError(f"listener {name} has more than {MAX_ADDRESSES} addresses: make two")
    kinds = {address.kind for address in addresses if address.scheme != "fd"}
    if len(kinds) > 1:
        raise ConfigError(
            f"listener {name} has addresses of streams and of datagrams: make two listeners"
        )
    if listener.certificate and listener.certificates:
        raise ConfigError(
            f"listener {name}: certificate is given beside certificates: make it the first of them"
        )
    for key in () if listener.key_pairs else OF_TLS:
        if getattr(listener, key):
            raise ConfigError(f"listener {name}: {key} needs a certificate: add one, or remove it")
    for key in listener.options if kinds == {socket.SOCK_DGRAM} else ():
        raise ConfigError(f"listener {name}: {key} belongs to connections: remove it")
    if bool(listener.ca) < bool(listener.verify):
        raise ConfigError(
            f"listener {name}: verify needs the authorities of client certificates: add ca"
        )


def _parse(name: str, url: str) -> Address:
    """Return the address of a URL without a query; raises ConfigError, which names the forms."""
    scheme, _, rest = url.partition(":")
    if scheme in PATHS:
        return Address(scheme, path=_path(name, url, rest))
    try:
        parts = urlsplit(url.replace("%25", "%"))  # a zone as RFC 6874 writes it
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"listener {name}: {url!r}: {error}; write {FORMS}") from None
    if scheme == "fd" and host and host.isascii() and host.isdigit() and url == f"fd://{host}":
        return Address(scheme, fd=int(host))
    # urlsplit drops tabs and line ends.
    extra = parts.path or parts.fragment or "@" in url or not url.isprintable()
    if scheme not in HOSTED or not host or port is None or extra:
        raise ConfigError(f"listener {name}: {url!r} is not an address; write {FORMS}")
    return Address(scheme, host=host, port=port)


def _path(name: str, url: str, rest: str) -> str:
    path = rest[2:] if rest.startswith("//") else rest
    if not path or path.startswith("@"):  # a name of the abstract namespace has no owner or mode
        raise ConfigError(f"listener {name}: {url!r} names no path; write unix:/PATH")
    path = os.path.normpath(path)
    if len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise ConfigError(
            f"listener {name}: the path {path!r} is longer than {MAX_UNIX_PATH} bytes, "
            "the limit of the system; choose a shorter one"
        )
    return path
