"""What slow clients hold of a real daemon is bounded, and the metrics say whom it cut off."""

import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT, until

PEERS = 30
SIZE = 8 << 20  # bytes of an answer
PROJECT = """\
import asyncio

from aiohttp import web

import api_hour


async def read(request):
    return web.Response(text=str(len(await request.read())))


async def big(request):
    return web.Response(body=b"x" * (8 << 20))


async def never(request):
    await asyncio.Event().wait()


class Container(api_hour.Container):
    def servers(self):
        app, admin = web.Application(), web.Application()
        app.router.add_post("/", read)
        app.router.add_get("/big", big)
        app.router.add_get("/never", never)
        app.router.add_get("/metrics", api_hour.show_metrics)
        return {"http": api_hour.HTTPServer(app)}
"""


def most_resident(pid: int) -> int:
    """Return how many bytes of memory a process has held at the most."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


def struck(port: int) -> dict[str, float]:
    """Return how many limits of each kind have been exceeded."""
    with asked(port, b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") as client:
        text = client.makefile("rb").read().decode()
    return {kind: float(n) for kind, n in re.findall(r'timeouts_total{kind="(\w+)"} (\S+)', text)}


def asked(port: int, data: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    client.sendall(data)
    return client


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_slow_clients_hold_little_and_not_for_ever(
    run: Callable[..., Daemon], project: Path, fast: bool
) -> None:
    (project / "other.py").write_text(PROJECT)
    seconds = {"header": "2", "body": "2", "send": "2", "request": "5"}
    limits = [f"--{kind}-timeout={limit}" for kind, limit in seconds.items()]
    daemon = run("other:Container", "--metrics", "--fast", str(fast), *limits).ready()
    port, pid = daemon.port(), daemon.workers()[0]
    before = most_resident(pid)
    readers = [asked(port, b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n" * 3) for _ in range(PEERS)]
    half_head = asked(port, b"GET / HTTP/1.1\r\nHost: a\r\n")
    half_body = asked(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    endless = asked(port, b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
    assert half_body.makefile("rb").readline() == b"HTTP/1.1 408 Request Timeout\r\n"
    assert endless.makefile("rb").readline() == b"HTTP/1.1 504 Gateway Timeout\r\n"
    assert half_head.recv(1) == b""
    most = most_resident(pid)
    assert most - before < PEERS * 2 * SIZE + (32 << 20)
    until(lambda: struck(port) == {"header": 1, "body": 1, "request": 1, "send": PEERS})
    for client in [*readers, half_head, half_body, endless]:
        client.close()
    assert daemon.stop(signal.SIGTERM) == 0
    print(f"{(most - before) / PEERS / SIZE:.1f} answers a connection")
