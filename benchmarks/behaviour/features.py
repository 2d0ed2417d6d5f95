"""What a server offers by itself: several protocols in one daemon, and metrics over its workers."""

import re
import signal
import socket
import subprocess

from benchmarks.behaviour.declaration import Entrant
from benchmarks.behaviour.facts import Metrics, Several
from benchmarks.behaviour.subject import WORK, Subject, serving, waited
from benchmarks.connection import Connection

PATIENCE = 60.0  # seconds
ANSWERING = 5.0  # seconds
ASKED = 100  # requests
LINE = b"line\n"
PROTOCOLS = "udp|datagram|raw-socket|quic"
EXPOSITION = "prometheus|^--metrics$|statsd-host|^--stats-server$"


def several(entrant: Entrant) -> Several:
    """Start it with three protocols, ask each, reload and ask again; or read its --help."""
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
    """Ask in each protocol on a new socket."""
    return {
        "HTTP": subject.serves(),
        "TCP": _echoes(socket.SOCK_STREAM, subject.tcp),
        "UDP": _echoes(socket.SOCK_DGRAM, subject.udp),
    }


def _echoes(kind: socket.SocketKind, port: int) -> bool:
    with socket.socket(type=kind) as sock:
        sock.settimeout(ANSWERING)
        sock.connect(("127.0.0.1", port))
        sock.sendall(LINE)
        try:
            return sock.recv(100) == LINE
        except OSError:
            return False


def metrics(entrant: Entrant) -> Metrics:
    """Ask a hundred times, scrape, and see how many it counted; or read its --help."""
    command = entrant.declaration.metrics
    if not command:
        return Metrics(0, 0, None, options(entrant, EXPOSITION))
    with serving(entrant, command) as subject:
        waited(lambda: _scrape(subject) >= 1, PATIENCE / 10)  # what asked whether it serves
        before = _scrape(subject)
        workers = {_worker(subject) for _ in range(ASKED)}
        waited(lambda: _scrape(subject) - before >= ASKED, PATIENCE / 10)
        counted = _scrape(subject) - before
        return Metrics(ASKED, len(workers), counted, options(entrant, EXPOSITION))


def _worker(subject: Subject) -> str:
    with Connection(subject.http) as connection:
        connection.send(WORK)
        return connection.receive().headers["x-worker"]


def _scrape(subject: Subject) -> float:
    """Return the sum of the counters in what the server exposes."""
    with Connection(subject.tcp) as connection:
        connection.send(b"GET /metrics HTTP/1.1\r\nHost: trial\r\n\r\n")
        text = connection.receive().body.decode()
    counter = subject.entrant.declaration.counter
    found = re.findall(rf"^{counter} ([0-9.e+]+)", text, re.MULTILINE)
    return sum(float(one) for one in found)


def options(entrant: Entrant, words: str) -> list[str]:
    """Return the options that a server's --help names with one of these words in them."""
    command = entrant.installation.fill()(entrant.declaration.help)
    shown = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    named = re.findall(r"(?<![\w-])--[a-z0-9-]+", shown.stdout + shown.stderr)
    return sorted({one for one in named if re.search(words, one)})
