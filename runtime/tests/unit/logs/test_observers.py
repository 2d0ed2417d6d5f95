"""A fault of an observer is counted and told once a minute, and reaches nobody."""

import os
import re
import sys
from collections.abc import Iterator

import pytest

from api_hour.logs import observers

FaultLines = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    observers._forget()
    yield
    observers._forget()


class Hostile(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no text")


def test_faults_are_counted_and_told_once_a_minute(
    capfd: FaultLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(40):
        observers.failed("log", PermissionError("not yours"))
    observers.failed("metrics", OSError("full"))
    monkeypatch.setattr(observers, "PAUSE", 0.0)
    observers.failed("log", SystemExit(3))
    assert observers.counts == {"log": 41, "metrics": 1}
    head = rf"\[{os.getpid()}\] \[ERROR\] \[api_hour\.logs\.observers\] "
    expected = [
        "log failed: PermissionError: not yours",
        "metrics failed: OSError: full",
        r"log failed: SystemExit: 3 \(39 more since the last line\)",
    ]
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 3
    for line, text in zip(told, expected, strict=True):
        assert re.fullmatch(head + text, line)


def test_what_is_told_is_one_short_line_of_ascii(capfd: FaultLines) -> None:
    observers.failed("log", ValueError("\x1b[31m\n[1] forged\udcff" + "x" * 9999))
    observers.failed("hostile", Hostile())
    first, second = capfd.readouterr().err.splitlines()
    assert first.isascii()
    assert first.isprintable()
    assert len(first) < 2 * observers.MAX_LENGTH
    assert second.endswith("Hostile: its text raises ValueError")


def test_without_stderr_the_count_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    observers.failed("log", OSError())
    assert observers.counts == {"log": 1}


def test_an_error_whose_text_raises_is_described() -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise SystemExit

    assert observers.describe(Unspeakable()) == "Unspeakable: its text raises SystemExit"
