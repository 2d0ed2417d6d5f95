"""The memory of idle connections, such as a browser keeps between two requests."""

import resource
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks import processes
from benchmarks.case import Case
from benchmarks.figures import Idle
from benchmarks.instructions import ask
from benchmarks.server import Server
from testkit.http import Connection

WARM_UP = 200  # requests before the first measurement
PATIENCE = 10.0  # seconds for an answer; without one the server accepts no more connections
SPARE = 1000  # file descriptors for everything else


def measure(server: Server, case: Case, connections: int) -> Idle:
    """Open connections, send one request on each, and measure the memory while all are open.

    If the server accepts or keeps fewer, the figure is for those that are open.
    """
    ask(server.port, case, WARM_UP)
    before = processes.memory(server.pid)
    with ExitStack() as stack:
        clients = list(_open(server.port, case, connections, stack))
        after = processes.memory(server.pid)
        still_open = sum(client.is_open() for client in clients)
    return Idle(server.name, still_open, before, after)


def _open(port: int, case: Case, connections: int, stack: ExitStack) -> Iterator[Connection]:
    for _ in range(connections):
        try:
            client = stack.enter_context(Connection(port, PATIENCE))
            client.send(case.request)
            if client.receive().closes:
                return
        except (EOFError, OSError):
            return
        yield client


def raise_file_limit(connections: int) -> None:
    """Raise the limit of open files, for child processes too, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, min(connections + SPARE, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
