"""Listeners: the sockets of an address, and the error that names the cure."""

import errno
import fcntl
import os
import select
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from api_hour.config import addresses
from api_hour.exceptions import ConfigError
from api_hour.master import listeners, systemd
from api_hour.master.listeners import Listener, hand_over, open_all


def opened(slots: int = 0, **given: str | list[str]) -> list[Listener]:
    settings = {name: addresses.read(name, urls) for name, urls in given.items()}
    return open_all(settings, 128, slots=slots)


LOOPBACK = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


def port(listener: Listener) -> int:
    return int(next(iter(listener)).getsockname()[1])


def test_port_zero_shows_the_port_that_was_given() -> None:
    [listener] = opened(web="tcp://127.0.0.1:0")
    assert listener.urls() == [f"tcp://127.0.0.1:{port(listener)}"]
    listener.close()


def test_an_ipv6_listener_accepts() -> None:
    [listener] = opened(web="tcp://[::1]:0")
    with socket.create_connection(("::1", port(listener))):
        next(iter(listener)).accept()[0].close()
    listener.close()


def test_a_port_in_use_closes_what_was_opened_before_it(tmp_path: Path) -> None:
    first = f"unix:{tmp_path}/first.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        second = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"listener second: tcp://.* is in use: stop what"):
            opened(first=first, second=second)
    assert not (tmp_path / "first.sock").exists()


def test_who_has_an_address_is_named(tmp_path: Path) -> None:
    us = rf"stop what listens there \(.+, process {os.getpid()}\), or choose another"
    for scheme, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")):
            with socket.socket(family, kind) as taken:
                taken.bind((host, 0))
                if scheme == "tcp":
                    taken.listen()
                with pytest.raises(ConfigError, match=us):
                    opened(web=f"{scheme}://127.0.0.1:{taken.getsockname()[1]}")
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(f"{tmp_path}/web.sock")
        taken.listen()
        with pytest.raises(ConfigError, match=us):
            opened(web=f"unix:{tmp_path}/web.sock")


def test_a_socket_file_left_by_a_killed_master_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    [listener] = opened(web=f"unix:{path}")
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


def test_a_socket_whose_backlog_is_full_is_in_use_and_the_start_does_not_wait(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "web.sock")
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(path)
        stopped.listen(0)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            with pytest.raises(ConfigError, match="is in use: stop what listens there"):
                opened(web=f"unix:{path}")


def test_a_socket_that_is_bound_and_does_not_listen_yet_is_not_stale(tmp_path: Path) -> None:
    """Its owner holds the lock of the folder until it listens."""
    path = tmp_path / "web.sock"
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    failed: list[ConfigError] = []

    def start() -> None:
        try:
            opened(web=f"unix:{path}")
        except ConfigError as error:
            failed.append(error)

    with socket.socket(socket.AF_UNIX) as owner:
        owner.bind(str(path))
        other = threading.Thread(target=start)
        other.start()
        other.join(0.2)  # without the lock it would have taken the path by now
        owner.listen()
        os.close(folder)
        other.join()
        assert "is in use" in str(failed)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_the_file_of_another_daemon_at_the_path_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    [first] = opened(web=f"unix:{path}")
    path.unlink()  # by a cleaner of /tmp
    [second] = opened(web=f"unix:{path}")
    first.close(unlink=True)
    assert path.is_socket()
    second.close(unlink=True)
    assert not path.exists()


def test_the_file_of_a_descriptor_belongs_to_whoever_gave_it(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(str(path))
        [listener] = opened(web=f"fd://{given.fileno()}")
        listener.close(unlink=True)
        assert path.is_socket()


def test_a_connection_as_a_listener_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(ConfigError, match=r"web: fd://\d+ cannot listen: it is a conn"):
            opened(web=f"fd://{ours.fileno()}")
        copy = os.dup(ours.fileno())
        monkeypatch.setattr(systemd, "activated", lambda: [("web", copy)])
        with pytest.raises(ConfigError, match=r"the inherited socket cannot listen: .*Accept=no"):
            opened(web="tcp://127.0.0.1:1")


def test_a_missing_folder_and_a_foreign_address_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lies in a folder that does not exist"):
        opened(web=f"unix:{tmp_path}/none/web.sock")
    with pytest.raises(ConfigError, match="is not an address of this machine"):
        opened(web="tcp://203.0.113.1:0")


def test_everywhere_means_both_families_and_ipv6only_does_not() -> None:
    for host in ("[::]", "*"):
        [listener] = opened(web=f"tcp://{host}:0")
        for target in ("127.0.0.1", "::1"):
            socket.create_connection((target, port(listener))).close()
        listener.close()
    [listener] = opened(web="tcp://[::]:0?ipv6only=on")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port(listener)))
    # So IPv4 is left to another address of the same port.
    [beside] = opened(web=f"tcp://0.0.0.0:{port(listener)}")
    for either in (listener, beside):
        either.close()


def test_a_machine_without_ipv6_serves_ipv4_everywhere_and_names_the_lack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = socket.socket

    def without_ipv6(family: int = -1, *arguments: Any, **named: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *arguments, **named)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    [listener] = opened(web="tcp://*:0")
    assert listener.urls() == [f"tcp://0.0.0.0:{port(listener)}"]
    listener.close()
    with pytest.raises(ConfigError, match=r"listener web: tcp://\[::\]:0 needs IPv6, which this"):
        opened(web="tcp://[::]:0")


def test_an_address_of_a_link_is_bound_and_shown_with_its_zone() -> None:
    lines = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    links = [(line[0], line[5]) for line in lines if line[3] == "20"]  # the scope of a link
    if not links:
        pytest.skip("no interface has an address of its link")
    digits, zone = links[0]
    host = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
    for given in (f"{host}%{zone}", f"{host}%25{zone}"):
        [listener] = opened(2, web=f"tcp://[{given}]:0")
        assert listener.urls() == [f"tcp://[{host}%{zone}]:{port(listener)}"]
        listener.close()


def test_a_name_binds_every_address_that_it_has() -> None:
    found = {where[0] for *_, where in socket.getaddrinfo("localhost", 0)}
    [listener] = opened(web="tcp://localhost:0")
    assert {sock.getsockname()[0] for sock in listener} == found
    assert len({sock.getsockname()[1] for sock in listener}) == 1
    listener.close()


@pytest.mark.parametrize("slots", [0, 2])
def test_one_address_for_two_listeners_is_refused_in_any_notation(slots: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    for other in (f"tcp://127.0.0.1:{number}", f"tcp://[::ffff:127.0.0.1]:{number}"):
        with pytest.raises(ConfigError, match=r"listener admin: .* listener web "):
            opened(slots, web=f"tcp://127.0.0.1:{number}", admin=other)
    with pytest.raises(ConfigError, match=r"by this daemon: listener web listens at tcp://\[::1\]"):
        opened(slots, web=[f"tcp://[{host}]:{number}" for host in ("::1", "0:0:0:0:0:0:0:1")])
    with pytest.raises(ConfigError, match=r"by this daemon: listener web listens at tcp://\[::\]"):
        opened(slots, web=f"tcp://*:{number}", admin=f"tcp://0.0.0.0:{number}")


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_slots_share_an_address_with_each_other_and_with_nobody_else(scheme: str) -> None:
    [listener] = opened(3, web=f"{scheme}://127.0.0.1:0")
    assert listener.slot_count == 3
    assert listener.shares
    with pytest.raises(ConfigError, match="is in use: stop what listens there"):
        opened(3, web=listener.urls()[0])
    where = ("127.0.0.1", port(listener))
    clients = [
        socket.socket(type=socket.SOCK_STREAM if scheme == "tcp" else socket.SOCK_DGRAM)
        for _ in range(64)
    ]
    for client in clients:
        client.connect(where)
        if scheme == "udp":
            client.send(b"one")
    assert len(select.select([*listener], [], [], 0)[0]) == 3
    for client in clients:
        client.close()
    listener.close()


def test_every_address_of_a_listener_has_slots() -> None:
    [listener] = opened(2, web=["tcp://127.0.0.1:0", "tcp://[::1]:0"])
    assert listener.slot_count == 2
    assert [len(listener.of_slot(slot)) for slot in (0, 1, 2)] == [2, 2, 2]
    assert listener.of_slot(2) == listener.of_slot(0) == listener.beside(0)
    assert len(listener.urls()) == 2
    assert len({*listener}) == 4
    listener.close()


def test_a_socket_file_has_its_mode_and_owner_and_the_umask_is_as_before(tmp_path: Path) -> None:
    before = os.umask(0o027)
    path = tmp_path / "web.sock"
    try:
        [listener] = opened(web=f"unix:{path}?mode=0602&group={os.getegid()}")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o602
    listener.close(unlink=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_root_gives_a_socket_file_away_and_only_that_file(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    [listener] = opened(web=f"unix:{path}?mode=0660&user=65534&group=65533")
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 65533, 0o660)
    listener.close(unlink=True)
    # Somebody who may write to the folder puts a link in its place.
    precious = tmp_path / "precious"
    precious.write_text("root's")
    address = addresses.read("web", f"unix:{path}?user=65534").addresses[0]
    path.symlink_to(precious)
    with pytest.raises(OSError, match=r"Too many levels|was replaced"):
        listeners._give_away(address, address.path)
    assert precious.stat().st_uid == 0


def test_sockets_are_handed_over_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    urls: list[str] = ["tcp://127.0.0.1:0", "tcp://[::1]:0"]
    [listener] = opened(2, web=urls)
    items = [item.split("=") for item in hand_over([listener])["API_HOUR_FDS"].split(",")]
    copies = ",".join(f"{name}={os.dup(int(fd))}={owner}" for name, fd, owner in items)
    monkeypatch.setenv("API_HOUR_FDS", copies)
    [successor] = opened(2, web=urls)
    assert successor.urls() == listener.urls()
    assert successor.slot_count == 2
    assert not any(sock.get_inheritable() for sock in successor)
    for either in (listener, successor):
        either.close()


def test_a_successor_that_fails_leaves_the_files_of_its_predecessor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old.sock", tmp_path / "new.sock"
    [before] = opened(web=f"unix:{old}")
    [item] = hand_over([before])["API_HOUR_FDS"].split(",")
    name, fd, file = item.split("=")
    monkeypatch.setenv("API_HOUR_FDS", f"{name}={os.dup(int(fd))}={file}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"listener admin: .* is in use"):
            opened(web=f"unix:{old}", beside=f"unix:{new}", admin=busy)
    assert old.is_socket()
    assert not new.exists()
    # One that takes over removes the file in the end.
    monkeypatch.setenv("API_HOUR_FDS", f"{name}={os.dup(int(fd))}={file}")
    [after] = opened(web=f"unix:{old}")
    before.close()
    after.close(unlink=True)
    assert not old.exists()


def test_the_sockets_of_one_name_in_systemd_are_addresses_of_one_listener(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = [socket.create_server((host, 0), family=family) for host, family in LOOPBACK.items()]
    ports = [sock.getsockname()[1] for sock in made]
    given = [("hello.socket", sock.detach()) for sock in made]  # the unit's name, not a listener's
    monkeypatch.setattr(systemd, "activated", lambda: given)
    [listener] = opened(web="tcp://127.0.0.1:1")
    assert listener.urls() == [f"tcp://127.0.0.1:{ports[0]}", f"tcp://[::1]:{ports[1]}"]
    assert listener.slot_count == 1
    assert len(listener.of_slot(1)) == 2
    listener.close(unlink=True)


def test_a_socket_of_systemd_that_carries_something_else_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    monkeypatch.setattr(systemd, "activated", lambda: [("web", sock.detach())])
    with pytest.raises(ConfigError, match="listener web: the inherited socket is not tcp"):
        opened(web="tcp://127.0.0.1:1")
