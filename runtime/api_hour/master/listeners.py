"""Listeners: named sockets that the master opens and keeps. Knows neither protocols nor workers.

A socket is inherited from a predecessor (USR2) or from systemd, or opened here. Whoever made the
file of a unix socket removes it in the end: its ``owner`` is "ours" or "theirs".
"""

import errno
import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from api_hour.config.addresses import Address
from api_hour.exceptions import ConfigError
from api_hour.master import systemd

HANDED_OVER = "API_HOUR_FDS"  # in the environment of a successor: http=7=ours,admin=8=theirs
# In the environment, of a Makefile, say: how its user chooses another address.
OTHER_ADDRESS = "API_HOUR_OTHER_ADDRESS"
Inherited = tuple[list[socket.socket], bool]  # the sockets, and whether their files are ours


class Listener:
    """The sockets of one address: one for all workers, or a slot for each of them."""

    def __init__(self, address: Address, sockets: list[socket.socket], backlog: int) -> None:
        self.address = address
        self.name = address.name
        self.backlog = backlog
        self.slots = sockets
        self.owner = "ours"  # whose the file of a unix socket is
        for sock in sockets:
            sock.setblocking(False)
        self.listen()

    def __str__(self) -> str:
        where = self.sock.getsockname()
        scheme = self.address.scheme
        if self.sock.family == socket.AF_UNIX:
            return f"{'unixgram' if self.is_datagram else 'unix'}:{where}"
        if scheme == "fd":
            scheme = "udp" if self.is_datagram else "tcp"
        return str(Address(self.name, scheme, host=where[0], port=where[1]))

    @property
    def sock(self) -> socket.socket:
        """Return the first socket, the only one unless there are slots."""
        return self.slots[0]

    @property
    def is_datagram(self) -> bool:
        """Tell whether the socket carries datagrams instead of connections."""
        return self.sock.type == socket.SOCK_DGRAM

    def fileno(self) -> int:
        """Return the descriptor of the first socket."""
        return self.sock.fileno()

    def grow(self, slot: int) -> None:
        """Open sockets up to ``slot`` if the kernel lets several of them share the address."""
        while self.has_slots and len(self.slots) <= slot:
            host, port = self.sock.getsockname()[:2]
            sock = _bind_host(replace(self.address, host=host, port=port), share=True)
            sock.setblocking(False)
            self.slots.append(sock)
            self.listen()

    @property
    def has_slots(self) -> bool:
        """Tell whether the kernel spreads the address over several sockets."""
        hosted = self.sock.family != socket.AF_UNIX
        return hosted and bool(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))

    def of_slot(self, slot: int) -> socket.socket:
        """Return the socket of a worker's slot."""
        return self.slots[slot % len(self.slots)]

    def listen(self) -> None:
        """Listen with the backlog; again in a worker, where asyncio has set its own default."""
        for sock in self.slots:
            if not self.is_datagram:
                sock.listen(self.backlog)

    def close(self, *, unlink: bool = False) -> None:
        """Close this process's ends; with ``unlink`` also remove the file of a unix socket."""
        for sock in self.slots:
            sock.close()
        if unlink and self.owner == "ours" and self.address.path:
            with suppress(FileNotFoundError):
                os.unlink(self.address.path)


def open_all(addresses: Mapping[str, Address], backlog: int, *, slots: int = 0) -> list[Listener]:
    """Take over inherited sockets and open the others; raises ConfigError, and then keeps none.

    With ``slots`` every tcp and udp address gets that many sockets, over which the kernel spreads
    connections and datagrams.
    """
    given = _inherited(addresses)
    opened: list[Listener] = []
    try:
        for name, address in addresses.items():
            sockets, ours = given.get(name) or ([_open(address, share=slots > 0)], True)
            if sockets[0].type != address.kind and address.scheme != "fd":
                raise ConfigError(f"listener {name}: the inherited socket is not {address.scheme}")
            opened.append(Listener(address, sockets, backlog))
            opened[-1].owner = "ours" if ours else "theirs"
            opened[-1].grow(slots - 1)
    except ConfigError:
        for listener in opened:
            listener.close(unlink=True)
        raise
    return opened


def hand_over(listeners: list[Listener]) -> dict[str, str]:
    """Make the sockets inheritable; return the variables that tell the successor of them."""
    items = [
        (listener.name, sock, listener.owner) for listener in listeners for sock in listener.slots
    ]
    for _, sock, _ in items:
        sock.set_inheritable(True)
    return {HANDED_OVER: ",".join(f"{name}={sock.fileno()}={owner}" for name, sock, owner in items)}


def _inherited(addresses: Mapping[str, Address]) -> dict[str, Inherited]:
    """Return the sockets of a predecessor and of systemd, by listener name."""
    items = [item.split("=") for item in os.environ.pop(HANDED_OVER, "").split(",") if item]
    given = [(name, int(fd), owner == "ours") for name, fd, owner in items]
    given += [(name, fd, False) for name, fd in systemd.activated()]
    if len(given) == len(addresses) == 1:
        # One socket for one listener needs no name: systemd's default is that of the unit.
        given = [(next(iter(addresses)), *given[0][1:])]
    strangers = [name for name, _, _ in given if name not in addresses]
    if strangers:
        raise ConfigError(
            f"inherited socket {strangers[0]!r} is not a listener (known: {', '.join(addresses)}): "
            "set FileDescriptorName= in the .socket unit to a listener's name"
        )
    sockets: dict[str, Inherited] = {}
    for name, fd, ours in given:
        os.set_inheritable(fd, False)
        sockets.setdefault(name, ([], ours))[0].append(socket.socket(fileno=fd))
    return sockets


def _open(address: Address, *, share: bool) -> socket.socket:
    try:
        if address.scheme == "fd":
            return socket.socket(fileno=os.dup(address.fd))
        return _bind_path(address) if address.path else _bind_host(address, share=share)
    except socket.gaierror as error:
        raise ConfigError(
            f"listener {address.name}: cannot find the host of {address}: {error.strerror}"
        ) from None
    except OSError as error:
        raise ConfigError(f"listener {address.name}: {_explain(address, error)}") from None


def _bind_host(address: Address, *, share: bool) -> socket.socket:
    family, kind, proto, _, where = socket.getaddrinfo(
        address.host, address.port, type=address.kind, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, proto)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_path(address: Address) -> socket.socket:
    _remove_stale(address)
    sock = socket.socket(socket.AF_UNIX, address.kind)
    try:
        sock.bind(address.path)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_stale(address: Address) -> None:
    """Remove the file of a socket that nobody reads, as a killed master leaves it behind."""
    try:
        is_socket = stat.S_ISSOCK(os.stat(address.path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise OSError(errno.EEXIST, "exists and is not a socket")
    with socket.socket(socket.AF_UNIX, address.kind) as probe:
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            os.unlink(address.path)
            return
    raise OSError(errno.EADDRINUSE, "in use")


def _explain(address: Address, error: OSError) -> str:
    cures = {
        errno.EADDRINUSE: "is in use: stop what listens there, or choose another address "
        + os.environ.get(OTHER_ADDRESS, f"with --listen {address.name}=URL"),
        errno.EACCES: "is not allowed to this user: take a port above 1023 or a folder that "
        "this user may write",
        errno.EADDRNOTAVAIL: "is not an address of this machine: take one of its own, or 127.0.0.1",
        errno.ENOENT: "lies in a folder that does not exist: create it first",
        errno.EEXIST: "exists and is not a socket: remove the file or choose another path",
        errno.EBADF: "is not open: start the daemon with this descriptor inherited",
        errno.ENOTSOCK: "is not a socket",
    }
    return f"{address} {cures.get(error.errno or 0, f'cannot be opened: {error.strerror}')}"
