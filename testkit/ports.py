"""Free ports, for servers that must be told their port.

They lie below the range from which the kernel takes the ports of clients. A client could otherwise
take the port between the check and the start of the server.
"""

import itertools
import os
import socket
from contextlib import suppress
from pathlib import Path

PORTS_PER_PROCESS = 2_000
# The processes of pytest-xdist share no port, and two runs at once rarely start at the same one.
_FIRST = 10_000 + PORTS_PER_PROCESS * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 11)
_numbers = itertools.count(os.getpid())


def free_port(count: int = 1) -> int:
    """Return the first of ``count`` consecutive free TCP ports."""
    free: list[int] = []
    while len(free) < count:
        port = _FIRST + next(_numbers) % PORTS_PER_PROCESS  # not given out again soon
        follows = not free or port == free[-1] + 1
        free = [*free, port] if follows and _is_free(port) else []
    return free[0]


def accepts(address: int | str | Path) -> bool:
    """Tell whether a server accepts connections at a local port or at the path of a socket."""
    family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    target = ("127.0.0.1", address) if isinstance(address, int) else str(address)
    with socket.socket(family) as sock:
        return sock.connect_ex(target) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as sock, suppress(OSError):
        sock.bind(("127.0.0.1", port))
        return True
    return False
