"""Proxies: who may say for whom it asks. Knows addresses, and of HTTP two headers only.

A client can write these headers, too. So they are read from the right, where the last proxy has
added whom it saw, and no further than the first address that is no trusted proxy's.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

FORWARDED_FOR = "X-Forwarded-For"
FORWARDED_PROTO = "X-Forwarded-Proto"
UNIX = "unix"  # in the place of a network: whoever may open a unix socket
SCHEMES = {"http", "https"}


class Proxies:
    """Hold the networks of the trusted proxies; raise ValueError for what is none."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._networks = [ip_network(one) for one in trusted if one != UNIX]
        self._unix = UNIX in trusted
        self._trusts = lru_cache(1024)(self._is_trusted)

    def client(self, peer: str | None, headers: Any) -> str | None:
        """Return the address for which ``peer`` asks, its own when nobody is to be believed."""
        address = peer
        hops = ",".join(headers.getall(FORWARDED_FOR, ())).split(",")
        while self._trusts(address) and hops:
            said = _address(hops.pop())
            if said is None:
                break
            address = said
        return address

    def scheme(self, peer: str | None, headers: Mapping[str, str]) -> str | None:
        """Return the scheme that ``peer`` was asked by, None when it is not to be believed."""
        said = headers.get(FORWARDED_PROTO, "").lower()
        return said if said in SCHEMES and self._trusts(peer) else None

    def _is_trusted(self, address: str | None) -> bool:
        if not address or address.startswith(("/", "\0")):  # the peer of a unix socket has no name
            return self._unix
        found = _address(address)
        return found is not None and any(ip_address(found) in one for one in self._networks)


def _address(text: str) -> str | None:
    """Return an address without its port, None for anything else."""
    text = text.strip()
    host, _, port = text.rpartition(":")
    for one in (text, host.strip("[]") if port.isdigit() else "", text.strip("[]")):
        try:
            return str(ip_address(one))
        except ValueError:
            continue
    return None
