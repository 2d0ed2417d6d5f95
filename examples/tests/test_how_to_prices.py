"""prices: both ways of telling them, who may listen, and how both end at a reload."""

import http.client
import json
import signal
from collections.abc import Callable
from contextlib import closing

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from examples.tests.asking import ask
from testkit.processes import Daemon
from testkit.waiting import TIMEOUT

LISTEN = {"http": "tcp://127.0.0.1:0"}
COOKIE = {"Cookie": "session=secret"}
PAGE = "https://shop.example.org"


def start(serve: Callable[..., Daemon]) -> Daemon:
    quick = {"GUNICORN_CMD_ARGS": "--drain-idle=0.5"}
    return serve("how_to", "prices:Container", LISTEN, workers=1, SESSION="secret", **quick)


def opened(daemon: Daemon, origin: str = PAGE, cookie: dict[str, str] = COOKIE) -> ClientConnection:
    url = f"ws://127.0.0.1:{daemon.port()}/socket"
    return connect(url, origin=Origin(origin), additional_headers=cookie)


def test_prices_are_told_both_ways_until_a_reload(serve: Callable[..., Daemon]) -> None:
    daemon = start(serve)
    with opened(daemon) as socket:
        for cents in (100, 200):
            socket.send(json.dumps({"article": "Paper", "cents": cents}))
            assert json.loads(socket.recv(TIMEOUT))["cents"] == cents

        address = "127.0.0.1", daemon.port()
        with closing(http.client.HTTPConnection(*address, timeout=TIMEOUT)) as client:
            client.request("GET", "/prices", headers={**COOKIE, "Last-Event-ID": "1"})
            stream = client.getresponse()
            assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            price = b'data: {"id":2,"article":"Paper","cents":200}\n'
            assert [stream.readline() for _ in range(3)] == [b"id: 2\n", price, b"\n"]
            daemon.send(signal.SIGHUP)
            assert stream.readline().startswith(b"retry: ")
            assert stream.read() == b"\n"
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(TIMEOUT)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1012


def test_who_may_not_listen_and_what_may_not_be_said(serve: Callable[..., Daemon]) -> None:
    daemon = start(serve)
    assert ask(daemon, "GET /prices").status == 401
    for origin, cookie, status in ((PAGE, {}, 401), ("https://evil.example", COOKIE, 403)):
        with pytest.raises(InvalidStatus) as refused:
            opened(daemon, origin, cookie)
        assert refused.value.response.status_code == status
    for said, code in (('{"article": 1}', 1007), (b"bytes", 1007), ("x" * 5000, 1009)):
        with opened(daemon) as socket:
            socket.send(said)
            with pytest.raises(ConnectionClosed) as ended:
                socket.recv(TIMEOUT)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == code
