"""Ports for servers that have to be told one, in the benchmarks and in tests.

They lie below those that the kernel gives to clients, one of which could else be taken between the
look and the start.
"""

import itertools
import os
import socket
from contextlib import suppress
from pathlib import Path

EACH = 2_000
# Each process of pytest-xdist has its own, and two runs at once hardly begin at the same.
_FIRST = 10_000 + EACH * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 11)
_numbers = itertools.count(os.getpid())


def free_port(count: int = 1) -> int:
    """Return a port that TCP has free, like the ``count`` - 1 that follow it."""
    free: list[int] = []
    while len(free) < count:
        port = _FIRST + next(_numbers) % EACH  # nobody gets it again soon
        follows = not free or port == free[-1] + 1
        free = [*free, port] if follows and _is_free(port) else []
    return free[0]


def accepts(address: int | str | Path) -> bool:
    """Tell whether a server accepts connections at a local port, or at the path of a socket."""
    family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    target = ("127.0.0.1", address) if isinstance(address, int) else str(address)
    with socket.socket(family) as sock:
        return sock.connect_ex(target) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as sock, suppress(OSError):
        sock.bind(("127.0.0.1", port))
        return True
    return False
