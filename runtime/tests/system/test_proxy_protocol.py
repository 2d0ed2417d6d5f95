"""The PROXY protocol as HAProxy speaks it, before HTTP, TLS and other protocols."""

import http.client
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from testkit.ports import free_port
from testkit.processes import Daemon, Program
from testkit.waiting import TIMEOUT, until

CLIENT = "127.0.0.5"  # not the address from which HAProxy connects
PROJECT = """\
import asyncio

from aiohttp import web

import api_hour


async def who(request):
    return web.Response(text=request.remote)


async def tell(reader, writer):
    writer.write(writer.get_extra_info("peername")[0].encode())
    await writer.drain()


class Container(api_hour.Container):
    def servers(self):
        app = web.Application()
        app.router.add_get("/", who)
        stream = api_hour.StreamServer(tell)
        return {"http": api_hour.HTTPServer(app), "tls": api_hour.HTTPServer(app), "any": stream}
"""
YAML = """\
api_hour:
  trusted_proxies: [127.0.0.1]
  accesslog: "-"
  listeners:
    http: {{url: "tcp://127.0.0.1:0", proxy_protocol: true}}
    any: {{url: "tcp://127.0.0.1:0", proxy_protocol: true}}
    tls:
      url: tcp://127.0.0.1:0
      proxy_protocol: true
      certificate: {folder}/certificate.pem
"""
HAPROXY = """\
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
"""
SECTION = """\
listen {name}-{option}
    bind 127.0.0.1:{front}
    server daemon 127.0.0.1:{port} {option}
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Return a daemon whose listeners speak the PROXY protocol."""
    authority = trustme.CA()
    made = authority.issue_cert("localhost")
    made.private_key_and_cert_chain_pem.write_to_path(tmp_path / "certificate.pem")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    (tmp_path / "etc" / "other").mkdir(parents=True)
    (tmp_path / "etc" / "other" / "main.yaml").write_text(YAML.format(folder=tmp_path))
    (tmp_path / "other.py").write_text(PROJECT)
    with Daemon(tmp_path, "other:Container") as running:
        yield running.ready()


def get(sock: socket.socket) -> bytes:
    sock.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    answer = http.client.HTTPResponse(sock)
    answer.begin()
    return answer.read()


def read(sock: socket.socket) -> bytes:
    return sock.makefile("rb").read()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), TIMEOUT, source_address=(CLIENT, 0))


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
def test_the_client_behind_haproxy_is_seen(daemon: Daemon, tmp_path: Path) -> None:
    fronts, text = {}, HAPROXY
    for name in ("http", "tls", "any"):
        for option in ("send-proxy", "send-proxy-v2"):
            front = fronts[name, option] = free_port()
            text += SECTION.format(name=name, option=option, front=front, port=daemon.port(name))
    (tmp_path / "haproxy.cfg").write_text(text)
    context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    with Program("haproxy", "-db", "-f", tmp_path / "haproxy.cfg"):
        for (name, option), front in fronts.items():
            until(lambda front=front: listens(front))  # type: ignore[misc]
            with connected(front) as client:
                if name == "any":
                    assert read(client) == CLIENT.encode(), option
                elif name == "http":
                    assert get(client) == CLIENT.encode(), option
                else:
                    with context.wrap_socket(client, server_hostname="localhost") as secret:
                        assert get(secret) == CLIENT.encode(), option
    daemon.wait_for(rf'{CLIENT}.* "GET / HTTP/1\.1" 200', count=4)
    with connected(daemon.port()) as client:  # beside the proxy, from an address without trust
        client.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n")
        with pytest.raises(ConnectionError):
            get(client)
    daemon.wait_for(rf"Refused a connection of {CLIENT} \(proxy_protocol\)")
    assert daemon.stop() == 0


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_that_does_not_speak_it_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(
        "import api_hour\n\n\nclass Container(api_hour.Container):\n    def servers(self):\n"
        '        return {"any": api_hour.SocketServer(print)}\n'
    )
    (tmp_path / "main.yaml").write_text(
        'api_hour:\n  listeners:\n    any: {url: "tcp://127.0.0.1:0", proxy_protocol: true}\n'
    )
    with Daemon(tmp_path, "other:Container", "--config-dir", str(tmp_path)) as daemon:
        daemon.wait_for("listener any: proxy_protocol has no effect on a SocketServer: remove it")
        assert daemon.wait() == 1
