"""The channel: whole lines arrive in order, and each side notices the other's death."""

from api_hour.worker.channel import MAX_TEXT, Channel, Message


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
