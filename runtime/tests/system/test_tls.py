"""TLS per listener: certificates are read again at a reload, and a broken one changes nothing."""

import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT

YAML = """\
api_hour:
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


def test_a_reload_shows_the_new_certificate_and_survives_a_broken_one(
    secure: Path, run: Callable[..., Daemon]
) -> None:
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
        assert daemon.stop() == 0


def test_a_missing_certificate_is_named(secure: Path) -> None:
    with Daemon(secure, "hello:Container") as daemon:
        assert daemon.wait() == 1
        assert "listener http: " in daemon.output
        assert "certificate.pem" in daemon.output
        assert "does not exist" in daemon.output


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
