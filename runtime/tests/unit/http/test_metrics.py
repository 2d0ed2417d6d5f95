"""Requests are counted in plain numbers, and added to the metrics at a flush."""

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

import api_hour
from api_hour.http.metrics import BUCKETS, RequestMetrics
from runtime.tests.unit.http.exchange import GET, exchange, one


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def counted(route: str, method: str = "GET", status: str = "200") -> float:
    return sample("http_requests_total", route=route, method=method, status=status)


def test_nothing_reaches_the_metrics_before_a_flush_and_nothing_is_added_twice() -> None:
    metrics = RequestMetrics([], "flush")
    for _ in range(3):
        metrics.count("/flush", "GET", 200, 0.001)
    assert counted("/flush") == 0
    metrics.flush()
    metrics.flush()
    assert counted("/flush") == 3


def test_a_duration_is_in_its_bucket_and_in_the_sum() -> None:
    metrics = RequestMetrics([], "duration")
    for seconds in (BUCKETS[0], 0.003, 100.0):
        metrics.count("/duration", "GET", 200, seconds)
    metrics.flush()
    name = "http_request_duration_seconds"
    labels = {"route": "/duration", "method": "GET"}
    assert sample(f"{name}_bucket", le="0.001", **labels) == 1
    assert sample(f"{name}_bucket", le="0.005", **labels) == 2
    assert sample(f"{name}_bucket", le="10.0", **labels) == 2
    assert sample(f"{name}_bucket", le="+Inf", **labels) == 3
    assert sample(f"{name}_sum", **labels) == BUCKETS[0] + 0.003 + 100.0


def test_methods_that_a_client_invents_are_one_series() -> None:
    metrics = RequestMetrics([], "methods")
    for method in ("BREW", "WHEN", "GET"):
        metrics.count("/methods", method, 405, 0.001)
    metrics.flush()
    assert counted("/methods", "other", "405") == 2
    assert counted("/methods", "GET", "405") == 1
    assert counted("/methods", "BREW", "405") == 0


def test_open_connections_and_requests_in_flight_are_those_of_the_flush() -> None:
    idle, busy = SimpleNamespace(_current_request=None), SimpleNamespace(_current_request=object())
    connections: list[Any] = [idle, busy]
    metrics = RequestMetrics(connections, "open")
    metrics.flush()
    assert sample("http_connections", listener="open") == 2
    assert sample("http_requests_in_flight", listener="open") == 1
    connections.clear()
    metrics.flush()
    assert sample("http_connections", listener="open") == 0
    assert sample("http_requests_in_flight", listener="open") == 0


def test_a_scrape_without_metrics_is_a_503_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = exchange(one(api_hour.show_metrics), GET)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"\r\n\r\nthere are no metrics: set api_hour.metrics to true\n")
    assert b"Retry-After" not in answer
    assert not caplog.records
