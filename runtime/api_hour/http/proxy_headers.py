"""Proxy headers: the client's address and scheme, as a trusted proxy reports them.

A client can write these headers too. So they are read from the right, where the last proxy added
the address it saw, and no further than the first address that is not a trusted proxy.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

FORWARDED_FOR = "X-Forwarded-For"
FORWARDED_PROTO = "X-Forwarded-Proto"
UNIX = "unix"  # instead of a network: whoever may open a unix socket
SCHEMES = {"http", "https"}


class TrustedProxies:
    """The networks of the trusted proxies; raises ValueError for a text that is not a network."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._networks = [ip_network(network) for network in trusted if network != UNIX]
        self._unix = UNIX in trusted
        self._trusts = lru_cache(1024)(self._is_trusted)

    def client(self, peer: str | None, headers: Any) -> str | None:
        """Return the address of the client behind ``peer``: its own unless it is trusted."""
        address = peer
        hops = ",".join(headers.getall(FORWARDED_FOR, ())).split(",")
        while self._trusts(address) and hops:
            forwarded = _address(hops.pop())
            if forwarded is None:
                break
            address = forwarded
        return address

    def scheme(self, peer: str | None, headers: Mapping[str, str]) -> str | None:
        """Return the scheme that the client used towards ``peer``; None unless it is trusted."""
        forwarded = headers.get(FORWARDED_PROTO, "").lower()
        return forwarded if forwarded in SCHEMES and self._trusts(peer) else None

    def _is_trusted(self, address: str | None) -> bool:
        if not address or address.startswith(("/", "\0")):  # a unix socket's peer has no address
            return self._unix
        found = _address(address)
        return found is not None and any(ip_address(found) in network for network in self._networks)


def _address(text: str) -> str | None:
    """Return an address without its port; None for anything else."""
    text = text.strip()
    host, _, port = text.rpartition(":")
    for candidate in (text, host.strip("[]") if port.isdigit() else "", text.strip("[]")):
        try:
            return str(ip_address(candidate))
        except ValueError:
            continue
    return None
