"""The handler takes no time, whoever reads: what no stream takes or keeps is counted."""

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api_hour.logs import observers, streams
from api_hour.logs.formatters import JSONFormatter, TextFormatter
from api_hour.logs.handlers import NonBlockingHandler
from testkit.log_lines import HEAD, read


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("hello.services", logging.WARNING, "", 0, message, (), None)
    vars(made).update(extra)
    return made


@pytest.fixture
def pipe() -> Iterator[tuple[int, Any]]:
    """Return both ends of a pipe that holds one page."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
    os.close(reading)


def test_a_pipe_that_nobody_reads_costs_records_and_no_time(
    pipe: tuple[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LIMIT", 4096)
    reading, stream = pipe
    handler = NonBlockingHandler(stream)
    handler.setFormatter(JSONFormatter())
    for number in range(100):
        handler.handle(record("x" * 100, number=number))
    heard = os.read(reading, 65536)
    streams.drain()
    taken = (heard + os.read(reading, 65536)).decode().splitlines()
    handler.handle(record("later"))
    said, later = map(read, os.read(reading, 65536).decode().splitlines())
    assert [read(line)["number"] for line in taken] == list(range(len(taken)))
    lost = f"{100 - len(taken)} log records were lost: the log could not be written"
    assert (said["message"], said["level"]) == (lost, "WARNING")
    assert later["message"] == "later"
    assert observers.counts["log"] >= 100 - len(taken)


def test_a_stream_that_is_closed_costs_a_fault(capfd: pytest.CaptureFixture[str]) -> None:
    observers._forget()
    handler = NonBlockingHandler(None)
    handler.stream = None
    handler._out = None
    handler.handle(record("nowhere"))
    assert observers.counts == {"log": 1}
    assert "log failed: OSError: [Errno 9]" in capfd.readouterr().err


def test_a_formatter_that_raises_costs_a_fault(
    pipe: tuple[int, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    observers._forget()
    handler = NonBlockingHandler(pipe[1])
    handler.setFormatter(logging.Formatter("%(missing)s"))
    handler.handle(record("unwritten"))
    assert observers.counts == {"log": 1}
    assert "log failed: ValueError: Formatting field not found" in capfd.readouterr().err


def test_a_handler_for_a_stream_that_is_known_opens_nothing(pipe: tuple[int, Any]) -> None:
    NonBlockingHandler(pipe[1])
    before = len(list(Path("/proc/self/fd").iterdir()))
    NonBlockingHandler(pipe[1])
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_without_a_formatter_a_line_is_text(pipe: tuple[int, Any]) -> None:
    NonBlockingHandler(pipe[1]).handle(record("a\nb"))
    assert re.fullmatch(HEAD + r"a\\nb\n", os.read(pipe[0], 4096).decode())


@pytest.mark.parametrize("message", ["x" * 9000, "é" * 9000, "\udc80" * 9000, "1\n2" * 3000])
def test_a_line_that_a_pipe_does_not_take_whole_is_cut_in_its_middle(
    pipe: tuple[int, Any], message: str
) -> None:
    reading, stream = pipe
    handler = NonBlockingHandler(stream)
    for formatter in (TextFormatter(), logging.Formatter()):
        handler.setFormatter(formatter)
        handler.handle(record(f"first {message} last"))
        heard = b""
        while not heard.endswith(b" last\n"):
            heard += os.read(reading, 65536)
            streams.drain()
        assert b"first " in heard
        assert max(map(len, heard.splitlines(keepends=True))) <= streams.PIPE_BUF
    handler.setFormatter(JSONFormatter())
    many = {f"field {number}": number for number in range(1000)}
    for extra in ({"number": 7, "items": [message]}, {message: 1}, many):
        handler.handle(record(f"first {message} last", **extra))
        line = os.read(reading, 65536).decode()
        assert line.endswith("}\n")
        said = read(line.rstrip("\n"))
        assert said["cut"] is True
        assert said["level"] == "WARNING"
        assert said["message"].startswith("first ")
        assert said["message"].endswith(" last")
        assert " [...] " in said["message"]
        if "number" in extra:
            assert said["number"] == 7
    handler.handle(record("short"))
    assert "cut" not in read(os.read(reading, 65536).decode().rstrip("\n"))
