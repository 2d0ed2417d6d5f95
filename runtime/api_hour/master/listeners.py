"""Listeners: named sockets that the master opens and keeps. Knows neither protocols nor workers.

A listener has one address or several, and an address has one socket, or a slot for each worker.
Sockets are inherited from a predecessor (USR2) or from systemd, or opened here. Whoever made the
file of a unix socket removes it in the end: its ``owner`` is "ours" or "theirs".
"""

import errno
import os
import socket
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from api_hour.config.addresses import EVERYWHERE, Address, ListenerSettings
from api_hour.exceptions import ConfigError
from api_hour.master import systemd

HANDED_OVER = "API_HOUR_FDS"  # in the environment of a successor: http=7=ours,admin=8=theirs
MAPPED = "::ffff:"  # before an IPv4 address in an IPv6 one
NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}  # an address that this machine lacks
Identity = tuple[int, int, Any]  # family, type and bound address
# In the environment, of a Makefile, say: how its user chooses another address.
OTHER_ADDRESS = "API_HOUR_OTHER_ADDRESS"
Inherited = tuple[list[socket.socket], bool]  # the sockets, and whether their files are ours


class Listener:
    """The sockets of one name: for each address one for all workers, or a slot for each."""

    def __init__(self, name: str, sockets: Sequence[socket.socket], backlog: int) -> None:
        self.name = name
        self.backlog = backlog
        self.owner = "ours"  # whose the files of unix sockets are
        # By the bound address: whoever hands sockets over does not say which ones are slots of one.
        self._slots: dict[Any, list[socket.socket]] = {}
        for sock in sockets:
            sock.setblocking(False)
            self._slots.setdefault(sock.getsockname(), []).append(sock)
        self.listen()

    def __iter__(self) -> Iterator[socket.socket]:
        return (sock for slots in self._slots.values() for sock in slots)

    def __str__(self) -> str:
        return self.urls()[0]

    def urls(self) -> list[str]:
        """Return what is bound, a URL for each address."""
        return [_url(slots[0]) for slots in self._slots.values()]

    @property
    def slot_count(self) -> int:
        """Return the number of slots of each address; 1 without slots."""
        return max(map(len, self._slots.values()))

    def grow(self, slot: int) -> None:
        """Open sockets up to ``slot`` where the kernel lets several of them share an address."""
        for slots in self._slots.values():
            while _may_share(slots[0]) and len(slots) <= slot:
                slots.append(_bind_beside(slots[0]))
                slots[-1].setblocking(False)
                self._listen(slots[-1])

    def of_slot(self, slot: int) -> list[socket.socket]:
        """Return the sockets of a worker's slot, one for each address."""
        return [slots[slot % len(slots)] for slots in self._slots.values()]

    def beside(self, slot: int) -> list[socket.socket]:
        """Return the sockets of a slot that the worker of another slot does not have."""
        return [slots[slot % len(slots)] for slots in self._slots.values() if len(slots) > 1]

    def listen(self) -> None:
        """Listen with the backlog; again in a worker, where asyncio has set its own default."""
        for sock in self:
            self._listen(sock)

    def _listen(self, sock: socket.socket) -> None:
        if sock.type != socket.SOCK_DGRAM:
            sock.listen(self.backlog)

    def close(self, *, unlink: bool = False) -> None:
        """Close this process's ends; with ``unlink`` also remove the files of unix sockets."""
        _close(self, unlink=unlink and self.owner == "ours")


def open_all(
    settings: Mapping[str, ListenerSettings], backlog: int, *, slots: int = 0
) -> list[Listener]:
    """Take over inherited sockets and open the others; raises ConfigError, and then keeps none.

    With ``slots`` every tcp and udp address gets that many sockets, over which the kernel spreads
    connections and datagrams.
    """
    given = _inherited(settings)
    opened: list[Listener] = []
    try:
        for name, listener in settings.items():
            sockets, ours = given.get(name) or (_open(listener, opened, share=slots > 0), True)
            opened.append(Listener(name, sockets, backlog))
            opened[-1].owner = "ours" if ours else "theirs"
            opened[-1].grow(slots - 1)
    except ConfigError:
        for listener_opened in opened:
            listener_opened.close(unlink=True)
        raise
    return opened


def hand_over(listeners: Sequence[Listener]) -> dict[str, str]:
    """Make the sockets inheritable; return the variables that tell the successor of them."""
    items = [(listener.name, sock, listener.owner) for listener in listeners for sock in listener]
    for _, sock, _ in items:
        sock.set_inheritable(True)
    return {HANDED_OVER: ",".join(f"{name}={sock.fileno()}={owner}" for name, sock, owner in items)}


def _inherited(settings: Mapping[str, ListenerSettings]) -> dict[str, Inherited]:
    """Return the sockets of a predecessor and of systemd, by listener name."""
    items = [item.split("=") for item in os.environ.pop(HANDED_OVER, "").split(",") if item]
    given = [(name, int(fd), owner == "ours") for name, fd, owner in items]
    given += [(name, fd, False) for name, fd in systemd.activated()]
    if len(settings) == 1 and len({name for name, _, _ in given}) == 1:
        # The sockets of one listener need no name: systemd's default is that of the unit.
        only = next(iter(settings))
        given = [(only, fd, ours) for _, fd, ours in given]
    strangers = [name for name, _, _ in given if name not in settings]
    if strangers:
        raise ConfigError(
            f"inherited socket {strangers[0]!r} is not a listener (known: {', '.join(settings)}): "
            "set FileDescriptorName= in the .socket unit to a listener's name"
        )
    sockets: dict[str, Inherited] = {}
    for name, fd, ours in given:
        os.set_inheritable(fd, False)
        sockets.setdefault(name, ([], ours))[0].append(socket.socket(fileno=fd))
    for name, (inherited, _) in sockets.items():
        kinds = {sock.type for sock in inherited}
        for address in settings[name].addresses:
            if kinds != {address.kind} and address.scheme != "fd":
                for taken, _ in sockets.values():
                    _close(taken)
                raise ConfigError(f"listener {name}: the inherited socket is not {address.scheme}")
    return sockets


def _open(
    listener: ListenerSettings, opened: Sequence[Listener], *, share: bool
) -> list[socket.socket]:
    """Open every address of a listener, or none."""
    sockets: list[socket.socket] = []
    taken = {identity: other.name for other in opened for identity in _identities(other)}
    try:
        for address in listener.addresses:
            sockets += _open_address(listener.name, address, taken, share=share)
            taken |= dict.fromkeys(_identities(sockets), listener.name)
    except ConfigError:
        _close(sockets, unlink=True)
        raise
    return sockets


def _open_address(
    name: str, address: Address, taken: Mapping[Identity, str], *, share: bool
) -> list[socket.socket]:
    try:
        if address.scheme == "fd":
            return [socket.socket(fileno=os.dup(address.fd))]
        if address.path:
            return [_bind_path(address)]
        return _bind_host(name, address, taken, share=share)
    except (socket.gaierror, UnicodeError) as error:  # a name that cannot be one is the latter
        cause = getattr(error, "strerror", None) or error
        raise ConfigError(f"listener {name}: cannot find the host of {address}: {cause}") from None
    except OSError as error:
        raise ConfigError(f"listener {name}: {_explain(name, address, error, taken)}") from None


def _bind_host(
    name: str, address: Address, taken: Mapping[Identity, str], *, share: bool
) -> list[socket.socket]:
    """Bind every address that the host has here; raises OSError when there is none."""
    sockets: list[socket.socket] = []
    port, lacking = address.port, OSError(errno.EADDRNOTAVAIL, "no address")
    for family, where in _resolve(address):
        target = (where[0], port, *where[2:])
        if owner := taken.get(_identity(family, address.kind, target)):
            _close(sockets)
            whose = f"of listener {owner} too" if owner != name else "given twice"
            raise ConfigError(f"listener {name}: {address} is {whose}: choose another one")
        try:
            sock = _bind(family, address.kind, target, share=share, v6only=address.ipv6only)
        except OSError as error:
            if error.errno not in NOT_HERE:
                _close(sockets)
                raise
            lacking = error
            continue
        sockets.append(sock)
        port = sock.getsockname()[1]  # the same one for every address if the system chose it
        if address.host == EVERYWHERE:
            break
    if not sockets:
        raise lacking
    return sockets


def _resolve(address: Address) -> list[tuple[int, Any]]:
    """Return family and socket address of everything that the host stands for."""
    if address.host == EVERYWHERE:  # both at once, or IPv4 alone where IPv6 is missing
        return [(socket.AF_INET6, ("::", 0, 0, 0)), (socket.AF_INET, ("0.0.0.0", 0))]  # noqa: S104
    found = socket.getaddrinfo(
        address.host, address.port, type=address.kind, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((int(family), where) for family, _, _, _, where in found))


def _bind(
    family: int, kind: socket.SocketKind, where: Any, *, share: bool, v6only: bool
) -> socket.socket:
    """Return a bound socket; one of ``::`` takes IPv4, too, unless it is ``v6only``."""
    sock = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock


def _may_share(sock: socket.socket) -> bool:
    """Tell whether the kernel spreads the socket's address over several sockets."""
    hosted = sock.family != socket.AF_UNIX
    return hosted and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def _bind_beside(sock: socket.socket) -> socket.socket:
    """Return one more socket of the same address."""
    is_v6 = sock.family == socket.AF_INET6
    v6only = is_v6 and bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    return _bind(sock.family, sock.type, sock.getsockname(), share=True, v6only=v6only)


def _bind_path(address: Address) -> socket.socket:
    """Return the socket of a path, whose file has its mode and owner before anyone can connect.

    The umask gives the file its mode in the moment in which ``bind`` makes it.
    """
    _remove_stale(address)
    sock = socket.socket(socket.AF_UNIX, address.kind)
    umask = None if address.mode is None else os.umask(0o777 & ~address.mode)
    try:
        sock.bind(address.path)
    except OSError:
        sock.close()
        raise
    finally:
        if umask is not None:
            os.umask(umask)
    try:
        _give_away(address)
    except OSError:
        _close([sock], unlink=True)
        raise
    return sock


def _give_away(address: Address) -> None:
    """Give the file to its user and group.

    It is opened first, and looked at: in a folder that others may write to, they could put a link
    in its place.
    """
    if address.user is None and address.group is None:
        return
    fd = os.open(address.path, os.O_PATH | os.O_NOFOLLOW)
    try:
        found = os.fstat(fd)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise OSError(errno.EEXIST, "was replaced")
        user = -1 if address.user is None else address.user
        os.chown(f"/proc/self/fd/{fd}", user, -1 if address.group is None else address.group)
    finally:
        os.close(fd)


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


def _close(sockets: Iterable[socket.socket], *, unlink: bool = False) -> None:
    for sock in sockets:
        path = sock.getsockname() if unlink and sock.family == socket.AF_UNIX else ""
        sock.close()
        if path and isinstance(path, str):  # one of the abstract namespace is bytes
            with suppress(FileNotFoundError):
                os.unlink(path)


def _identity(family: int, kind: int, where: Any) -> Identity:
    """Return what two notations of one address have in common."""
    if family == socket.AF_INET6 and where[0].startswith(MAPPED):
        return int(socket.AF_INET), kind, (where[0].removeprefix(MAPPED), where[1])
    return int(family), kind, where


def _identities(sockets: Iterable[socket.socket]) -> list[Identity]:
    return [_identity(sock.family, sock.type, sock.getsockname()) for sock in sockets]


def _url(sock: socket.socket) -> str:
    """Return what a socket is bound to, as a listener's URL."""
    is_datagram = sock.type == socket.SOCK_DGRAM
    where = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"{'unixgram' if is_datagram else 'unix'}:{where}"
    host, port, *more = where
    zone = more[1] if more else 0
    if zone and "%" not in host:
        host += f"%{socket.if_indextoname(zone)}"
    return str(Address("udp" if is_datagram else "tcp", host=host, port=port))


def _explain(name: str, address: Address, error: OSError, taken: Mapping[Identity, str]) -> str:
    own = [
        f"listener {owner} listens at {where[0]}"
        for (family, kind, where), owner in taken.items()
        if error.errno == errno.EADDRINUSE
        and (family != socket.AF_UNIX, kind, address.path == "") == (True, address.kind, True)
        and where[1] == address.port
    ]
    if own:
        return (
            f"{address} is in use by this daemon: {own[0]}, which may include it (write "
            "?ipv6only=on behind [::] to leave IPv4 to another address)"
        )
    cures = {
        errno.EADDRINUSE: "is in use: stop what listens there, or choose another address "
        + os.environ.get(OTHER_ADDRESS, f"with --listen {name}=URL"),
        errno.EACCES: "is not allowed to this user: take a port above 1023 or a folder that "
        "this user may write",
        errno.EPERM: "cannot be given to another user or group: start as root, or remove user and "
        "group",
        errno.EADDRNOTAVAIL: "is not an address of this machine: take one of its own, or 127.0.0.1",
        errno.EAFNOSUPPORT: "needs IPv6, which this machine lacks: take 0.0.0.0 or 127.0.0.1",
        errno.ENOENT: "lies in a folder that does not exist: create it first",
        errno.EEXIST: "exists and is not a socket: remove the file or choose another path",
        errno.EBADF: "is not open: start the daemon with this descriptor inherited",
        errno.ENOTSOCK: "is not a socket",
    }
    return f"{address} {cures.get(error.errno or 0, f'cannot be opened: {error.strerror}')}"
