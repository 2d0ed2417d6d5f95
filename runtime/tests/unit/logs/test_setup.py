"""Whatever ``logging.yaml`` says, its filters act and somebody hears the records."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger

from api_hour.logs import setup, streams


class Hides(logging.Filter):
    """Drops what is secret."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "secret" not in record.getMessage()


@pytest.fixture
def gunicorn() -> Iterator[Any]:
    """Return Gunicorn's logger; what it and the test have set up is undone."""
    root = logging.root
    handlers, level = root.handlers[:], root.level
    yield Logger(Config())
    setup._reset_loggers()
    root.handlers, root.level = handlers, level


def settings(**loggers: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "formatters": {},
        "filters": {"hide": {"()": Hides}},
        "handlers": {"console": {"class": "logging.StreamHandler", "filters": ["hide"]}},
        "loggers": loggers,
        "root": {"level": "INFO", "handlers": ["console"]},
    }


def test_a_replaced_handler_keeps_its_filters(gunicorn: Any) -> None:
    setup.apply(settings(), gunicorn)
    (handler,) = logging.root.handlers
    assert type(handler).__name__ == "NonBlockingHandler"
    secret = logging.makeLogRecord({"msg": "a secret"})
    assert not handler.filter(secret)


def test_a_filter_can_be_removed_again(gunicorn: Any) -> None:
    logger, hides = logging.getLogger("hello"), Hides()
    logger.addFilter(hides)
    setup.apply({}, gunicorn)
    setup.guard()
    logger.removeFilter(hides)
    assert logger.filters == []


def test_a_handler_behind_one_that_collects_never_waits(gunicorn: Any) -> None:
    given = settings()
    collecting = {"class": "logging.handlers.MemoryHandler", "capacity": 9, "target": "console"}
    given["handlers"]["all"] = collecting
    given["root"]["handlers"] = ["all"]
    setup.apply(given, gunicorn)
    [handler] = logging.root.handlers
    assert type(handler.target).__name__ == "NonBlockingHandler"  # type: ignore[attr-defined]


@pytest.mark.parametrize("named_by", ["errorlog", "logging.yaml", "logging.yaml, delayed"])
def test_a_pipe_that_is_named_as_a_file_is_not_waited_for(
    gunicorn: Any, tmp_path: Path, named_by: str
) -> None:
    pipe, given = tmp_path / "pipe", settings()
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    if named_by == "errorlog":
        gunicorn.cfg.set("errorlog", str(pipe))
        gunicorn.setup(gunicorn.cfg)
        given, logger = {}, gunicorn.error_log
    else:
        file = {"class": "logging.FileHandler", "filename": str(pipe), "delay": "," in named_by}
        given["handlers"]["console"] = file
        logger = logging.root
    setup.apply(given, gunicorn)
    handler = logger.handlers[-1]  # the others are pytest's
    assert type(handler).__name__ == "NonBlockingHandler"
    with pipe.open("ab", buffering=0) as full:
        os.set_blocking(full.fileno(), False)
        while full.write(b"x" * 4096):
            pass
    logger.error("nobody reads")
    while os.read(reader, 1 << 16).endswith(b"x"):
        streams.drain()
    os.close(reader)


def test_a_regular_file_stays_a_file(gunicorn: Any, tmp_path: Path) -> None:
    given = settings()
    for name, delay in (("one", False), ("two", True)):
        file = {"class": "logging.FileHandler", "filename": str(tmp_path / name), "delay": delay}
        given["handlers"][name] = file
    given["root"]["handlers"] = ["one", "two"]
    setup.apply(given, gunicorn)
    assert all(isinstance(handler, logging.FileHandler) for handler in logging.root.handlers)
    assert (tmp_path / "one").exists()
    assert not (tmp_path / "two").exists()


def test_a_file_that_fails_half_way_leaves_gunicorns_handlers(
    gunicorn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(gunicorn, "error", lambda text, *a: told.append(text % a))
    setup.apply(settings(hello={"filters": ["nosuch"]}), gunicorn)
    assert logging.root.handlers
    assert gunicorn.error_log.handlers
    assert told[0].startswith("logging.yaml cannot be applied: ")


def test_records_go_to_stderr_when_gunicorns_handlers_fail_as_well(
    gunicorn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_settings: object) -> None:
        raise OSError("no such folder")

    monkeypatch.setattr(gunicorn, "setup", fail)
    setup.apply(settings(hello={"filters": ["nosuch"]}), gunicorn)
    assert logging.root.handlers


def formatter(**given: str) -> Any:
    """Return what logging.yaml makes of a formatter."""
    made = setup.make(settings() | {"formatters": {"lines": given}})
    return made.config["formatters"]["lines"]


@pytest.mark.parametrize("key", ["class", "()"])
@pytest.mark.parametrize("name", ["TextFormatter", "JSONFormatter"])
def test_a_formatter_takes_no_format(name: str, key: str) -> None:
    named = {key: f"api_hour.logs.{name}"}
    assert type(formatter(**named)).__name__ == name
    with pytest.raises(setup.Unusable, match="leave out format, datefmt and style"):
        formatter(**named, format="%(message)s")
    with pytest.raises(setup.Unusable, match="leave out format, datefmt and style"):
        formatter(**named, datefmt="%H:%M")
