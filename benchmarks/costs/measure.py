"""Measures shapes: instructions under callgrind, the peak of memory without it."""

import re
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from benchmarks import instructions
from benchmarks.contender import Contender, Declaration
from benchmarks.costs.shapes import GOODBYE, LAST, UPGRADE, Shape
from benchmarks.installation import Installation
from benchmarks.server import Server
from testkit.ports import free_port

HERE = Path(__file__).parent
TIMEOUT = 120.0  # seconds for an exchange under valgrind
REPEATS = 4  # exchanges of which the mean is taken
EMPTY_REPEATS = 20  # of those without a shape, which are subtracted from all others
ENOUGH = 20_000_000  # instructions of one exchange, after which the others would say nothing new
START = {LAST: b"", GOODBYE: UPGRADE}  # what comes before the shape, by what ends it


class Figure(msgspec.Struct, frozen=True):
    """What a shape costs: user-space instructions, beside those of the plain one, and memory.

    ``memory``: bytes by which the resident memory of the process grew at its peak.
    """

    title: str
    size: int
    status: str
    instructions: int
    plain: int
    memory: int

    @property
    def times(self) -> float:
        """How many plain requests of its size it costs."""
        return self.instructions / self.plain


def measure(shapes: Iterable[Shape], *, fast: bool = True) -> Iterator[Figure]:
    """Yield the figures of each shape."""
    port = free_port()
    command = ["{bin}/python", "server.py", "{port}", *([] if fast else ["slow"])]
    contender = Contender("costs", HERE, Declaration(title="costs", command=command, cases=[]))
    start = partial(Server, Installation(contender, Path(sys.prefix), here=True), port)
    shapes = list(shapes)
    with start() as server:
        memory = {shape.title: _memory(server, shape) for shape in shapes}
    with instructions.counting(start) as counter:
        for last, before in START.items():
            exchange(port, before + last)
        counter.switch_on()
        meter = _Meter(counter, port)
        for shape in shapes:
            growth, status = memory[shape.title]
            cost, plain = (meter.cost(data, shape.last) for data in (shape.data, shape.plain))
            yield Figure(shape.title, shape.sent, status, cost, plain, growth)


def exchange(port: int, data: bytes) -> bytes:
    """Send ``data`` on a new connection; return what comes until the server closes it."""
    heard = b""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        sender = threading.Thread(target=_send, args=(connection, data))
        sender.start()
        try:
            while piece := connection.recv(1 << 16):
                heard += piece
        except ConnectionResetError:  # it closed before it had read everything
            pass
        sender.join()
    return heard


def _send(connection: socket.socket, data: bytes) -> None:
    with _lost():
        connection.sendall(data)


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except (BrokenPipeError, ConnectionResetError):  # the server has closed
        return


class _Meter:
    """Counts the instructions of exchanges; what connects and ends them is subtracted."""

    def __init__(self, counter: instructions.Counter, port: int) -> None:
        self._counter, self._port = counter, port
        self._known: dict[bytes, int] = {}

    def cost(self, data: bytes, last: bytes) -> int:
        """Return what ``data`` costs without the rest of its exchange."""
        empty = self._count(START[last] + last, EMPTY_REPEATS)
        return self._count(data + last, REPEATS) - empty

    def _count(self, data: bytes, repeats: int) -> int:
        if data not in self._known:
            work = partial(exchange, self._port, data)
            once = self._counter.count(*[work] * (repeats // 2)).total() // (repeats // 2)
            if once < ENOUGH:  # caches are filled now
                once = self._counter.count(*[work] * repeats).total() // repeats
            self._known[data] = once
        return self._known[data]


def _memory(server: Server, shape: Shape) -> tuple[int, str]:
    """Return the growth of the process at its peak, and the statuses of the answers."""
    exchange(server.port, shape.plain + shape.last)
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak is what it is now
    before = _resident(server.pid, "VmRSS")
    heard = exchange(server.port, shape.data + shape.last)
    growth = max(0, _resident(server.pid, "VmHWM") - before)
    return growth, re.findall(rb"HTTP/1\.[01] (\d+)", heard)[0].decode()


def _resident(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(found[1]) * 1024 if found else 0
