"""TLS contexts: what the files must be, and which certificate a name gets."""

import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from api_hour.config import addresses, tls
from api_hour.exceptions import ConfigError


def write(folder: Path, name: str, *hosts: str, **named: Any) -> str:
    """Write a certificate and its key into one file; return its path."""
    made = trustme.CA().issue_cert(*hosts, **named)
    path = folder / name
    made.private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


def context(**options: Any) -> ssl.SSLContext | None:
    listener = addresses.read("web", {"url": "tcp://127.0.0.1:1", **options})
    return tls.context(listener, lambda made: made)


@pytest.fixture
def pem(tmp_path: Path) -> str:
    return write(tmp_path, "pair.pem", "localhost")


def test_without_a_certificate_there_is_no_tls() -> None:
    assert context() is None


def test_an_authority_means_that_a_certificate_is_required(pem: str, tmp_path: Path) -> None:
    ca = str(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(ca)
    for given, mode in {
        None: ssl.CERT_REQUIRED,
        "required": ssl.CERT_REQUIRED,
        "optional": ssl.CERT_OPTIONAL,
    }.items():
        made = context(certificate=pem, ca=ca, **({"verify": given} if given else {}))
        assert made is not None
        assert made.verify_mode is mode
        assert len(made.get_ca_certs()) == 1  # none of the system's
    made = context(certificate=pem)
    assert made is not None
    assert made.verify_mode is ssl.CERT_NONE


def test_every_name_of_a_certificate_is_found(tmp_path: Path) -> None:
    hosts = [
        "A.test",
        "*.b.test",
        "127.0.0.1",
        "x" * 60 + ".test",
        *[f"h{n}.test" for n in range(99)],
    ]
    pem = write(tmp_path, "many.pem", *hosts, common_name="cn.test")
    listener = addresses.read("web", {"url": "tcp://127.0.0.1:1", "certificate": pem})
    found = tls._by_name(listener, [ssl.create_default_context()])
    assert {*found} == {host.lower() for host in hosts if host != "127.0.0.1"}


def test_what_is_wrong_is_named(pem: str, tmp_path: Path) -> None:
    other = write(tmp_path, "other.pem", "other.test")
    nameless = write(tmp_path, "nameless.pem", common_name="nobody")
    (tmp_path / "text").write_text("no certificate")
    text, missing = str(tmp_path / "text"), str(tmp_path / "missing")
    faults: dict[str, dict[str, Any]] = {
        f"{missing} does not exist": {"certificate": missing},
        f"{missing} does not exist ": {"certificate": pem, "key": missing},
        f"{missing} does not exist  ": {"certificate": pem, "ca": missing},
        f"{pem} is not a good certificate with its key: ": {"certificate": pem, "key": other},
        f"{text} is not a good certificate with its key: ": {"certificate": text},
        f"{tmp_path} cannot be read: Is a directory": {"certificate": str(tmp_path)},
        f"{text} holds no good certificate of an authority: ": {"certificate": pem, "ca": text},
        "ciphers 'NONE' selects none: ": {"certificate": pem, "ciphers": "NONE"},
        f"{nameless} names no host in its subjectAltName": {
            "certificates": [{"certificate": pem}, {"certificate": nameless}]
        },
    }
    for fault, options in faults.items():
        with pytest.raises(ConfigError) as error:
            context(**options)
        assert str(error.value).startswith(f"listener web: {fault.rstrip(' ')}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_named(pem: str) -> None:
    Path(pem).chmod(0)
    with pytest.raises(ConfigError, match=rf"{pem} cannot be read: Permission denied"):
        context(certificate=pem)


def test_a_chain_with_a_comment_in_another_encoding_has_its_names(tmp_path: Path) -> None:
    first, second = (write(tmp_path, f"{n}.pem", f"{n}.test") for n in "ab")
    with open(second, "r+b") as file:
        text = file.read()
        file.seek(0)
        file.write("# Autorit\xe9\n".encode("latin-1") + text)
    assert context(certificates=[{"certificate": path} for path in (first, second)])


def test_a_certificate_that_no_client_would_get_is_named(tmp_path: Path) -> None:
    pairs = [{"certificate": write(tmp_path, f"{n}.pem", "same.test")} for n in "ab"]
    with pytest.raises(ConfigError, match=r"b\.pem names no host in its subjectAltName that an e"):
        context(certificates=pairs)


def test_a_client_gets_one_handshake_for_each_connection(pem: str) -> None:
    made = context(certificate=pem)
    assert made is not None
    assert made.options & ssl.OP_NO_RENEGOTIATION
