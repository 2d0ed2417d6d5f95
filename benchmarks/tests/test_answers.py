"""A wrong answer is refused, and the reason says what is wrong."""

import pytest

from benchmarks import answers
from benchmarks.case import CASES
from benchmarks.tests.conftest import Prepare


def test_a_right_answer_is_returned(prepare: Prepare) -> None:
    with prepare().start() as server:
        response = answers.check(server.port, CASES["index"])
    assert response.status == 200
    assert response.body == b'{"message":"Hello, World!"}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n"
    assert response.size == len(head + response.body)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("status", "GET /index: status 500"),
        ("type", "GET /index: Content-Type 'text/plain'"),
        ("body", """GET /index: body b'{"message": "Goodbye"}'"""),
        ("spaces", """GET /index: body b'{"message": "Hello, World!"}'"""),
        ("close", "GET /index: the connection is not kept"),
        ("hangup", "/index: EOFError: the connection ended early, after b''"),
        ("later=2", "GET /index: status 500"),
    ],
)
def test_a_wrong_answer_is_refused_with_what_is_wrong(
    prepare: Prepare, fault: str, complaint: str
) -> None:
    with prepare(fault).start() as server, pytest.raises(answers.WrongAnswer) as error:
        answers.check(server.port, CASES["index"])
    assert str(error.value) == complaint
