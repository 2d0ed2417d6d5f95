"""Addresses: the forms of a URL, and the error that names them."""

import pytest

from api_hour.config.addresses import Address
from api_hour.exceptions import ConfigError

BAD = {
    "127.0.0.1:8000": "is not an address",
    "http://127.0.0.1:8000": "is not an address",
    "tcp://:8000": "is not an address",
    "tcp://127.0.0.1": "is not an address",
    "tcp://127.0.0.1:8000/path": "is not an address",
    "tcp://me@127.0.0.1:8000": "is not an address",
    "tcp://127.0.0.1:99999": "Port out of range",
    "tcp://127.0.0.1:abc": "Port could not be cast",
    "tcp://[::1:8000": "Invalid IPv6 URL",
    "unix:": "names no path",
    "unix:/" + "x" * 107: "is longer than 107 bytes",
}


@pytest.mark.parametrize("url", BAD)
def test_a_bad_address_is_refused_with_the_listeners_name(url: str) -> None:
    with pytest.raises(ConfigError, match=BAD[url]) as error:
        Address.parse("web", url)
    assert str(error.value).startswith("listener web: ")


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:80", "tcp://[::1]:8000", "unix:/run/x.sock"])
def test_an_address_reads_as_it_was_written(url: str) -> None:
    assert str(Address.parse("web", url)) == url
