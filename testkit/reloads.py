"""Clients at work while a daemon is reloaded three times; knows no protocol."""

import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import ge

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT, until

Client = Callable[[Iterator[int]], None]

TURNS = 10  # of each client between two reloads, at least; the first may be one of before
PACE = 0.01  # seconds between two turns of a client: workers that start need the processor, too
WORKERS = 2


class Turns:
    """Give numbers that no other client is given, until told to stop."""

    def __init__(self, clients: int) -> None:
        self.stopped = threading.Event()
        self.ended = [0] * clients
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
    """Run each ``client(turns)`` in a thread while HUP comes three times; return the turns taken.

    Between two reloads each client has some turns, and the old workers have ended. What a client
    raises is raised here.
    """
    turns = Turns(len(clients))
    with ThreadPoolExecutor(len(clients)) as pool:
        working = [pool.submit(client, turns.of(n)) for n, client in enumerate(clients)]

        def go_on() -> None:
            aims = [ended + TURNS for ended in turns.ended]
            until(
                lambda: all(map(ge, turns.ended, aims)) or any(one.done() for one in working),
                "no turns",
            )

        try:
            for _ in range(3):
                go_on()
                reload(daemon)
            go_on()
        finally:
            turns.stopped.set()
        for one in working:
            one.result(TIMEOUT)
    return sum(turns.ended)


def reload(daemon: Daemon) -> None:
    """Send HUP, and wait until the new workers are ready and the old ones have ended."""
    mark, old = daemon.mark(), set(daemon.workers())
    daemon.send(signal.SIGHUP)
    daemon.ready(WORKERS, after=mark)
    until(lambda: not old & set(daemon.workers()), "an old worker is still there")
