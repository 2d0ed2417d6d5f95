"""A pytest plugin: aiohttp's own tests meet API-Hour's connections instead of aiohttp's.

``--connections`` says whose: aiohttp's (``stock``), ours without the fast path (``plain``) or with
it (``fast``). ``--outcomes`` is the file that gets the outcome of each test, as JSON.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import test_utils, web
from aiohttp.web_server import Server

from api_hour.container import ServerOptions
from api_hour.http.connection import Connections
from api_hour.http.fast.connection import FastConnections

CLASSES: dict[str, type[Connections]] = {"plain": Connections, "fast": FastConnections}
RANKS = "passed", "skipped", "failed"  # a test is what its worst phase was
outcomes: dict[str, str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this plugin."""
    parser.addoption("--connections", choices=["stock", *CLASSES], default="stock")
    parser.addoption("--outcomes", type=Path)


def pytest_configure(config: pytest.Config) -> None:
    """Replace what makes servers, before a test imports it."""
    kind = config.getoption("connections")
    if kind != "stock":
        _serve_with(CLASSES[kind])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember the worst outcome of a test's phases."""
    before = outcomes.get(report.nodeid, "passed")
    outcomes[report.nodeid] = max(before, report.outcome, key=RANKS.index)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the outcomes, once: pytest-xdist's workers tell the one that started them."""
    file = session.config.getoption("outcomes")
    if file is not None and not hasattr(session.config, "workerinput"):
        file.write_text(json.dumps(outcomes, indent=1, sort_keys=True))


def _serve_with(connections_class: type[Connections]) -> None:
    make_handler = web.Application._make_handler

    def replaced(app: web.Application, **arguments: Any) -> Server:
        stock = make_handler(app, **arguments)  # it has checked the arguments, and frozen the app
        if type(stock) is not Server:  # the test's own
            return stock
        return connections_class(
            app,
            ServerOptions(),
            loop=stock._loop,
            handler_cancellation=stock.handler_cancellation,
            **stock._kwargs,
        )

    def raw(handler: Any, **arguments: Any) -> Server:
        """Return the server of a handler that has no application."""

        async def endpoint(request: web.Request) -> web.StreamResponse:
            answer: web.StreamResponse = await handler(request)
            return answer

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", endpoint)
        app.freeze()
        return connections_class(app, ServerOptions(), **arguments)

    patch = pytest.MonkeyPatch()  # for good
    patch.setattr(web.Application, "_make_handler", replaced)
    patch.setattr(test_utils, "Server", raw)
