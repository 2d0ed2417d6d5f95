"""A line of the log holds what was logged, and nothing in it can pass for another line."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_hour.logs import request_id
from api_hour.logs.formatters import JSONFormatter, TextFormatter
from testkit.log_lines import HEAD, read

FORGED = "x\r\n[2026-11-22 08:00:00.000 +0000] [1] [INFO] [root] all is well"
NASTY = [*map(chr, range(32)), *map(chr, range(127, 160)), "\u2028", "\u2029", "\u202e", "\udc80"]


class Unspeakable:
    """An object that has no text: asking for it raises."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


def record(message: object, *args: object, **extra: object) -> logging.LogRecord:
    """Return a record as ``logging.getLogger("hello.services").warning`` makes it."""
    made = logging.LogRecord("hello.services", logging.WARNING, "", 0, message, args, None)
    vars(made).update(extra)
    return made


@pytest.fixture
def request_7() -> Iterator[None]:
    """Run the test inside a request."""
    token = request_id.current.set("client-7")
    yield
    request_id.current.reset(token)


def failure(message: str) -> BaseException:
    """Return an exception that was raised because of another."""
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError(message) from error
    except ValueError as error:
        return error


def exc_info(error: BaseException) -> Any:
    return (type(error), error, error.__traceback__)


def test_text_tells_time_process_level_logger_and_message() -> None:
    found = re.fullmatch(HEAD + "low on 3", TextFormatter().format(record("low on %d", 3)))
    assert found
    assert found.groups() == (str(os.getpid()), "WARNING", "hello.services")


@pytest.mark.usefixtures("request_7")
def test_text_tells_the_id_of_the_request() -> None:
    assert re.fullmatch(HEAD + r"\[client-7\] low", TextFormatter().format(record("low")))


@pytest.mark.usefixtures("request_7")
def test_json_tells_the_same_in_fields() -> None:
    line = read(JSONFormatter().format(record("low on %d", 3)))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", line.pop("time"))
    assert line == {
        "level": "WARNING",
        "logger": "hello.services",
        "pid": os.getpid(),
        "request_id": "client-7",
        "message": "low on 3",
    }


def test_outside_of_a_request_there_is_no_id() -> None:
    assert "request_id" not in read(JSONFormatter().format(record("low")))


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_no_control_character_reaches_the_log_raw(nasty: str) -> None:
    for message, *args in ((f"a{nasty}b",), ("a%sb", nasty)):
        text = TextFormatter().format(record(message, *args))
        assert text.isprintable()
        assert text.endswith(f"a{ascii(nasty)[1:-1]}b")
        assert read(JSONFormatter().format(record(message, *args)))["message"] == f"a{nasty}b"


@given(st.text())
def test_whatever_the_message_is_it_stays_one_line(message: str) -> None:
    assert TextFormatter().format(record("%s", message)).isprintable()
    assert read(JSONFormatter().format(record("%s", message))).get("message", "") == message


def test_a_traceback_keeps_its_own_lines_and_no_others() -> None:
    error = failure(FORGED)
    lines = TextFormatter().format(record("broken", exc_info=exc_info(error))).split("\n")
    assert re.fullmatch(HEAD + "broken", lines[0])
    assert [line for line in lines[1:] if not line.startswith("    ")] == []
    assert [line for line in lines if not line.isprintable()] == []
    assert lines[1] == "    Traceback (most recent call last):"
    assert "    KeyError: 'first'" in lines
    assert lines[-1] == "    ValueError: " + ascii(FORGED)[1:-1]


def test_what_a_note_of_an_exception_says_cannot_pass_for_a_line() -> None:
    error = failure("plain")
    error.add_note(FORGED)
    lines = TextFormatter().format(record("broken", exc_info=exc_info(error))).split("\n")
    assert [line for line in lines if re.match(HEAD, line)] == lines[:1]


def test_a_stack_stands_below_the_line() -> None:
    lines = TextFormatter().format(record("here", stack_info="Stack:\n  one\n  two")).split("\n")
    assert lines[1:] == ["    Stack:", "      one", "      two"]


def test_json_holds_the_traceback_in_one_field() -> None:
    line = read(JSONFormatter().format(record("broken", exc_info=exc_info(failure("late")))))
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("\nValueError: late")


def test_an_exception_that_is_none_is_none() -> None:
    assert "exception" not in read(JSONFormatter().format(record("x", exc_info=(None, None, None))))


def test_json_holds_every_field_of_extra() -> None:
    line = read(JSONFormatter().format(record("x", user=7, tags=["a", {"b": None}], ok=True)))
    assert (line["user"], line["tags"], line["ok"]) == (7, ["a", {"b": None}], True)


def test_a_field_of_extra_hides_none_of_ours() -> None:
    line = read(JSONFormatter().format(record("x", level="mine", time=1)))
    assert (line["level"], line["extra.level"], line["extra.time"]) == ("WARNING", "mine", 1)


CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)
DEEP: list[object] = []
for _ in range(sys.getrecursionlimit() * 2):
    DEEP = [DEEP]
ODD = {
    "not a number": float("nan"),
    "infinite": float("inf"),
    "bytes": b"\xff\n",
    "a circle": CIRCLE,
    "a key that is not text": {(1, 2): 3},
    "deep": DEEP,
    "unspeakable": Unspeakable(),
    "unspeakable inside": {"a": [Unspeakable()]},
    "half a pair": "\ud800",
    "an exception": ValueError("x"),
}


@pytest.mark.parametrize("name", ODD)
def test_json_never_fails_on_an_odd_value(name: str) -> None:
    line = read(JSONFormatter().format(record("x", odd=ODD[name], user=7, seconds=0.5)))
    assert "odd" in line
    own = line["message"], line["user"], line["seconds"], line["pid"]
    assert own == ("x", 7, 0.5, os.getpid())


@pytest.mark.parametrize("form", [TextFormatter, JSONFormatter])
@pytest.mark.parametrize("args", [("%d", "x"), ("%s %s", 1), ("%s", Unspeakable())])
def test_a_message_that_cannot_be_written_says_why(
    form: Callable[[], logging.Formatter], args: tuple[object, ...]
) -> None:
    line = form().format(record(*args))
    assert line.isprintable()
    assert re.search("cannot be written: (TypeError|RuntimeError): ", line)


def circle() -> BaseException:
    error = failure("in a circle")
    error.__cause__ = error
    return error


def deep_chain() -> BaseException:
    first = error = ValueError("first")
    for number in range(10_000):
        error.__context__ = ValueError(f"{number}\nof many")
        error = error.__context__
    return first


def deep_group() -> BaseException:
    error: Exception = ValueError("first")
    for _ in range(10_000):
        error = ExceptionGroup("a group", [error])
    return error


@pytest.mark.parametrize("make", [circle, deep_chain, deep_group])
@pytest.mark.parametrize("kind", [TextFormatter, JSONFormatter])
def test_no_chain_of_causes_keeps_a_formatter_busy_or_costs_the_record(
    kind: type[logging.Formatter], make: Callable[[], BaseException]
) -> None:
    made = record("it failed")
    made.exc_info = exc_info(make())
    assert "it failed" in kind().format(made)
