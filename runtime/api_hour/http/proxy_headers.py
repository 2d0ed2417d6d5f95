"""Proxy headers: who the client is and what it asked for, as trusted proxies report it.

A client can write these headers too. So they are read from the right, where the last proxy added
what it saw, and no further than the first address that is not a trusted proxy.

A proxy passes on as the client sent it what it does not write itself. So only the headers of the
setting ``proxy_headers`` are believed: by default neither ``-Host``, ``-Port`` nor ``-Prefix``,
which few proxies write. And one family of headers is believed for a request, and the other ignored:
``X-Forwarded-*`` if any of it is there, else ``Forwarded`` (RFC 7239).

========================== =================================================================
X-Forwarded-For            the addresses; without it X-Real-IP has the client's
X-Forwarded-Proto, -Host,  one value, or one for each proxy: then the value that the last
-Port, -Prefix             trusted proxy wrote, counted from the right as the addresses are
Forwarded                  ``for``, ``proto`` and ``host`` of the element that the last
                           trusted proxy wrote
========================== =================================================================
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from api_hour.http.request_checks import good_host
from api_hour.servers.networks import Networks, address

FORWARDED = "forwarded"
FORWARDED_FOR = "x-forwarded-for"
FORWARDED_HOST = "x-forwarded-host"
FORWARDED_PORT = "x-forwarded-port"
FORWARDED_PREFIX = "x-forwarded-prefix"
FORWARDED_PROTO = "x-forwarded-proto"
REAL_IP = "x-real-ip"
DEFAULT_PORTS = {"http": "80", "https": "443"}  # by scheme
PORT = re.compile(r"[0-9]{1,5}")
# Segments that are neither empty nor dots: "//" would name another host in a link.
PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~!$&'()*+;=:@%-]+)+")
# RFC 7239, section 4, but a value without quotes may also hold a colon and brackets.
PAIR = re.compile(
    r"""\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=
    (?: ([!#$%&'*+.^_`|~0-9A-Za-z:\[\]-]+) | "([^"\\]*+(?:\\.[^"\\]*+)*+)" )\s*(?:;|\Z)""",
    re.VERBOSE,
)
MARK = re.compile(r'\\++"?|[",]')  # with the backslashes before a quote


class Client(NamedTuple):
    """What is known of the client; None where no trusted proxy says it."""

    address: str | None
    scheme: str | None = None
    host: str | None = None  # perhaps with a port
    port: str | None = None
    prefix: str = ""  # of the paths that the client sees, without a slash at its end


class TrustedProxies:
    """The trusted proxies; raises ValueError for a text that is not a network.

    ``believed``: the headers that they write, in lower case.
    """

    def __init__(self, trusted: Sequence[str], believed: Sequence[str]) -> None:
        self._trusts = Networks(trusted).trusts
        self._x_forwarded = [name for name in believed if name != FORWARDED]
        self._forwarded = FORWARDED in believed

    def client(self, peer: str | None, headers: Any) -> Client:
        """Return what is known of the client behind ``peer``, which is itself unless trusted."""
        if not self._trusts(peer) or not headers:
            return Client(peer)
        if any(name in headers for name in self._x_forwarded):
            return self._by_x_forwarded(peer, headers)
        if self._forwarded and FORWARDED in headers:
            return self._by_forwarded(peer, headers)
        return Client(peer)

    def _by_x_forwarded(self, peer: str | None, headers: Any) -> Client:
        client, proxies = peer, 0
        hops = self._values(headers, FORWARDED_FOR) or self._values(headers, REAL_IP)[-1:]
        while self._trusts(client):
            proxies += 1  # and this one has written the last value that is not taken yet
            found = address(hops.pop()) if hops else None
            if found is None:
                break
            client = found

        def said(name: str) -> str:
            values = self._values(headers, name)
            return values[-min(proxies, len(values))].strip() if values else ""

        return Client(
            client,
            _scheme(said(FORWARDED_PROTO)),
            _host(said(FORWARDED_HOST)),
            said(FORWARDED_PORT) if PORT.fullmatch(said(FORWARDED_PORT)) else None,
            _prefix(said(FORWARDED_PREFIX)),
        )

    def _values(self, headers: Any, name: str) -> list[str]:
        """Return the values of a list, of all its lines; none of a header that is not believed."""
        there = name in self._x_forwarded and name in headers
        return ",".join(headers.getall(name)).split(",") if there else []

    def _by_forwarded(self, peer: str | None, headers: Any) -> Client:
        client, element = peer, dict[str, str]()
        elements = _from_the_right(",".join(headers.getall(FORWARDED)))
        while self._trusts(client):
            text = next(elements, None)
            element = element if text is None else _pairs(text)
            found = None if text is None else address(element.get("for", ""))
            if found is None:  # also of "unknown" and of "_hidden"
                break
            client = found
        return Client(client, _scheme(element.get("proto", "")), _host(element.get("host", "")))


def authority(host: str, port: str | None, scheme: str) -> str:
    """Return ``host`` with ``port``, unless it has one, or the port is the scheme's own."""
    if port is None or port == DEFAULT_PORTS.get(scheme) or re.search(r":[0-9]*\Z", host):
        return host
    return f"{host}:{port}"


def _scheme(value: str) -> str | None:
    scheme = value.lower()
    return scheme if scheme in DEFAULT_PORTS else None


def _host(value: str) -> str | None:
    return value if value and good_host(value) else None


def _prefix(value: str) -> str:
    prefix = value.rstrip("/")
    return prefix if PREFIX.fullmatch(prefix) else ""


def _from_the_right(text: str) -> Iterator[str]:
    """Yield the elements of Forwarded, the last one first.

    Quotes are matched from the right, too: an open one that a client sent on the left would hide
    the comma before the element of the proxy.
    """
    end, quoted = len(text), False
    for mark in reversed(list(MARK.finditer(text))):
        if mark[0].endswith('"'):
            quoted ^= len(mark[0]) % 2 == 1  # an even number of backslashes escapes only itself
        elif mark[0] == "," and not quoted:
            yield text[mark.end() : end]
            end = mark.start()
    yield text[:end]


def _pairs(element: str) -> dict[str, str]:
    """Return the pairs of an element by name, in lower case; none if it is malformed."""
    pairs, position = dict[str, str](), 0
    element = element.strip()
    while position < len(element):
        match = PAIR.match(element, position)
        if match is None or match[1].lower() in pairs:
            return {}
        position = match.end()
        quoted = re.sub(r"\\(.)", r"\1", match[3] or "")
        pairs[match[1].lower()] = match[2] or quoted
    return pairs
