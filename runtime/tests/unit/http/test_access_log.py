"""The access log tells people and machines the same, whatever the client has sent."""

import logging
import re
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from api_hour.http.access_log import AccessLogger
from api_hour.logs.formatters import JSONFormatter, TextFormatter
from testkit.log_lines import HEAD, read

LOGGER = logging.getLogger("test_access")


class Kept(logging.Handler):
    """A handler that keeps the records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.records.append(record)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Return what keeps the records of LOGGER."""
    handler = Kept()
    monkeypatch.setattr(LOGGER, "handlers", [handler])
    monkeypatch.setattr(LOGGER, "propagate", False)
    monkeypatch.setattr(LOGGER, "level", logging.INFO)
    return handler


def record(kept: Kept, **headers: str) -> Any:
    """Return the record of one answer."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = make_mocked_request("GET", "/a?b=c", names)
    response = web.Response(text="Hello", status=201)
    response._body_length = 165
    AccessLogger(LOGGER, "").log(request, response, 0.00125)
    return kept.records.pop()


def test_people_read_one_line(kept: Kept) -> None:
    told = record(kept, User_Agent="curl/8", Referer="http://127.0.0.1/")
    line = '- "GET /a\\?b=c HTTP/1.1" 201 165 0.001250 "http://127.0.0.1/" "curl/8"'
    assert re.fullmatch(HEAD + line, TextFormatter().format(told))


def test_what_the_client_does_not_say_is_a_dash(kept: Kept) -> None:
    assert TextFormatter().format(record(kept)).endswith(' 201 165 0.001250 "-" "-"')


def test_machines_read_fields(kept: Kept) -> None:
    line = read(JSONFormatter().format(record(kept, User_Agent="curl/8")))
    for name in ("time", "level", "logger", "pid", "message"):
        del line[name]
    assert line == {
        "remote": "-",
        "method": "GET",
        "path": "/a?b=c",
        "status": 201,
        "bytes": 165,
        "seconds": 0.00125,
        "user_agent": "curl/8",
    }


def test_the_record_is_like_that_of_any_logger(kept: Kept) -> None:
    LOGGER.info("a line")
    other, told = kept.records.pop(), record(kept)
    assert vars(other).keys() <= vars(told).keys()
    for name in ("name", "levelno", "levelname", "process", "processName", "threadName"):
        assert getattr(told, name) == getattr(other, name)
    assert 0 <= told.created - other.created < 60
    assert 0 <= told.msecs < 1000


def test_what_was_asked_is_told_as_it_was_written_but_no_password(kept: Kept) -> None:
    paths = {"/%41?b=%20": "/%41?b=%20", "*": "*", "http://me:secret@x/a?b=c": "/a?b=c"}
    for asked, shown in paths.items():
        request = make_mocked_request("GET", asked)
        AccessLogger(LOGGER, "").log(request, web.Response(), 0.0)
        assert kept.records.pop().__dict__["path"] == shown


def test_a_line_cannot_be_forged(kept: Kept) -> None:
    forged = 'x"\r\n[2026-11-22 08:00:00.000 +0000] [1] [INFO] [root] all is well'
    line = TextFormatter().format(record(kept, User_Agent=forged))
    assert line.isprintable()
    read(JSONFormatter().format(record(kept, User_Agent=forged)))


def test_it_is_off_where_nobody_listens(kept: Kept) -> None:
    assert AccessLogger(LOGGER, "").enabled
    LOGGER.setLevel(logging.WARNING)
    assert not AccessLogger(LOGGER, "").enabled
