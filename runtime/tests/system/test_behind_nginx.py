"""Two daemons behind nginx: no request of one client takes them from the others.

nginx asks no server for ten seconds that closed a connection without an answer, and with none left
it answers 502 itself.
"""

import collections
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from testkit.ports import accepts, free_port
from testkit.processes import Daemon, Program
from testkit.waiting import TIMEOUT, until
from testkit.wire import request

CONF = """\
daemon off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream closing {{ {servers} }}
    upstream keeping {{ {servers} keepalive 8; }}
    server {{
        listen 127.0.0.1:{ports[0]};
        location / {{
            proxy_pass http://closing;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
    server {{
        listen 127.0.0.1:{ports[1]};
        location / {{
            proxy_pass http://keeping;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""
CLOSE = "Connection: close"
MALFORMED = [
    request("/caf\u00e9", CLOSE),  # nginx passes it on
    request("/\x7f", CLOSE),
    request("/", CLOSE, *(f"X-{number}: 1" for number in range(200))),  # and this one
    request("/", CLOSE, "X : y"),
    b"GARBAGE\r\n\r\n",
]
CLIENTS = 8

Statuses = collections.Counter[str]


@pytest.fixture
def ports(project: Path) -> Iterator[tuple[list[int], list[int]]]:
    """Return the ports of nginx, and those of the two daemons behind it."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("nginx is not installed")
    trusting = "--trusted-proxies=127.0.0.1", "--access-logfile=-"
    with ExitStack() as programs:
        options = "hello:Container", "--listen=http=tcp://127.0.0.1:0", *trusting
        daemons = [programs.enter_context(Daemon(project, *options)) for _ in range(2)]
        behind = [daemon.ready().port() for daemon in daemons]
        before = [free_port(), free_port()]
        servers = " ".join(f"server 127.0.0.1:{port};" for port in behind)
        conf = project / "nginx.conf"
        conf.write_text(CONF.format(folder=project, servers=servers, ports=before))
        programs.enter_context(Program(program, "-e", "stderr", "-p", project, "-c", conf))
        until(lambda: all(map(accepts, before)), "nginx does not listen")
        yield before, behind


def ask(port: int, data: bytes) -> str:
    """Return the status of the answer on a connection of its own, or an empty text."""
    heard = b""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(data)
        try:
            while piece := connection.recv(65536):
                heard += piece
        except ConnectionResetError:  # behind an answer to a request that was not read
            pass
    return heard[9:12].decode()


def play(ports: tuple[list[int], list[int]], good: int, bad: int) -> tuple[Statuses, Statuses]:
    """Send good requests through nginx and malformed ones everywhere; return their statuses."""
    before, behind = ports
    everywhere = [*before, *before, *behind]
    requests = [(before[number % 2], request("/", CLOSE), "good") for number in range(good)]
    for number in range(bad):
        data = MALFORMED[number % len(MALFORMED)]
        port = everywhere[number // len(MALFORMED) % len(everywhere)]
        requests.insert(number * (good // bad + 1), (port, data, "bad"))
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(lambda asked: ask(asked[0], asked[1]), requests))
    counted = {"good": Statuses(), "bad": Statuses()}
    for (_, _, kind), status in zip(requests, answers, strict=True):
        counted[kind][status] += 1
    return counted["good"], counted["bad"]


def test_malformed_requests_take_no_server_from_good_ones(
    ports: tuple[list[int], list[int]],
) -> None:
    good, bad = play(ports, 1000, 120)
    assert good == {"200": 1000}
    assert set(bad) <= {"200", "400", "431"}  # 200: nginx drops a header that is not one
    assert bad["400"] + bad["431"] >= 80
