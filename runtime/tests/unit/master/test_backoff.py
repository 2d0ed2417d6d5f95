"""The back-off: no pause after the first death, growing ones in a series, none after quiet."""

import pytest

from api_hour.master import backoff
from api_hour.master.backoff import Backoff


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("api_hour.master.backoff.time.monotonic", lambda: now[0])
    return now


def test_pauses_double_up_to_the_longest(clock: list[float]) -> None:
    pauses = [Backoff.note(instance) for instance in [Backoff(backoff.MAX_PAUSE)] * 12]
    assert pauses[:5] == [0.0, 0.25, 0.5, 1.0, 2.0]
    assert pauses[-1] == backoff.MAX_PAUSE
    gaps = [Backoff.note(instance) for instance in [Backoff(backoff.MAX_GAP)] * 12]
    assert gaps == [0.0, 0.25, 0.5, *[1.0] * 9]


def test_a_worker_may_start_when_the_pause_is_over(clock: list[float]) -> None:
    pause = Backoff(backoff.MAX_PAUSE)
    pause.note()
    assert pause.over()
    pause.note()
    assert not pause.over()
    clock[0] += backoff.FIRST_PAUSE
    assert pause.over()


def test_at_most_ten_starts_in_ten_seconds_of_instant_deaths(clock: list[float]) -> None:
    pause, starts = Backoff(backoff.MAX_PAUSE), 0
    while clock[0] < 1010.0:
        if pause.over():
            starts += 1
            pause.note()
        clock[0] += 0.01
    assert 3 <= starts <= 10


def test_quiet_and_new_code_forgive(clock: list[float]) -> None:
    pause = Backoff(backoff.MAX_PAUSE)
    for _ in range(5):
        pause.note()
    clock[0] += backoff.RESET_AFTER + 1
    assert pause.note() == 0.0
    pause.note()
    pause.reset()
    assert pause.over()
    assert pause.note() == 0.0


def test_only_a_worker_that_died_is_replaced() -> None:
    pause = Backoff(backoff.MAX_PAUSE)
    pause.note()  # a start that failed
    assert not pause.replaces_a_death()
    pause.to_replace += 1
    assert [pause.replaces_a_death(), pause.replaces_a_death()] == [True, False]
