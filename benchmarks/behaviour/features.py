"""Two features, if a server has them: several protocols in a daemon, metrics over its workers."""

import re
import signal
import socket
import subprocess

from benchmarks.behaviour.declaration import Entrant
from benchmarks.behaviour.facts import Metrics, Several
from benchmarks.behaviour.subject import WORK, Subject, serving
from testkit.http import Connection
from testkit.waiting import seconds_until

PATIENCE = 60.0  # seconds
ANSWER_TIMEOUT = 5.0  # seconds
ASKED = 100  # requests
LINE = b"line\n"
PROTOCOLS = "udp|datagram|raw-socket|quic"
EXPOSITION = "prometheus|^--metrics$|statsd-host|^--stats-server$"


def several(entrant: Entrant) -> Several:
    """Ask in three protocols, before and after a reload; read --help if it has one protocol."""
    command = entrant.declaration.several
    if not command:
        return Several({}, {}, None, options(entrant, PROTOCOLS))
    with serving(entrant, command) as subject:
        before = _ask_each(subject)
        subject.reload_to(2)
        after = _ask_each(subject)
        subject.process.send_signal(signal.SIGTERM)
        code = subject.process.wait(PATIENCE)
        return Several(before, after, code, options(entrant, PROTOCOLS))


def _ask_each(subject: Subject) -> dict[str, bool]:
    """Ask in each protocol, each time on a new socket."""
    return {
        "HTTP": subject.serves(),
        "TCP": _echoes(socket.SOCK_STREAM, subject.tcp),
        "UDP": _echoes(socket.SOCK_DGRAM, subject.udp),
    }


def _echoes(kind: socket.SocketKind, port: int) -> bool:
    with socket.socket(type=kind) as sock:
        sock.settimeout(ANSWER_TIMEOUT)
        sock.connect(("127.0.0.1", port))
        sock.sendall(LINE)
        try:
            return sock.recv(100) == LINE
        except OSError:
            return False


def metrics(entrant: Entrant) -> Metrics:
    """Send a hundred requests and scrape how many it counted; read --help if it cannot."""
    command = entrant.declaration.metrics
    if not command:
        return Metrics(0, 0, None, options(entrant, EXPOSITION))
    with serving(entrant, command) as subject:
        seconds_until(lambda: _scrape(subject) >= 1, PATIENCE / 10)  # the request of its start
        before = _scrape(subject)
        workers = {_worker(subject) for _ in range(ASKED)}
        seconds_until(lambda: _scrape(subject) - before >= ASKED, PATIENCE / 10)
        counted = _scrape(subject) - before
        return Metrics(ASKED, len(workers), counted, options(entrant, EXPOSITION))


def _worker(subject: Subject) -> str:
    with Connection(subject.http) as connection:
        connection.send(WORK)
        return connection.receive().headers["x-worker"]


def _scrape(subject: Subject) -> float:
    """Return the sum of the server's request counters."""
    with Connection(subject.tcp) as connection:
        connection.send(b"GET /metrics HTTP/1.1\r\nHost: trial\r\n\r\n")
        text = connection.receive().body.decode()
    counter = subject.entrant.declaration.counter
    values = re.findall(rf"^{counter} ([0-9.e+]+)", text, re.MULTILINE)
    return sum(map(float, values))


def options(entrant: Entrant, words: str) -> list[str]:
    """Return the options in a server's --help that match the pattern ``words``."""
    command = entrant.installation.fill()(entrant.declaration.help)
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    named = re.findall(r"(?<![\w-])--[a-z0-9-]+", result.stdout + result.stderr)
    return sorted({option for option in named if re.search(words, option)})
