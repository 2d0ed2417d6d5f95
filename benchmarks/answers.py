"""Whether a contender answers right; nothing is measured of one that does not."""

from benchmarks.case import Case
from testkit.http import Connection, Response


class WrongAnswer(Exception):
    """A contender does not do what it is compared for."""


def check(port: int, case: Case) -> Response:
    """Ask twice on one connection and return the last answer; raise WrongAnswer saying what it is.

    A case that ends the connection is asked once, and the end is waited for.
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
    _expect(not response.closes or not case.keeps, case, "the connection is not kept")
    _expect(case.answer in (None, response.body), case, f"body {response.body[:200]!r}")
    if case.frame:
        connection.send_frame(case.frame)
        echo = connection.receive_frame()
        _expect(echo == case.frame, case, f"message {echo!r}")
    return response


def _expect(right: bool, case: Case, got: str) -> None:
    if not right:
        raise WrongAnswer(f"{case.method} {case.path}: {got}")
