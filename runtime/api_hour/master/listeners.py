"""Listeners: named sockets that the master opens and keeps. Knows neither protocols nor workers.

A listener has one address or several, and an address has one socket, or a slot for each worker.
Sockets are inherited from a predecessor (USR2) or from systemd, or opened here. The daemon that
made the file of a unix socket removes it in the end, unless another file stands there by then.

A tcp or udp address is bound without SO_REUSEPORT, also where slots will share it: so the kernel
refuses one that is in use, by this daemon or by another one.
"""

import errno
import fcntl
import glob
import os
import socket
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from api_hour import owned_files
from api_hour.config.addresses import EVERYWHERE, Address, ListenerSettings
from api_hour.exceptions import ConfigError
from api_hour.logs.formatters import escape
from api_hour.master import systemd
from api_hour.owned_files import ROOT

# In the environment of a successor: http=7=DEVICE:INODE,admin=8= with the file that was made here.
HANDED_OVER = "API_HOUR_FDS"
ATTEMPTS, PAUSE = 100, 0.02  # to lock a folder; seconds between them
NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}  # an address that this machine lacks
Bound = dict[str, str]  # the listener of each URL that this daemon has bound
# In the environment, of a Makefile, say: how its user chooses another address.
OTHER_ADDRESS = "API_HOUR_OTHER_ADDRESS"


class Listener:
    """The sockets of one name: for each address one for all workers, or a slot for each."""

    def __init__(self, name: str, backlog: int) -> None:
        self.name = name
        self.backlog = backlog
        self.files: dict[str, str] = {}  # the identity of each unix socket's file that we made
        # By the bound address: whoever hands sockets over does not say which ones are slots of one.
        self._slots: dict[Any, list[socket.socket]] = {}

    def add(self, sock: socket.socket, file: str = "") -> None:
        """Add a socket of a new address, or one more of a known address."""
        sock.setblocking(False)
        self._slots.setdefault(sock.getsockname(), []).append(sock)
        if file:
            self.files[_path(sock)] = file

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

    @property
    def shares(self) -> bool:
        """Tell whether the kernel lets several sockets share an address."""
        return any(map(_may_share, self))

    def grow(self, slot: int) -> None:
        """Open sockets up to ``slot`` where the kernel lets several of them share an address."""
        for slots in self._slots.values():
            while _may_share(slots[0]) and len(slots) <= slot:
                slots.append(_bind_beside(slots[0], self.backlog))
                slots[-1].setblocking(False)

    def of_slot(self, slot: int) -> list[socket.socket]:
        """Return the sockets of a worker's slot, one for each address."""
        return [slots[slot % len(slots)] for slots in self._slots.values()]

    def beside(self, slot: int) -> list[socket.socket]:
        """Return the sockets of a slot that the worker of another slot does not have."""
        return [slots[slot % len(slots)] for slots in self._slots.values() if len(slots) > 1]

    def listen(self) -> None:
        """Listen with the backlog, in a worker, where asyncio has set its own default."""
        for sock in self:
            _listen(sock, self.backlog)

    def close(self, *, unlink: bool = False, trusted: Collection[int] = (ROOT,)) -> None:
        """Close this process's ends; with ``unlink`` also remove the files that were made here."""
        for sock in self:
            sock.close()
        for path, file in self.files.items() if unlink else ():
            with (
                suppress(FileNotFoundError),
                owned_files.located(path, path, trusted=trusted) as place,
            ):
                if _file(place.reach) == file:
                    os.unlink(place.reach)


def open_all(
    settings: Mapping[str, ListenerSettings],
    backlog: int,
    *,
    slots: int = 0,
    trusted: Collection[int] = (ROOT,),
) -> list[Listener]:
    """Take over inherited sockets and open the others; raises ConfigError, and then keeps none.

    With ``slots`` every tcp and udp address gets that many sockets, over which the kernel spreads
    connections and datagrams. The files of inherited sockets stay in any case: they are still the
    predecessor's.
    """
    opened = _inherited(settings, backlog)
    given = {*opened}
    bound: Bound = {url: name for name in opened for url in opened[name].urls()}
    try:
        for name, listener in settings.items():
            if name not in given:
                opened[name] = Listener(name, backlog)
                for address in listener.addresses:
                    _open(opened[name], address, bound, share=slots > 0, trusted=trusted)
            with _explained(name, "another slot", bound):
                opened[name].grow(slots - 1)
    except ConfigError:
        for name, made in opened.items():
            made.close(unlink=name not in given, trusted=trusted)
        raise
    return [opened[name] for name in settings]


def hand_over(listeners: Sequence[Listener]) -> dict[str, str]:
    """Make the sockets inheritable; return the variables that tell the successor of them."""
    items = []
    for listener in listeners:
        for sock in listener:
            sock.set_inheritable(True)
            items.append(f"{listener.name}={sock.fileno()}={listener.files.get(_path(sock), '')}")
    return {HANDED_OVER: ",".join(items)}


def _inherited(settings: Mapping[str, ListenerSettings], backlog: int) -> dict[str, Listener]:
    """Return the sockets of a predecessor and of systemd, by listener name."""
    items = [item.split("=") for item in os.environ.pop(HANDED_OVER, "").split(",") if item]
    given = [(name, int(fd), file) for name, fd, file in items]
    given += [(name, fd, "") for name, fd in systemd.activated()]
    if len(settings) == 1 and len({name for name, _, _ in given}) == 1:
        # The sockets of one listener need no name: systemd's default is that of the unit.
        only = next(iter(settings))
        given = [(only, fd, file) for _, fd, file in given]
    strangers = [name for name, _, _ in given if name not in settings]
    if strangers:
        raise ConfigError(
            f"inherited socket {strangers[0]!r} is not a listener (known: {', '.join(settings)}): "
            "set FileDescriptorName= in the .socket unit to a listener's name"
        )
    found: dict[str, Listener] = {}
    try:
        for name, fd, file in given:
            os.set_inheritable(fd, False)
            sock = socket.socket(fileno=fd)
            found.setdefault(name, Listener(name, backlog)).add(sock, file)
            for address in settings[name].addresses:
                if sock.type != address.kind and address.scheme != "fd":
                    raise ConfigError(
                        f"listener {name}: the inherited socket is not {address.scheme}"
                    )
            with _explained(name, "the inherited socket", {}):
                _listen(sock, backlog)
    except ConfigError:
        for listener in found.values():
            listener.close()
        raise
    return found


def _open(
    listener: Listener, address: Address, bound: Bound, *, share: bool, trusted: Collection[int]
) -> None:
    """Open an address, and note it in ``bound``."""
    with _explained(listener.name, address, bound):
        if address.scheme == "fd":
            listener.add(socket.socket(fileno=os.dup(address.fd)))
            listener.listen()
        elif address.path:
            listener.add(*_bind_path(address, listener.backlog, trusted))
        else:
            for sock in _bind_host(address, listener.backlog, share=share):
                listener.add(sock)
    bound |= dict.fromkeys(listener.urls(), listener.name)


def _bind_host(address: Address, backlog: int, *, share: bool) -> list[socket.socket]:
    """Bind every address that the host has here; raises OSError when there is none."""
    sockets: list[socket.socket] = []
    port, lacking = address.port, OSError(errno.EADDRNOTAVAIL, "no address")
    for family, where in _resolve(address):
        target = (where[0], port, *where[2:])
        try:
            sock = _bind(family, address.kind, target, v6only=address.ipv6only)
            sockets.append(sock)
            if share:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _listen(sock, backlog)
        except OSError as error:
            if error.errno not in NOT_HERE:
                _close(sockets)
                raise
            lacking = error
            continue
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
    family: int, kind: socket.SocketKind, where: Any, *, v6only: bool, share: bool = False
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


def _listen(sock: socket.socket, backlog: int) -> None:
    if sock.type != socket.SOCK_DGRAM:
        sock.listen(backlog)


def _may_share(sock: socket.socket) -> bool:
    """Tell whether the kernel spreads the socket's address over several sockets."""
    hosted = sock.family != socket.AF_UNIX
    return hosted and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def _bind_beside(sock: socket.socket, backlog: int) -> socket.socket:
    """Return one more socket of the same address."""
    is_v6 = sock.family == socket.AF_INET6
    v6only = is_v6 and bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    beside = _bind(sock.family, sock.type, sock.getsockname(), v6only=v6only, share=True)
    try:
        _listen(beside, backlog)
    except OSError:
        beside.close()
        raise
    return beside


def _bind_path(
    address: Address, backlog: int, trusted: Collection[int]
) -> tuple[socket.socket, str]:
    """Return the socket of a path, and the identity of its file.

    The file has its mode and owner before anyone can connect: the umask gives it its mode in the
    moment in which ``bind`` makes it. Nobody takes it for stale before it listens. The name is the
    path's, because clients and the kernel's tables know it; everything else is done in the folder
    that was found there, whatever others put in its place meanwhile.
    """
    with (
        owned_files.located(address.path, str(address), trusted=trusted) as place,
        _locked(os.path.dirname(place.reach)),
    ):
        given_to = [] if address.user is None else [address.user]
        place.refuse(str(address), {os.geteuid(), *trusted, *given_to})
        remove_stale(place.reach, address.kind)
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
            _give_away(address, place.reach)
            _listen(sock, backlog)
            return sock, _file(place.reach)
        except OSError:
            sock.close()
            with suppress(FileNotFoundError):
                os.unlink(place.reach)
            raise


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Keep other daemons from looking for stale sockets in a folder while this one makes one.

    Another program may hold the lock for long, or the file system may know none: then without.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # bind will say what is wrong
        yield
        return
    try:
        for _ in range(ATTEMPTS):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(PAUSE)
                continue
            except OSError:
                pass
            break
        yield
    finally:
        os.close(descriptor)


def _give_away(address: Address, path: str) -> None:
    """Give the file to its user and group.

    It is opened first, and looked at: in a folder that others may write to, they could put a link
    in its place.
    """
    if address.user is None and address.group is None:
        return
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        found = os.fstat(fd)
        is_ours = found.st_uid == os.geteuid() and found.st_nlink == 1
        if not stat.S_ISSOCK(found.st_mode) or not is_ours:
            raise OSError(errno.EEXIST, "was replaced")
        user = -1 if address.user is None else address.user
        os.chown(f"/proc/self/fd/{fd}", user, -1 if address.group is None else address.group)
    finally:
        os.close(fd)


def remove_stale(path: str, kind: socket.SocketKind) -> None:
    """Remove the file of a socket that nobody reads, as a killed master leaves it behind.

    Raises OSError for a socket in use, and for a file that is not a socket.
    """
    try:
        is_socket = stat.S_ISSOCK(os.stat(path, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise OSError(errno.EEXIST, "exists and is not a socket")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)  # a full backlog is "in use", too
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "in use")


def _close(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _path(sock: socket.socket) -> str:
    """Return the path of a unix socket, else ""; a name of the abstract namespace has none."""
    path = sock.getsockname() if sock.family == socket.AF_UNIX else ""
    return path if isinstance(path, str) else ""


def _file(path: str) -> str:
    found = os.stat(path, follow_symlinks=False)
    return f"{found.st_dev}:{found.st_ino}"


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


@contextmanager
def _explained(name: str, what: Address | str, bound: Bound) -> Iterator[None]:
    """Raise ConfigError for an error of the system, with the listener and the cure."""
    try:
        yield
    except (socket.gaierror, UnicodeError) as error:  # a name that cannot be one is the latter
        cause = getattr(error, "strerror", None) or error
        raise ConfigError(f"listener {name}: cannot find the host of {what}: {cause}") from None
    except OSError as error:
        raise ConfigError(f"listener {name}: {what} {_cure(name, what, error, bound)}") from None


def _cure(name: str, what: Address | str, error: OSError, bound: Bound) -> str:
    scheme, _, where = str(what).partition(":")
    for url, owner in bound.items() if error.errno == errno.EADDRINUSE else ():
        if url.startswith(f"{scheme}:") and url.endswith(f":{where.rpartition(':')[2]}"):
            return (
                f"is in use by this daemon: listener {owner} listens at {url}; choose another one "
                "(or write ?ipv6only=on behind [::] to leave IPv4 to another address)"
            )
    cures = {
        errno.EADDRINUSE: f"is in use: stop what listens there{_holders(what)}, or choose another "
        "address " + os.environ.get(OTHER_ADDRESS, f"with --listen {name}=URL"),
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
        errno.EINVAL: "cannot listen: it is a connection (set Accept=no in a .socket unit)",
    }
    return cures.get(error.errno or 0) or f"cannot be opened: {error.strerror or error}"


def _holders(address: Address | str) -> str:
    """Return the commands and process ids of who has an address, to stand in an error.

    Empty if no process that this user may look at has it.
    """
    sockets, found = _inodes(address), dict[str, int]()
    for link in glob.iglob("/proc/[0-9]*/fd/*") if sockets else ():
        with suppress(OSError):  # the process ended
            if (inode := os.readlink(link)) in sockets:
                pid = int(link.split("/")[2])
                found[inode] = min(pid, found.get(inode, pid))  # that of the parent
    names = [f"{_command(pid)}, process {pid}" for pid in sorted({*found.values()})]
    return f" ({'; '.join(names)})" if names else ""


def _inodes(address: Address | str) -> set[str]:
    """Return the sockets at the port or the path of an address, as links of /proc name them."""
    if isinstance(address, str):
        return set()
    scheme, end = address.scheme, f":{address.port:04X}"
    rows = [
        line.split()
        for table in (["unix"] if address.path else [scheme, f"{scheme}6"])
        for line in _lines(f"/proc/net/{table}")
    ]
    if address.path:
        return {f"socket:[{row[6]}]" for row in rows if row[7:] == [address.path]}
    states = ("0A", "07")  # it listens; of datagrams: not connected
    return {f"socket:[{row[9]}]" for row in rows if row[1].endswith(end) and row[3] in states}


def _command(pid: int) -> str:
    return escape("".join(_lines(f"/proc/{pid}/comm")))


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:  # not on Linux; the process ended
        return []
