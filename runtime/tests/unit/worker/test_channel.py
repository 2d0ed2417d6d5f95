"""The channel: whole lines arrive in order, and each side notices the other's death."""

import os
import socket

import pytest

from api_hour.worker.channel import MAX_LINE, MAX_LINES, MAX_TEXT, REFILL, Channel, Message


def test_messages_arrive_in_order_with_their_reasons() -> None:
    left, right = Channel.pair()
    left.send(Message.FAILED, "line one\nline two")
    left.send(Message.READY)
    assert right.receive() == [(Message.FAILED, "line one\nline two"), (Message.READY, "")]
    assert not right.closed
    left.close()
    right.close()


def test_a_last_message_arrives_before_the_end() -> None:
    left, right = Channel.pair()
    left.send(Message.FAILED, "why")
    left.close()
    assert right.receive() == [(Message.FAILED, "why")]
    assert right.closed
    right.close()


def test_an_incomplete_line_waits_for_its_rest() -> None:
    left, right = Channel.pair()
    left._sock.send(b'["rea')
    assert right.receive() == []
    left._sock.send(b'dy", ""]\n')
    assert right.receive() == [(Message.READY, "")]
    left.close()
    right.close()


def test_a_reason_is_bounded_and_a_dead_receiver_is_no_error() -> None:
    left, right = Channel.pair()
    left.send(Message.FAILED, "x" * 1_000_000)
    [(_, text)] = right.receive()
    assert len(text) == MAX_TEXT
    right.close()
    left.send(Message.READY)
    assert left.closed
    left.close()


@pytest.mark.parametrize(
    "line",
    [
        *(b"garbage", b"", b"7", b'"ready"', b"{}", b'["ready"]', b'["ready", "", ""]'),
        *(b'["nonsense", ""]', b'["ready", 7]', b'[["ready"], ""]', b"\xff", b"[" * 20_000),
    ],
)
def test_what_is_no_message_breaks_the_channel_and_raises_nothing(line: bytes) -> None:
    left, right = Channel.pair()
    right.send(Message.READY)
    right._sock.send(line + b"\n")
    right.send(Message.READY)
    assert left.receive() == [(Message.READY, "")]
    assert left.broken.startswith("sent what is not a message: ")
    assert left.receive() == []
    left.close()
    right.close()


def test_a_stream_without_lines_breaks_the_channel() -> None:
    left, right = Channel.pair()
    for _ in range(MAX_LINE // 1000 + 1):
        right._sock.send(b"x" * 1000)
        left.receive()
    assert left.broken == "sent a line without an end"
    left.close()
    right.close()


def test_a_flood_at_once_breaks_the_channel() -> None:
    left, right = Channel.pair()
    right._sock.send(b'["replace", ""]\n' * (MAX_LINES + 1))
    assert left.receive() == []
    assert left.broken == "sent more than 500 messages, and 10 a second"
    left.close()
    right.close()


@pytest.mark.parametrize("cut", [False, True])
def test_a_flood_breaks_the_channel_however_often_the_receiver_looks(cut: bool) -> None:
    left, right = Channel.pair()
    received = wakes = 0
    while not left.broken and wakes < 2 * MAX_LINES:
        right._sock.send(b"[" if cut else b'["replace", ""]\n')
        received += len(left.receive())
        wakes += 1
    assert left.broken == "sent more than 500 messages, and 10 a second"
    assert received < MAX_LINES
    left.close()
    right.close()


def test_the_budget_of_messages_refills() -> None:
    left, right = Channel.pair()
    for _ in range(2 * MAX_LINES):
        right.send(Message.REPLACE)
        assert left.receive() == [(Message.REPLACE, "")]
        left._spent_at -= 2 / REFILL  # as if this were the pace of the sender
    assert not left.broken
    left.close()
    right.close()


def test_the_master_takes_no_descriptors() -> None:
    left, right = Channel.pair()
    read, write = os.pipe()
    socket.send_fds(right._sock, [b'["ready", ""]\n'], [write])
    os.close(write)
    assert left.receive() == [(Message.READY, "")]
    assert os.read(read, 1) == b""  # no copy of the other end is left
    os.close(read)
    left.close()
    right.close()
