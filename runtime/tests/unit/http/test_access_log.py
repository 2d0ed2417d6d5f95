"""The access log tells people and machines the same, whatever the client has sent."""

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.test_utils import make_mocked_request

from api_hour.http.access_log import AccessLogger
from api_hour.logs import observers, request_id, streams
from api_hour.logs.formatters import JSONFormatter, TextFormatter
from testkit.log_lines import HEAD, read
from testkit.wire import ours, request, run_on

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
    logged = record(kept, User_Agent="curl/8", Referer="http://127.0.0.1/")
    line = '- "GET /a\\?b=c HTTP/1.1" 201 165 0.001250 "http://127.0.0.1/" "curl/8"'
    assert re.fullmatch(HEAD + line, TextFormatter().format(logged))


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
    other, logged = kept.records.pop(), record(kept)
    assert vars(other).keys() <= vars(logged).keys()
    for name in ("name", "levelno", "levelname", "process", "processName", "threadName"):
        assert getattr(logged, name) == getattr(other, name)
    assert 0 <= logged.created - other.created < 60
    assert 0 <= logged.msecs < 1000


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


def test_no_header_can_shift_the_fields_behind_it(kept: Kept) -> None:
    logged = record(kept, Referer='x" 200 1 0.1 "y', User_Agent='a\\"b')
    line = TextFormatter().format(logged)
    assert line.endswith(r' 0.001250 "x\" 200 1 0.1 \"y" "a\\\"b"')
    assert len(re.findall(r'"(?:[^"\\]|\\.)*"', line)) == 3
    asked = make_mocked_request("GET", '/a"b')
    AccessLogger(LOGGER, "").log(asked, web.Response(), 0.0)
    assert '"GET /a\\"b HTTP/1.1" ' in TextFormatter().format(kept.records.pop())
    assert read(JSONFormatter().format(logged))["referer"] == 'x" 200 1 0.1 "y'


ODD = [
    *("\x1b[2J", "\x9b2J", "\x00", "\x7f", "\x85", "\r\n", "\t", "\x08", "\u2028", "\u2029"),
    *("\u202e", "\u2066", "\u200f", "\ufeff", "\U000e0041", '" ', "\\", "' - ["),
]


@pytest.mark.parametrize("field", ["path", "referer", "user_agent"])
def test_no_field_of_a_client_moves_a_terminal_or_turns_a_line(kept: Kept, field: str) -> None:
    for odd in ODD:
        sent = f"/{odd}x"
        headers = {} if field == "path" else {field.replace("_", "-"): sent}
        asked = make_mocked_request("GET", sent if field == "path" else "/", headers)
        AccessLogger(LOGGER, "").log(asked, web.Response(), 0.0)
        logged = kept.records.pop()
        line = TextFormatter().format(logged)
        assert line.isprintable()
        assert len(re.findall(r'"(?:[^"\\]|\\.)*"', line)) == 3
        written = JSONFormatter().format(logged)
        assert written.isascii()
        assert written.isprintable()
        assert read(written)[field] == sent


BOTH_PATHS = pytest.mark.parametrize("fast", [True, False])
ACCESS = "gunicorn.access"


def application() -> web.Application:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="answered")

    async def fail(request: web.Request) -> web.Response:
        raise ValueError("as it should")

    app = web.Application()
    for path in ("/", "/health", "/health/live", "/healthy"):
        app.router.add_get(path, answer)
    app.router.add_get("/fail", fail)
    return app


@BOTH_PATHS
def test_paths_are_left_out(fast: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        options: dict[str, Any] = {"fast": fast, "access_log_skip": ["/health/", "/"]}
        async with ours(application(), access_log=True, **options) as service:
            for path in ("/", "/?a=1", "/health", "/health/live", "/healthy", "/health/none"):
                await service.ask(request(path))

    with caplog.at_level(logging.INFO, ACCESS):
        run_on("asyncio", scenario())
    told = [line for line in caplog.messages if "GET" in line]
    assert [line.split()[2] for line in told] == ["/health", "/healthy"]


class Raising(AbstractAccessLogger):
    """An access logger that fails as a project's own may."""

    error: BaseException = ValueError("no log")

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Fail."""
        raise self.error


class RaisingHandler(logging.Handler):
    """A handler that fails outside of what logging catches."""

    def emit(self, record: logging.LogRecord) -> None:
        """Fail."""
        raise SystemExit("no handler")


def refuse(record: logging.LogRecord) -> bool:
    raise RuntimeError("no filter")


@pytest.fixture
def faults() -> Iterator[dict[str, int]]:
    """Return the counts of faults."""
    observers._forget()
    yield observers.counts
    observers._forget()


@BOTH_PATHS
@pytest.mark.parametrize("error", [ValueError("no log"), SystemExit(3), KeyboardInterrupt()])
def test_an_access_logger_that_raises_costs_no_answer(
    fast: bool, error: BaseException, faults: dict[str, int]
) -> None:
    heard = []

    async def scenario() -> None:
        kind = type("Failing", (Raising,), {"error": error})
        options: dict[str, Any] = {"fast": fast, "access_log_class": kind}
        async with ours(application(), access_log=True, **options) as service:
            for path in ("/", "/fail", "/"):
                heard.append((await service.ask(request(path)))[0])

    run_on("asyncio", scenario())
    assert [answer.split()[1] for answer in heard] == [b"200", b"500", b"200"]
    assert faults == {"log": 3}


@BOTH_PATHS
@pytest.mark.parametrize("name", [ACCESS, "aiohttp.server"])
@pytest.mark.parametrize("place", ["handler", "filter"])
def test_handlers_and_filters_that_raise_cost_no_answer(
    fast: bool, name: str, place: str, faults: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger(name)
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "level", logging.INFO)
    monkeypatch.setattr(logger, "_cache", {})  # of what another test's level let through
    if place == "handler":
        monkeypatch.setattr(logger, "handlers", [RaisingHandler()])
    else:
        monkeypatch.setattr(logger, "filters", [refuse])
    heard = []

    async def scenario() -> None:
        async with ours(application(), access_log=True, fast=fast) as service:
            for path in ("/", "/fail", "/"):
                heard.append((await service.ask(request(path)))[0])

    run_on("asyncio", scenario())
    assert [answer.split()[1] for answer in heard] == [b"200", b"500", b"200"]
    assert faults["log"] > 0


@pytest.mark.parametrize("sent", ["a", '"', "\\", "é", "😀", "\x85"])
def test_no_client_makes_a_line_longer_than_a_pipe_takes_whole(kept: Kept, sent: str) -> None:
    long = make_mocked_request("GET", "/" + "a" * 8000, {"User-Agent": sent * 8000})
    AccessLogger(LOGGER, "").log(long, web.Response(), 0.0)
    token = request_id.current.set("i" * 128)
    try:
        for logged in (
            kept.records.pop(),
            record(kept, User_Agent=sent * 8000, Referer=sent * 8000),
        ):
            for formatter in (TextFormatter(), JSONFormatter()):
                line = formatter.format(logged).encode()
                assert len(line) < streams.PIPE_BUF
            assert read(line.decode())["user_agent"] == logged.__dict__["user_agent"]
            assert re.fullmatch(f"{re.escape(sent)}+" r"\[\.\.\.\]", logged.__dict__["user_agent"])
    finally:
        request_id.current.reset(token)


def test_what_fits_is_told_whole(kept: Kept) -> None:
    shown = record(kept, User_Agent="a" * 600, Referer="b" * 990).__dict__
    assert (shown["user_agent"], shown["referer"]) == ("a" * 600, "b" * 990)
