"""The PROXY protocol, versions 1 and 2: a header before everything else, which names the client.

The specification is HAProxy's: https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt.
Whoever may send this header may claim to be anybody. So only trusted proxies are listened to, and
all of their connections must begin with it; what is not one is refused, not guessed at.

No byte beyond the header is read: what follows belongs to TLS or to the protocol. A header is
bounded in bytes, and in time by the acceptor.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple
from urllib.parse import quote

from api_hour.container import ServerOptions
from api_hour.exceptions import ConfigError
from api_hour.servers.networks import Networks, address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"  # of version 2; the shortest header of version 1 is longer
MAX_LINE = 107  # bytes of version 1, by the specification
MAX_ADDRESSES = 4096  # bytes of version 2's addresses and extensions, of which none is used
HEAD = struct.Struct("!BBH")  # version and command, family and transport, length
VERSION = 2
LOCAL, PROXY = 0, 1  # commands: the proxy speaks for itself, or for a client
TCP4, TCP6, STREAM = 0x11, 0x21, 0x31  # families; addresses of any other are not used
IPV4 = struct.Struct("!4s4sHH")
IPV6 = struct.Struct("!16s16sHH")
UNIX = struct.Struct("!108s108s")
MAX_PORT = 65535


class ProxyProtocolError(ConnectionError):
    """What came is not a header of the PROXY protocol, or not from a trusted proxy."""


class Addresses(NamedTuple):
    """The client's address and the one it connected to, as sockets show them."""

    peer: Any
    local: Any


def trusted(options: ServerOptions) -> Networks | None:
    """Return the proxies of a listener that speaks the PROXY protocol, None for any other.

    Raises ConfigError if it does, and no proxy is trusted.
    """
    if not options.proxy_protocol:
        return None
    if not options.trusted_proxies:
        raise ConfigError(
            f"listener {options.listener} speaks the PROXY protocol, but no proxy is trusted: "
            "name their networks in trusted_proxies, as in [10.0.0.0/8]"
        )
    return Networks(options.trusted_proxies)


async def read(sock: socket.socket) -> Addresses | None:
    """Return the addresses that a new connection's header names, None if it names none.

    Raises ProxyProtocolError for anything that is not a header.
    """
    start = await _read(sock, len(SIGNATURE))
    if start == SIGNATURE:
        return await _read_version_2(sock)
    if start.startswith(b"PROXY "):
        return _version_1(await _read_line(sock, start))
    raise ProxyProtocolError(f"no PROXY header: {start!r}")


async def _read_line(sock: socket.socket, line: bytes) -> bytes:
    while b"\n" not in line:
        arrived = b""
        with suppress(BlockingIOError):
            arrived = sock.recv(MAX_LINE - len(line), socket.MSG_PEEK)
        line += await _read(sock, arrived.find(b"\n") + 1 or len(arrived) or 1)
        if len(line) >= MAX_LINE and b"\n" not in line:
            raise ProxyProtocolError("a PROXY header without an end")
    return line


def _version_1(line: bytes) -> Addresses | None:
    if not line.endswith(b"\r\n"):
        raise ProxyProtocolError(f"not a PROXY header: {line!r}")
    words = line[:-2].split(b" ")
    if words[1] == b"UNKNOWN":
        return None
    try:
        _, family, *hosts, peer_port, local_port = (word.decode("ascii") for word in words)
        kind = {"TCP4": IPv4Address, "TCP6": IPv6Address}[family]
        peer, local = (str(kind(host)) for host in hosts)
        return _addresses(peer, local, _port(peer_port), _port(local_port))
    except (KeyError, ValueError):
        raise ProxyProtocolError(f"not a PROXY header: {line!r}") from None


def _port(text: str) -> int:
    port = int(text)
    if not (text.isdigit() and 0 <= port <= MAX_PORT):
        raise ValueError(text)
    return port


async def _read_version_2(sock: socket.socket) -> Addresses | None:
    version_command, family, length = HEAD.unpack(await _read(sock, HEAD.size))
    version, command = version_command >> 4, version_command & 0xF
    if version != VERSION or command not in (LOCAL, PROXY) or length > MAX_ADDRESSES:
        raise ProxyProtocolError(f"not a PROXY header: {version=}, {command=}, {length=}")
    data = await _read(sock, length)
    if command == LOCAL:
        return None
    try:
        return _version_2(family, data)
    except struct.error:
        raise ProxyProtocolError(f"a PROXY header with too few bytes: {length=}") from None


def _version_2(family: int, data: bytes) -> Addresses | None:
    if family == TCP4:
        peer, local, *ports = IPV4.unpack_from(data)
        return _addresses(str(IPv4Address(peer)), str(IPv4Address(local)), *ports)
    if family == TCP6:
        peer, local, *ports = IPV6.unpack_from(data)
        return _addresses(str(IPv6Address(peer)), str(IPv6Address(local)), *ports)
    if family == STREAM:
        # Escaped as in a URL: the client has chosen its path, and a log shows it between others.
        return Addresses(*(quote(path.rstrip(b"\0")) for path in UNIX.unpack_from(data)))
    return None


def _addresses(peer: str, local: str, peer_port: int, local_port: int) -> Addresses:
    more = (0, 0) if ":" in peer else ()  # IPv6: flow and scope
    # Python before 3.13 writes an IPv4 address that IPv6 maps in hexadecimal digits.
    hosts = [address(host) or host for host in (peer, local)]
    return Addresses((hosts[0], peer_port, *more), (hosts[1], local_port, *more))


async def _read(sock: socket.socket, size: int) -> bytes:
    """Return the next ``size`` bytes, and read no more."""
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < size:
        piece = await loop.sock_recv(sock, size - len(data))
        if not piece:
            raise ProxyProtocolError("the connection ended within its PROXY header")
        data += piece
    return data


class ProxiedTransport:
    """A transport whose addresses are those of a PROXY header."""

    def __init__(self, transport: asyncio.BaseTransport, addresses: Addresses) -> None:
        self._transport = transport
        self._addresses = {"peername": addresses.peer, "sockname": addresses.local}

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection, and of the client instead of the proxy."""
        if name in self._addresses:
            return self._addresses[name]
        return self._transport.get_extra_info(name, default)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
