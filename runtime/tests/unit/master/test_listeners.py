"""Listeners: the sockets of an address, and the error that names the cure."""

import os
import socket
from pathlib import Path

import pytest

from api_hour.config.addresses import Address
from api_hour.exceptions import ConfigError
from api_hour.master.listeners import Listener, hand_over, open_all


def opened(**urls: str) -> list[Listener]:
    addresses = {name: Address.parse(name, url) for name, url in urls.items()}
    return open_all(addresses, 10)


def test_port_zero_shows_the_port_that_was_given() -> None:
    [listener] = open_all({"web": Address.parse("web", "tcp://127.0.0.1:0")}, 10)
    assert str(listener) == f"tcp://127.0.0.1:{listener.sock.getsockname()[1]}"
    listener.close()


def test_an_ipv6_listener_accepts() -> None:
    [listener] = open_all({"web": Address.parse("web", "tcp://[::1]:0")}, 10)
    with socket.create_connection(listener.sock.getsockname()[:2]):
        listener.sock.accept()[0].close()
    listener.close()


def test_a_port_in_use_closes_what_was_opened_before_it(tmp_path: Path) -> None:
    first = f"unix:{tmp_path}/first.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        second = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"listener second: tcp://.* is in use: stop what"):
            opened(first=first, second=second)
    assert not (tmp_path / "first.sock").exists()


def test_a_socket_file_left_by_a_killed_master_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    [listener] = open_all({"web": Address.parse("web", f"unix:{path}")}, 10)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close(unlink=True)
    assert not path.exists()


def test_a_socket_file_in_use_and_a_file_of_another_kind_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(ConfigError, match="is in use: stop what listens there"):
            opened(web=f"unix:{path}")
        assert path.is_socket()
    plain = tmp_path / "plain"
    plain.write_text("precious")
    with pytest.raises(ConfigError, match="exists and is not a socket: remove the file"):
        opened(web=f"unix:{plain}")
    assert plain.read_text() == "precious"


def test_a_missing_folder_and_a_foreign_address_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lies in a folder that does not exist"):
        opened(web=f"unix:{tmp_path}/none/web.sock")
    with pytest.raises(ConfigError, match="is not an address of this machine"):
        opened(web="tcp://203.0.113.1:0")


def test_sockets_are_handed_over_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    address = Address.parse("web", "tcp://127.0.0.1:0")
    [listener] = open_all({"web": address}, 10)
    copy = os.dup(listener.fileno())
    environ = hand_over([listener])
    monkeypatch.setenv(
        "API_HOUR_FDS", environ["API_HOUR_FDS"].replace(str(listener.fileno()), str(copy))
    )
    [successor] = open_all({"web": address}, 10)
    assert str(successor) == str(listener)
    assert not successor.sock.get_inheritable()
    for either in (listener, successor):
        either.close()
