"""Recycling: an exceeded limit is reported once, with the figure that exceeded it."""

import resource
import time
from types import SimpleNamespace

import pytest

from api_hour.worker import recycling
from api_hour.worker.recycling import RecyclingLimits, resident


def limits(max_requests: int = 1_000_000, **given: float) -> RecyclingLimits:
    names = ("max_worker_age", "max_worker_age_jitter", "max_worker_rss", "max_worker_rss_jitter")
    return RecyclingLimits(SimpleNamespace(**dict.fromkeys(names, 0) | given), max_requests)


def test_without_limits_nothing_is_exceeded() -> None:
    assert limits().exceeded(999_999) == ""


def test_requests_are_reported_once() -> None:
    one = limits(max_requests=10)
    assert one.exceeded(9) == ""
    assert one.exceeded(12) == "it has answered 12 requests"
    assert one.exceeded(13) == ""


def test_age_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    one = limits(max_worker_age=5)
    assert one.exceeded(0) == ""
    born = time.monotonic()
    monkeypatch.setattr("api_hour.worker.recycling.time.monotonic", lambda: born + 6)
    assert one.exceeded(0) == "it is 6 s old"


def test_memory_is_reported() -> None:
    assert limits(max_worker_rss=1 << 50).exceeded(0) == ""
    assert limits(max_worker_rss=1 << 20).exceeded(0).startswith("it holds ")


def test_jitter_only_adds() -> None:
    drawn = {recycling._with_jitter(10, 5) for _ in range(100)}
    assert len(drawn) > 50
    assert all(10 <= limit <= 15 for limit in drawn)
    assert recycling._with_jitter(0, 5) == 0


def test_a_worker_without_descriptors_is_not_asked_for_its_memory() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert resident() > 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        assert resident() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
