"""Ports for servers that have to be told one, in the benchmarks and in tests.

They lie below those that the kernel gives to clients, one of which could else be taken between the
look and the start.
"""

import os
import socket
from contextlib import suppress

# Each process of pytest-xdist has its own, and two runs at once hardly begin at the same.
_FIRST = 12_000 + 4_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_PORTS = iter(range(_FIRST + os.getpid() % 3_000, _FIRST + 4_000))


def free_port(count: int = 1) -> int:
    """Return a port that is free, like the ``count`` - 1 that follow it; nobody gets them again."""
    free: list[int] = []
    while len(free) < count:
        port = next(_PORTS)
        free = [*free, port] if _is_free(port) else []
    return free[0]


def _is_free(port: int) -> bool:
    with socket.socket() as sock, suppress(OSError):
        sock.bind(("127.0.0.1", port))
        return True
    return False
