"""Clients at work while a daemon is reloaded three times, whatever the protocol."""

import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import ge

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT, until

Client = Callable[[Iterator[int]], None]

TURNS = 10  # of each client between two reloads, at least; the first may have begun before
PACE = 0.01  # seconds between two turns of a client, so that booting workers get the processor
WORKERS = 2


class Turns:
    """Numbers for the clients, each given out once, until ``stopped`` is set."""

    def __init__(self, clients: int) -> None:
        self.stopped = threading.Event()
        self.ended = [0] * clients  # turns of each client
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def of(self, client: int) -> Iterator[int]:
        """Yield the numbers of a client."""
        while not self.stopped.wait(PACE):
            with self._lock:
                number = next(self._numbers)
            yield number
            self.ended[client] += 1


def work_through_three_reloads(daemon: Daemon, *clients: Client) -> int:
    """Run each ``client(turns)`` in a thread during three reloads; return the number of turns.

    Between two reloads every client takes some turns and the old workers exit. An exception of a
    client is raised here.
    """
    turns = Turns(len(clients))
    with ThreadPoolExecutor(len(clients)) as pool:
        working = [pool.submit(client, turns.of(n)) for n, client in enumerate(clients)]

        def take_turns() -> None:
            goals = [ended + TURNS for ended in turns.ended]
            until(
                lambda: all(map(ge, turns.ended, goals)) or any(work.done() for work in working),
                "the clients take no turns",
            )

        try:
            for _ in range(3):
                take_turns()
                reload(daemon)
            take_turns()
        finally:
            turns.stopped.set()
        for work in working:
            work.result(TIMEOUT)
    return sum(turns.ended)


def reload(daemon: Daemon) -> None:
    """Send HUP, and wait until the new workers are ready and the old ones have exited."""
    mark, old = daemon.mark(), set(daemon.workers())
    daemon.send(signal.SIGHUP)
    daemon.ready(WORKERS, after=mark)
    until(lambda: not old & set(daemon.workers()), "an old worker is still there")
