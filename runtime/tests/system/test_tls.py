"""TLS per listener: certificates are read again at a reload, and a broken one changes nothing."""

import os
import signal
import socket
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT

YAML = """\
api_hour:
  drain_idle: 0
  listeners:
    http:
      url: tcp://127.0.0.1:0
      certificate: {folder}/certificate.pem
      key: {folder}/key.pem
"""


def issue(folder: Path, authority: trustme.CA) -> int:
    """Write a new certificate for localhost; return its serial number."""
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.private_key_pem.write_to_path(folder / "key.pem")
    made.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    return serial(ssl.PEM_cert_to_DER_cert((folder / "certificate.pem").read_text()))


def serial(certificate: bytes) -> int:
    return x509.load_der_x509_certificate(certificate).serial_number


def served(daemon: Daemon, authority: trustme.CA) -> int:
    """Return the serial number of the certificate that the daemon shows."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        socket.create_connection(("127.0.0.1", daemon.port()), TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert client.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
        return serial(client.getpeercert(binary_form=True) or b"")


@pytest.fixture
def secure(project: Path) -> Path:
    (project / "etc" / "hello").mkdir(parents=True)
    (project / "etc" / "hello" / "main.yaml").write_text(YAML.format(folder=project))
    return project


def test_a_reload_shows_the_new_certificate_and_survives_a_broken_one(secure: Path) -> None:
    authority = trustme.CA()
    first = issue(secure, authority)
    with Daemon(secure, "hello:Container") as daemon:
        daemon.ready()
        assert served(daemon, authority) == first
        second = issue(secure, authority)
        mark = daemon.mark()
        daemon.send(signal.SIGHUP)
        daemon.wait_for("left: exit code 0", after=mark)
        assert served(daemon, authority) == second
        (secure / "certificate.pem").write_text("no certificate")
        mark = daemon.mark()
        daemon.send(signal.SIGHUP)
        daemon.wait_for(
            "Reload failed, .* listener http: .*certificate.pem is not a good certificate",
            after=mark,
        )
        assert served(daemon, authority) == second
        # The certificate of a pair that is half renewed: a worker that is born now does not see it.
        key = (secure / "key.pem").read_bytes()
        third = issue(secure, authority)
        renewed = (secure / "key.pem").read_bytes()
        (secure / "key.pem").write_bytes(key)
        mark = daemon.mark()
        os.kill(daemon.workers()[0], signal.SIGKILL)
        daemon.ready(after=mark)
        assert served(daemon, authority) == second
        daemon.send(signal.SIGHUP)
        daemon.wait_for("Reload failed, .*main.yaml:4: listener http: .* with its key", after=mark)
        (secure / "key.pem").write_bytes(renewed)
        mark = daemon.mark()
        daemon.send(signal.SIGHUP)
        daemon.wait_for("left: exit code 0", after=mark)
        assert served(daemon, authority) == third
        assert daemon.stop() == 0


def test_a_missing_certificate_is_named(secure: Path) -> None:
    with Daemon(secure, "hello:Container") as daemon:
        assert daemon.wait() == 1
        assert "listener http: " in daemon.output
        assert "certificate.pem" in daemon.output
        assert "does not exist" in daemon.output


ALL = """\
import api_hour
from aiohttp import web


def name(source):
    certificate = source.get_extra_info("peercert")
    return certificate["subject"][-1][0][1] if certificate else "nobody"


async def index(request):
    return web.json_response({"peer": name(request)})


async def greet(reader, writer):
    await reader.readline()
    writer.write(name(writer).encode() + b"\\n")


class Container(api_hour.Container):
    def servers(self):
        def server():
            app = web.Application()
            app.router.add_get("/", index)
            return api_hour.HTTPServer(app)

        lines = api_hour.StreamServer(greet)
        return {"required": server(), "optional": server(), "modern": server(), "lines": lines}
"""
OF_ALL = """\
api_hour:
  fast: {fast}
  listeners:
    required:
      url: tcp://127.0.0.1:0
      certificates:
        - certificate: first.pem
        - certificate: second.pem
        - certificate: wild.pem
      ca: ca.pem
      verify: required
    optional: tcp://127.0.0.1:0?certificate=first.pem&ca=ca.pem&verify=optional&ciphers={ciphers}
    modern: tcp://127.0.0.1:0?certificate=first.pem&tls_min=1.3
    lines: tcp://127.0.0.1:0?certificate=first.pem&ca=ca.pem
"""
PEER = b'{"peer": "alice"}'
CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256"


class Client:
    """Somebody with a certificate of an authority, or without one."""

    def __init__(self, servers: trustme.CA, own: trustme.CA | None = None) -> None:
        self.context = ssl.create_default_context()
        servers.configure_trust(self.context)
        if own:
            own.issue_cert("alice@example.org", common_name="alice").configure_cert(self.context)

    def ask(
        self, port: int, line: bytes, host: str | None = "localhost"
    ) -> tuple[bytes, int] | None:
        """Return the last line of the answer and the certificate's number; None if there is none.

        With TLS 1.3 a client knows only when it reads that its certificate was refused.
        """
        try:
            with (
                socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain,
                self.context.wrap_socket(plain, server_hostname=host) as client,
            ):
                shown = serial(client.getpeercert(binary_form=True) or b"")
                client.sendall(line)
                lines = client.makefile("rb").read().splitlines()
                return (lines[-1], shown) if lines else None
        except (ssl.SSLError, ConnectionError):
            return None

    def get(self, port: int, host: str | None = "localhost") -> tuple[bytes, int] | None:
        return self.ask(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", host)


@pytest.mark.parametrize("fast", ["true", "false"])
def test_clients_are_verified_and_versions_ciphers_and_names_obeyed(
    fast: str, project: Path
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    serials = {}
    for file, host in {"first": "localhost", "second": "b.test", "wild": "*.c.test"}.items():
        made = authority.issue_cert(host)
        made.private_key_and_cert_chain_pem.write_to_path(project / f"{file}.pem")
        serials[file] = serial(ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode()))
    authority.cert_pem.write_to_path(project / "ca.pem")
    (project / "all.py").write_text(ALL)
    (project / "etc" / "all").mkdir(parents=True)
    (project / "etc/all/main.yaml").write_text(OF_ALL.format(fast=fast, ciphers=CIPHERS))
    nobody, alice = Client(authority), Client(authority, authority)
    mallory = Client(authority, stranger)
    with Daemon(project, "all:Container") as daemon:
        daemon.ready()
        ports = {name: daemon.port(name) for name in ("required", "optional", "modern", "lines")}
        # Client certificates, over HTTP and over any other protocol.
        for name in ("required", "lines"):
            line = b"hello\n" if name == "lines" else None
            for client in (nobody, mallory):
                for _ in range(3):
                    assert (
                        client.ask(ports[name], line) if line else client.get(ports[name])
                    ) is None
        assert answer(alice.get(ports["required"])) == PEER
        assert answer(alice.ask(ports["lines"], b"hello\n")) == b"alice"
        assert answer(alice.get(ports["optional"])) == PEER
        assert answer(nobody.get(ports["optional"])) == b'{"peer": "nobody"}'
        assert mallory.get(ports["optional"]) is None
        # Certificates by the name that a client asks for; the first one otherwise.
        for host, file in {"b.test": "second", "X.c.test": "wild", "localhost": "first"}.items():
            assert alice.get(ports["required"], host) == (PEER, serials[file]), host
        alice.context.check_hostname = False
        for other in ("other.test", "c.test", "a.b.c.test", None):
            assert alice.get(ports["required"], other) == (PEER, serials["first"]), other
        # Versions and ciphers.
        nobody.context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert nobody.get(ports["modern"]) is None
        assert nobody.get(ports["optional"]) is not None
        nobody.context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
        assert nobody.get(ports["optional"]) is None
        nobody.context.maximum_version = ssl.TLSVersion.TLSv1_3
        assert answer(nobody.get(ports["modern"])) == b'{"peer": "nobody"}'
        assert daemon.stop() == 0
        assert "ERROR" not in daemon.output


def answer(found: tuple[bytes, int] | None) -> bytes:
    return found[0] if found else b"no answer"


def test_the_hook_of_gunicorn_changes_the_context(secure: Path) -> None:
    hook = """\
def ssl_context(config, default_ssl_context_factory):
    import ssl

    context = default_ssl_context_factory()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
"""
    authority = trustme.CA()
    issue(secure, authority)
    (secure / "etc" / "hello" / "gunicorn.conf.py").write_text(hook)
    client = Client(authority)
    client.context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Daemon(secure, "hello:Container") as daemon:
        daemon.ready()
        assert client.get(daemon.port()) is None
        client.context.maximum_version = ssl.TLSVersion.TLSv1_3
        assert client.get(daemon.port()) is not None
        mark = daemon.mark()
        (secure / "etc/hello/gunicorn.conf.py").write_text(hook.replace("return context", "pass"))
        daemon.send(signal.SIGHUP)
        daemon.wait_for("Reload failed.* ssl_context must return an ssl.SSLContext", after=mark)
        assert daemon.stop() == 0


def test_a_library_that_never_hears_of_tls_is_not_given_a_certificate(secure: Path) -> None:
    issue(secure, trustme.CA())
    (secure / "hello.py").write_text(
        "import asyncio, api_hour\n\n\nclass Container(api_hour.Container):\n"
        "    def servers(self):\n        return {'http': api_hour.SocketServer(\n"
        "            lambda sock: asyncio.start_server(print, sock=sock))}\n"
    )
    with Daemon(secure, "hello:Container") as daemon:
        assert daemon.wait() == 1
        assert "listener http: certificate has no effect on a SocketServer: " in daemon.output


def test_a_client_without_tls_disturbs_no_other(secure: Path) -> None:
    authority = trustme.CA()
    first = issue(secure, authority)
    with Daemon(secure, "hello:Container") as daemon:
        daemon.ready()
        with socket.create_connection(("127.0.0.1", daemon.port()), TIMEOUT) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            plain.settimeout(TIMEOUT)
            while plain.recv(4096):
                pass
        assert served(daemon, authority) == first
        assert daemon.stop() == 0
        assert "ERROR" not in daemon.output
