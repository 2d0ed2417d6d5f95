"""Networks of peers that are trusted, and addresses in every notation of sockets and headers."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

UNIX = "unix"  # instead of a network: whoever may open a unix socket
MAPPED_BITS = 96  # of an IPv6 address, before the IPv4 address that it maps


class Networks:
    """Some networks; raises ValueError for a text that is neither a network nor ``unix``."""

    def __init__(self, names: Sequence[str]) -> None:
        self._networks = [_network(name) for name in names if name != UNIX]
        self._unix = UNIX in names
        self.trusts = lru_cache(1024)(self._holds)

    def _holds(self, peer: str | None) -> bool:
        """Return whether a peer's address is in one of the networks."""
        if not peer or peer.startswith(("/", "\0")):  # a unix socket's peer has no address
            return self._unix
        found = address(peer)
        return found is not None and any(ip_address(found) in network for network in self._networks)


def address(text: str) -> str | None:
    """Return an IP address in its usual form, without a port; None for anything else.

    Takes brackets, quotes, a port and a zone, which may be any text and is left out. An IPv4
    address that is mapped into IPv6, as sockets of both show it, becomes the IPv4 address.
    """
    text = text.strip().strip('"')
    host, _, port = text.rpartition(":")
    for candidate in (text, host.strip("[]") if port.isdigit() else "", text.strip("[]")):
        try:
            found = ip_address(candidate)
        except ValueError:
            continue
        mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
        return str(mapped or found).partition("%")[0]
    return None


def _network(name: str) -> IPv4Network | IPv6Network:
    network = ip_network(name)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < MAPPED_BITS:
        return network
    return IPv4Network((mapped, network.prefixlen - MAPPED_BITS))
