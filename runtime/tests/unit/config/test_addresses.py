"""Addresses: the forms of a URL, and the error that names them."""

from typing import Any

import pytest

from api_hour.config import addresses
from api_hour.config.addresses import Address, KeyPair
from api_hour.exceptions import ConfigError

BAD = {
    "127.0.0.1:8000": "is not an address",
    "http://127.0.0.1:8000": "is not an address",
    "tcp://:8000": "is not an address",
    "tcp://127.0.0.1": "is not an address",
    "tcp://127.0.0.1:8000/path": "is not an address",
    "tcp://@127.0.0.1:8000": "is not an address",
    "tcp://127.0.\t0.1:8000": "is not an address",
    "tcp://127.0.0.1\n:8000": "is not an address",
    "tcp://me@127.0.0.1:8000": "is not an address",
    "tcp://127.0.0.1:65536": "Port out of range",
    "tcp://127.0.0.1:80?mode=0660": "mode belongs to a unix socket: remove it",
    "tcp://127.0.0.1:80?ipv6only=on": "ipv6only belongs to an IPv6 address: remove it",
    "tcp://[::]:80?ipv6only=perhaps": "ipv6only must be on or off, got 'perhaps'",
    "tcp://127.0.0.1:80?color=red": "color is not an option .known: url, certificate, ",
    "tcp://127.0.0.1:80?certificate": "write options as in ",
    "tcp://127.0.0.1:80?key=a.pem": "key needs a certificate: add one, or remove it",
    "tcp://127.0.0.1:80?ca=a.pem": "ca needs a certificate",
    "tcp://127.0.0.1:80?certificate=a.pem&verify=required": "verify needs the authorities",
    "tcp://127.0.0.1:80?certificate=a.pem&ca=b&verify=yes": "must be required or optional, got",
    "tcp://127.0.0.1:80?certificate=a.pem&tls_min=1.1": "tls_min must be 1.2 or 1.3, got '1.1'",
    "udp://127.0.0.1:80?certificate=a.pem": "certificate belongs to connections: remove it",
    "unix:/x?mode=660&mode=666": "mode is given twice: remove one",
    "unix:/x?mode=rw": "mode must be octal digits in quotes, as in '0660', got 'rw'",
    "unix:/x?mode=01777": "mode must be octal digits",
    "unix:/x?user=nobody-has-this-name": "user must be a user of this machine, got",
    "unix:/x?group=nobody-has-this-name": "group must be a group of this machine, got",
    "tcp://127.0.0.1:abc": "Port could not be cast",
    "tcp://[::1:8000": "Invalid IPv6 URL",
    "unix:": "names no path",
    "unix:@abstract": "names no path",
    "tcp://[::]:80?hosts=a,b:80": "hosts must be a list of host names without ports",
    "udp://127.0.0.1:80?max_connections=5": "max_connections belongs to connections: remove it",
    "unix:/" + "x" * 107: "is longer than 107 bytes",
}


@pytest.mark.parametrize("url", BAD)
def test_a_bad_address_is_refused_with_the_listeners_name(url: str) -> None:
    with pytest.raises(ConfigError, match=BAD[url]) as error:
        addresses.read("web", url)
    assert str(error.value).startswith("listener web: ")


def parsed(url: str) -> Address:
    [address] = addresses.read("web", url).addresses
    return address


@pytest.mark.parametrize(
    "url",
    ["tcp://127.0.0.1:80", "tcp://[::1]:8000", "tcp://[fe80::1%eth0]:80", "unix:/run/x.sock"],
)
def test_an_address_reads_as_it_was_written(url: str) -> None:
    assert str(parsed(url)) == url


def test_a_zone_may_be_written_as_in_a_url() -> None:
    assert parsed("tcp://[fe80::1%25eth0]:80") == parsed("tcp://[fe80::1%eth0]:80")


def test_options_stand_in_the_url_or_beside_it() -> None:
    in_url = "unix:/run/x.sock?mode=0640&user=0&group=root&max_connections=7"
    beside = {"url": "unix:/run/x.sock", "mode": "640", "user": "root", "group": 0}
    listener = addresses.read("web", beside | {"max_connections": 7})
    assert listener == addresses.read("web", in_url)
    [address] = listener.addresses
    assert (address.mode, address.user, address.group) == (0o640, 0, 0)


def test_hosts_are_a_list_or_a_text_with_commas() -> None:
    names = {"url": "tcp://127.0.0.1:80", "hosts": ["Ops.example.", "b"]}
    assert addresses.read("web", names).hosts == ("ops.example", "b")
    assert addresses.read("web", "tcp://127.0.0.1:80?hosts=ops.example,b").hosts == (
        "ops.example",
        "b",
    )
    assert addresses.read("web", names | {"hosts": []}).hosts == ()
    assert addresses.read("web", "tcp://127.0.0.1:80?hosts=").hosts == ()
    assert addresses.read("web", "tcp://127.0.0.1:80").hosts is None


def test_options_beside_a_list_hold_for_the_addresses_that_can_have_them() -> None:
    urls = ["tcp://[::]:80?ipv6only=on", "tcp://0.0.0.0:80", "unix:/run/x.sock"]
    listener = addresses.read("web", {"url": urls, "mode": "0600", "certificate": "a.pem"})
    assert [address.ipv6only for address in listener.addresses] == [True, False, False]
    assert [address.mode for address in listener.addresses] == [None, None, 0o600]
    assert listener.key_pairs == (KeyPair("a.pem"),)


def test_several_certificates_are_pairs() -> None:
    pairs = [{"certificate": "a.pem", "key": "a.key"}, {"certificate": "b.pem"}]
    listener = addresses.read("web", {"url": "tcp://127.0.0.1:80", "certificates": pairs})
    assert listener.key_pairs == (KeyPair("a.pem", "a.key"), KeyPair("b.pem"))


def test_a_listener_that_is_moved_keeps_its_options() -> None:
    beside = {"url": "unix:/run/x.sock", "mode": "0600", "max_connections": 7}
    listener = addresses.read("web", beside)
    moved = addresses.read("web", ["unix:/run/y.sock"], like=listener)
    assert (moved.max_connections, moved.addresses[0].mode) == (7, 0o600)
    assert addresses.read("web", ["tcp://[::]:80"], like=listener).addresses[0].mode is None


MISTAKES: dict[str, Any] = {
    "a list of URLs": [],
    "streams and of datagrams": ["tcp://127.0.0.1:80", "udp://127.0.0.1:80"],
    "ca is 'a' and 'b': the addresses of a listener share it": [
        "tcp://127.0.0.1:80?certificate=c&ca=a",
        "tcp://127.0.0.1:81?certificate=c&ca=b",
    ],
    "more than 32 addresses": [f"tcp://127.0.0.1:{port}" for port in range(1, 34)],
    "beside certificates: make it the first": {
        "url": "tcp://127.0.0.1:80",
        "certificate": "a",
        "certificates": [{"certificate": "b"}],
    },
    "certificates must be a list of mappings": {"url": "tcp://127.0.0.1:80", "certificates": ["a"]},
    "mode must be octal digits in quotes": {"url": "unix:/x", "mode": 660},
    "max_connections must be a whole number": {"url": "tcp://[::]:80", "max_connections": True},
}


@pytest.mark.parametrize("fault", MISTAKES)
def test_what_cannot_be_meant_together_is_refused(fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        addresses.read("web", MISTAKES[fault])


@pytest.mark.parametrize("name", ["", "a,b=c", "my http", "h\xe9", 80])
def test_a_name_that_a_successor_could_not_read_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match="a name must be text of letters, digits, dots, hyphens"):
        addresses.read(name, "tcp://127.0.0.1:0")


def test_check_takes_free_ports_of_this_machine_whatever_the_address() -> None:
    given = ["tcp://*:80", "unix:/run/nowhere/x.sock?mode=0660", "tcp://[::]:80?ipv6only=on"]
    found = addresses.read("web", given).anywhere().addresses
    assert {str(address) for address in found} == {"tcp://127.0.0.1:0"}
    assert not any(address.mode or address.ipv6only for address in found)
    [datagrams] = addresses.read("web", "unixgram:/run/nowhere/x.sock").anywhere().addresses
    assert str(datagrams) == "udp://127.0.0.1:0"


def test_a_plus_in_a_path_is_kept() -> None:
    assert addresses.read("web", "tcp://h:1?certificate=/a+b.pem").certificate == "/a+b.pem"
