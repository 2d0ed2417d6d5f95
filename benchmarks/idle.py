"""What connections cost that are open and silent, as between two requests of a browser."""

import resource
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks import processes
from benchmarks.case import Case
from benchmarks.figures import Idle
from benchmarks.instructions import ask
from benchmarks.server import Server
from testkit.http import Connection

WARMING = 200  # requests before the first reading
PATIENCE = 10.0  # seconds for an answer; without one, the server takes no more connections
SPARE = 1000  # descriptors for everything else


def measure(server: Server, case: Case, connections: int) -> Idle:
    """Open connections, ask once on each, and read the memory while they are all there.

    When the server takes fewer, the figure is of those that it keeps.
    """
    ask(server.port, case, WARMING)
    before = processes.memory(server.pid)
    with ExitStack() as stack:
        clients = list(_open(server.port, case, connections, stack))
        after = processes.memory(server.pid)
        held = sum(client.is_open() for client in clients)
    return Idle(server.name, held, before, after)


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


def allow(connections: int) -> None:
    """Allow so many open files here and in what is started here, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, min(connections + SPARE, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
