"""Responses are read as HTTP frames them, however the bytes arrive."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from testkit.http import Connection


@contextmanager
def answering(data: bytes) -> Iterator[Connection]:
    """Yield a connection to a server that sends ``data`` in small pieces and then closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for start in range(0, len(data), 7):
                    accepted.sendall(data[start : start + 7])

        thread = Thread(target=serve)
        thread.start()
        with Connection(listener.getsockname()[1], 10) as connection:
            yield connection
        thread.join()


def test_the_chunks_of_a_body_are_joined() -> None:
    chunks = b"5\r\nHello\r\n7\r\n, World\r\n0\r\n\r\n"
    with answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks) as connection:
        response = connection.receive()
    assert response.body == b"Hello, World"
    assert not response.closes


def test_two_responses_that_arrive_together_are_separated() -> None:
    one = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
    two = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nbb"
    with answering(one + two) as connection:
        first, second = connection.receive(), connection.receive()
    assert (first.status, first.body, first.closes, first.size) == (200, b"a", False, len(one))
    assert (second.status, second.body, second.closes, second.size) == (404, b"bb", True, len(two))


def test_a_websocket_message_is_read_without_its_frame() -> None:
    with answering(b"HTTP/1.1 101 Switching\r\n\r\n\x81\x05Hello") as connection:
        assert connection.receive().body == b""
        assert connection.receive_frame() == b"Hello"


def test_a_response_that_ends_early_is_an_error() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort") as connection:
        with pytest.raises(EOFError, match="ended early, after b'short'"):
            connection.receive()
        assert connection.is_closed()
        assert not connection.is_open()
