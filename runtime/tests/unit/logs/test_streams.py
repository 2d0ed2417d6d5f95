"""A stream takes no time, whoever reads, and loses nothing while somebody does."""

import fcntl
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api_hour.logs import streams
from testkit.waiting import until

PAGE = 4096  # bytes that the pipes of these tests hold


@pytest.fixture
def pipe() -> Iterator[tuple[int, Any]]:
    """Return both ends of a pipe that holds one page."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PAGE)
    with os.fdopen(writing, "wb", buffering=0) as file:
        yield reading, file
    os.close(reading)


@pytest.fixture
def background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let threads drain, as in a worker."""
    monkeypatch.setattr(streams, "_in_background", True)


def read_all(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(descriptor, size)
    return data


def lines(count: int, first: int = 0) -> list[bytes]:
    return [b"%d %b\n" % (number, b"x" * 100) for number in range(first, first + count)]


def test_what_a_slow_reader_has_not_taken_follows_in_order(pipe: tuple[int, Any]) -> None:
    reading, file = pipe
    stream = streams.of(file)
    expected = b"".join(lines(2000))
    for line in lines(2000):
        stream.write(line)
    heard = os.read(reading, PAGE)
    while len(heard) < len(expected):
        stream.drain()
        heard += os.read(reading, PAGE)
    assert heard == expected


def test_in_a_worker_a_thread_drains_and_ends(pipe: tuple[int, Any], background: None) -> None:
    reading, file = pipe
    threads = threading.active_count()
    expected = b"".join(lines(2000))
    stream = streams.of(file)
    for line in lines(2000):
        stream.write(line)
    assert threading.active_count() == threads + 1
    assert read_all(reading, len(expected)) == expected
    until(lambda: threading.active_count() == threads, "the thread goes on")


def test_beyond_the_limit_the_newest_is_refused_and_nothing_waits_for_the_reader(
    pipe: tuple[int, Any],
) -> None:
    reading, file = pipe
    stream = streams.of(file)
    line = b"x" * 1023 + b"\n"
    for _ in range((streams.LIMIT + PAGE) // len(line)):
        stream.write(line)
    with pytest.raises(BlockingIOError, match=f"{streams.LIMIT} bytes wait for a reader"):
        stream.write(line)
    os.read(reading, PAGE)
    stream.write(line)


def test_a_reader_that_leaves_is_an_error_and_no_busy_thread(background: None) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", buffering=0) as file:
        stream = streams.of(file)
        threads = threading.active_count()
        for line in lines(2000):
            stream.write(line)
        os.close(reading)
        until(lambda: threading.active_count() == threads, "the thread goes on")
        stream.write(b"kept\n")
        assert isinstance(stream.error, BrokenPipeError)
    stream.forget()


def test_a_full_disk_is_an_error_until_there_is_room() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file:
        stream = streams.of(file)
        stream.write(b"kept\n")
        assert stream.error is not None
        assert "No space left" in str(stream.error)
    stream.forget()


def test_part_of_a_line_that_a_socket_takes_is_not_written_twice() -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with ours, theirs:
        stream = streams.of(ours)
        expected = b"".join(lines(1000))
        stream.write(expected)
        heard = b""
        while len(heard) < len(expected):
            heard += theirs.recv(PAGE)
            stream.drain()
        assert heard == expected


def test_two_descriptors_of_one_file_share_a_stream_that_outlives_both(
    pipe: tuple[int, Any],
) -> None:
    reading, file = pipe
    other = os.fdopen(os.dup(file.fileno()), "wb", buffering=0)
    stream = streams.of(file)
    assert streams.of(other) is stream
    other.close()
    with pytest.raises(OSError, match="closed file"):
        streams.of(other)
    stream.write(b"after\n")
    assert os.read(reading, PAGE) == b"after\n"


def test_without_a_file_there_is_an_oserror() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        streams.of(None)


def test_a_pipe_that_may_not_be_opened_again_is_asked_first(
    pipe: tuple[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, file = pipe

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    stream = streams.Stream(file.fileno(), stat.S_IFIFO)
    expected = b"".join(lines(100))
    stream.write(expected)
    heard = b""
    while len(heard) < len(expected):
        heard += os.read(reading, PAGE)
        stream.drain()
    assert heard == expected


def test_a_child_does_not_inherit_the_error_of_a_disk_that_was_full() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file:
        stream = streams.of(file)
        stream.write(b"kept\n")
    stream.forget()
    assert stream.error is None


def test_a_pipe_gets_whole_lines_and_a_file_gets_all_at_once(
    pipe: tuple[int, Any], tmp_path: Path
) -> None:
    reading, file = pipe
    data = b"".join(lines(90))
    stream = streams.of(file)
    stream.write(data)
    pieces: list[bytes] = []
    while len(b"".join(pieces)) < len(data):
        pieces.append(os.read(reading, PAGE))  # the pipe holds one piece
        stream.drain()
    assert b"".join(pieces) == data
    assert all(piece.endswith(b"\n") for piece in pieces)
    writes: list[bytes] = []

    def take(sent: bytes) -> int:
        writes.append(sent)
        return len(sent)

    with (tmp_path / "log").open("ab") as regular:
        stream = streams.of(regular)
        stream._send = take
        stream.write(data)
    assert writes == [data]
