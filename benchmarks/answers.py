"""Checks a contender's answers: nothing is measured of a contender that answers wrong."""

from benchmarks.case import Case
from testkit.http import Connection, Response


class WrongAnswer(Exception):
    """A contender does not answer as every contender must."""


def check(port: int, case: Case) -> Response:
    """Ask twice on one connection; return the last answer, or raise WrongAnswer that says why.

    Ask once where the case makes the server close the connection, and check that it does.
    """
    try:
        with Connection(port) as connection:
            response = _ask(connection, case)
            if not case.keeps:
                _expect(connection.is_closed(), case, "the connection stays open")
            elif not case.frame:
                response = _ask(connection, case)
            return response
    except (EOFError, OSError, ValueError, LookupError) as error:
        raise WrongAnswer(f"{case.path}: {type(error).__name__}: {error}") from error


def _ask(connection: Connection, case: Case) -> Response:
    connection.send(case.request)
    response = connection.receive()
    _expect(response.status == case.status, case, f"status {response.status}")
    media = response.headers.get("content-type", "")
    _expect(media.lower().startswith(case.content_type), case, f"Content-Type {media!r}")
    _expect(not response.closes or not case.keeps, case, "the connection is not kept alive")
    _expect(case.answer in (None, response.body), case, f"body {response.body[:200]!r}")
    if case.frame:
        connection.send_frame(case.frame)
        echo = connection.receive_frame()
        _expect(echo == case.frame, case, f"message {echo!r}")
    return response


def _expect(condition: bool, case: Case, got: str) -> None:
    if not condition:
        raise WrongAnswer(f"{case.method} {case.path}: {got}")
