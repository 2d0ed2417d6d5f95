"""Children that the project forks in a worker: they keep nothing of what the worker serves.

A process pool, ``multiprocessing`` or a library forks. The child inherits every descriptor, so a
connection that the worker closes would stay open, and a port would stay taken after the daemon's
end. It also inherits the pipe by which signals wake the worker's loop: a TERM to the child would
drain the worker.

So right after the fork the child replaces its copies by ``/dev/null``. They keep their numbers:
a closed number would be given to the next file that the child opens, and objects copied from the
worker would write to it. Which sockets are served is asked of the kernel, by their local address:
event loops duplicate descriptors, and a server may be of any library.

Programs (``subprocess``) are not concerned: Python's descriptors are closed by ``exec``.
"""

import os
import signal
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress

Local = tuple[int, object]  # kind of socket, and its port or path
RESET = signal.SIGTERM, signal.SIGQUIT  # end a child as they end any other program


def protect(listening: Iterable[socket.socket], private: Iterable[int]) -> None:
    """From now on, take the sockets of ``listening`` addresses and ``private`` from children."""
    served = {local for sock in listening if (local := _local(sock))}
    kept_back = frozenset(private)
    has_let_go = False

    def in_child() -> None:
        nonlocal has_let_go
        if not has_let_go:  # a grandchild's were replaced already
            has_let_go = True
            _disown_signals()
            _replace_descriptors(served, kept_back)

    os.register_at_fork(after_in_child=in_child)


def _disown_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in RESET:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, RESET)


def _replace_descriptors(served: set[Local], private: frozenset[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for name in os.listdir("/dev/fd"):
        number = int(name)
        with suppress(OSError):  # listdir's own descriptor is gone by now
            if number in private or _serves(number, served):
                os.dup2(null, number, inheritable=False)
    os.close(null)


def _serves(number: int, served: set[Local]) -> bool:
    """Tell whether a descriptor is a listening socket of ours, or was accepted on one."""
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        return False
    sock = socket.socket(fileno=number)
    try:
        return _local(sock) in served
    finally:
        sock.detach()


def _local(sock: socket.socket) -> Local | None:
    """Return what an accepted connection has in common with its listener, or None."""
    where = sock.getsockname()
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        return sock.type, where[1]
    return (sock.type, where) if sock.family == socket.AF_UNIX and where else None
