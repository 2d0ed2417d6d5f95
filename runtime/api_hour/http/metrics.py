"""HTTP metrics: plain numbers at each request, written to the metrics once a second.

prometheus-client's inc() and observe() would cost more than all the rest of a simple request.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection
from typing import Any

from aiohttp.web_protocol import RequestHandler
from prometheus_client import Counter, Gauge, Histogram

from api_hour.metrics import on_sample

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"}
KINDS = ("header", "body", "request", "send")  # of time limits, see http/time_limits.py

Key = tuple[str, str, int]  # route, method, status

REQUESTS = Counter("http_requests", "Requests answered", ["route", "method", "status"])
DURATION = Histogram(
    "http_request_duration_seconds",
    "Seconds from the request to its answer",
    ["route", "method"],
    buckets=BUCKETS,
)
CONNECTIONS = Gauge(
    "http_connections", "Open connections", ["listener"], multiprocess_mode="livesum"
)
REFUSED = Counter(
    "http_refused_connections", "Connections that ended before they began", ["listener"]
)
IN_FLIGHT = Gauge(
    "http_requests_in_flight", "Requests in flight", ["listener"], multiprocess_mode="livesum"
)
TIMEOUTS = Counter("http_timeouts", "Time limits exceeded, by kind", ["kind"])


class RequestMetrics:
    """The requests of one listener, counted by route, method and status."""

    def __init__(self, connections: Collection[RequestHandler], listener: str) -> None:
        self._open = connections
        self._counts: dict[Key, list[Any]] = {}
        self._connections = CONNECTIONS.labels(listener)
        self._in_flight = IN_FLIGHT.labels(listener)
        self._timeouts = {kind: TIMEOUTS.labels(kind) for kind in KINDS}  # shown from zero on
        self.count_refusal: Callable[[], None] = REFUSED.labels(listener).inc
        on_sample(self.flush)

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request that took ``seconds``."""
        counts = self._counts.get((route, method, status))
        if counts is None:
            counts = self._counts[route, method, status] = [*[0] * (len(BUCKETS) + 1), 0.0]
        counts[bisect_left(BUCKETS, seconds)] += 1
        counts[-1] += seconds

    def count_timeout(self, kind: str) -> None:
        """Count a time limit that was exceeded: header, body, request or send."""
        self._timeouts[kind].inc()

    def flush(self) -> None:
        """Add what was counted since the last flush to the metrics."""
        counted, self._counts = self._counts, {}
        for (route, method, status), (*buckets, seconds) in counted.items():
            # A client may invent thousands of methods, and each would be a time series.
            method = method if method in METHODS else "other"
            REQUESTS.labels(route, method, status).inc(sum(buckets))
            duration = DURATION.labels(route, method)
            duration._sum.inc(seconds)
            for bucket, number in zip(duration._buckets, buckets, strict=True):
                if number:
                    bucket.inc(number)
        self._connections.set(len(self._open))
        self._in_flight.set(
            sum(connection._current_request is not None for connection in self._open)
        )
