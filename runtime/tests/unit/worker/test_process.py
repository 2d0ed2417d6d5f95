"""What the worker makes of a project: the options of its servers, and its mistakes in words."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from gunicorn.config import Config

import api_hour.config.settings  # noqa: F401 - it registers the settings that Config() knows
from api_hour.config import addresses
from api_hour.config.generation import Generation
from api_hour.config.yaml_document import Document
from api_hour.container import Container, ServerOptions
from api_hour.exceptions import ConfigError
from api_hour.worker.process import made_servers, make, opened, server_options


def generation(
    logs: dict[str, Any] | None = None, tls: ssl.SSLContext | None = None, **settings: object
) -> Generation:
    cfg = Config()
    for name, value in settings.items():
        cfg.set(name, value)
    listener = {"url": "tcp://127.0.0.1:0", "max_connections": 7}
    listeners = {"http": addresses.read("http", listener)}
    contexts = {"http": tls} if tls else {}
    return Generation("hello:Container", "/", cfg, Document(), listeners, contexts, logs or {})


def test_each_option_comes_from_the_setting_or_the_listeners_option_of_its_name() -> None:
    context = ssl.create_default_context()
    given: dict[str, Any] = {
        "fast": False,
        "request_ids": True,
        "access_log_skip": ["/health/"],
        "metrics": True,
        "drain_idle": 2.5,
        "trusted_proxies": ["10.0.0.0/8", "unix"],
        "proxy_headers": ["forwarded"],
    }
    options = server_options(generation(tls=context, **given), "http")
    assert options == ServerOptions(listener="http", tls=context, max_connections=7, **given)


@pytest.mark.parametrize(
    ("logs", "settings", "logged"),
    [
        ({}, {}, False),
        ({}, {"accesslog": "-"}, True),
        ({}, {"syslog": True}, True),
        ({}, {"syslog": True, "disable_redirect_access_to_syslog": True}, False),
        ({"root": {}}, {}, True),
        ({"root": {}}, {"reload": True}, False),
    ],
)
def test_access_is_logged_if_asked_for_or_by_logging_yaml_outside_of_development(
    logs: dict[str, Any], settings: dict[str, Any], logged: bool
) -> None:
    assert server_options(generation(logs, **settings), "http").access_log is logged


def test_a_developer_does_not_wait_for_idle_connections() -> None:
    assert server_options(generation(reload=True, drain_idle=9), "http").drain_idle == 0.0


def said(container: Container, check: Any) -> str:
    """Return the error about a container, without the place in this file that it begins with."""
    with pytest.raises(ConfigError) as raised:
        check(container)
    text = str(raised.value)
    assert re.match(r"\S*test_process\.py:\d+: ", text)
    return text.partition(": ")[2]


ENGINES_CURE = (
    "write `@asynccontextmanager` (of contextlib) above `async def engines(self)`, and one `yield` "
    "inside"
)


class Bare(Container):
    async def engines(self) -> AsyncIterator[None]:  # type: ignore[override]
        yield


class Awaited(Container):
    async def engines(self) -> None:  # type: ignore[override]
        pass


class Plain(Container):
    @contextmanager
    def engines(self) -> Any:  # type: ignore[override]
        yield


class NotAsync(Container):
    @asynccontextmanager
    def engines(self) -> Any:
        yield


class WithoutYield(Container):
    @asynccontextmanager  # type: ignore[arg-type]
    async def engines(self) -> None:
        pass


class Nothing(Container):
    def engines(self) -> None:  # type: ignore[override]
        pass


@pytest.mark.parametrize(
    ("kind", "got"),
    [
        (Bare, "an async_generator"),
        (Awaited, "a coroutine"),
        (Plain, "a _GeneratorContextManager"),
        (NotAsync, "a _AsyncGeneratorContextManager"),
        (Nothing, "None"),
    ],
)
def test_engines_that_are_no_async_context_manager_come_with_the_cure(
    kind: type[Container], got: str
) -> None:
    assert said(kind(), opened) == (
        f"{kind.__name__}.engines() must be an async context manager, got {got}: {ENGINES_CURE}"
    )


def test_engines_without_yield_miss_only_that() -> None:
    assert said(WithoutYield(), opened) == (
        "WithoutYield.engines() has no `yield`: write one after what it opens"
    )


class Twice(Container):
    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        yield
        yield


class Never(Container):
    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        if self.config:
            yield


class OfAnEngine(Container):
    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        async with Twice().engines():
            yield


async def open_and_close(container: Container) -> None:
    async with opened(container):
        pass


@pytest.mark.parametrize(
    ("kind", "how"), [(Twice, "came to a second one"), (Never, "ended without it")]
)
def test_engines_yield_exactly_once(kind: type[Container], how: str) -> None:
    assert said(kind(), lambda container: asyncio.run(open_and_close(container))) == (
        f"{kind.__name__}.engines() must come to one `yield`, and {how}: open everything above it, "
        "and close below it"
    )


def test_an_engine_that_yields_twice_is_not_taken_for_the_engines() -> None:
    with pytest.raises(RuntimeError, match="generator didn't stop"):
        asyncio.run(open_and_close(OfAnEngine()))


def test_good_engines_are_opened() -> None:
    asyncio.run(open_and_close(Container()))


class Served(Container):
    """Returns what it is given as its servers."""

    def servers(self) -> Any:
        return self.config


class ServedAsync(Container):
    async def servers(self) -> Any:  # type: ignore[override]
        return {}


class Stub:
    def start(self) -> None:
        pass

    def drain(self) -> None:
        pass


WRAP = "make an api_hour.HTTPServer, StreamServer, DatagramServer or SocketServer of it"


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ([Stub()], "must return a dict of servers by the names of their listeners, got a list"),
        (None, "must return a dict of servers by the names of their listeners, got None"),
        (
            {"http": "app"},
            f"gives the listener http a str, which has no start() and drain(): {WRAP}",
        ),
        (
            {"http": Stub},
            f"gives the listener http the class Stub, which has no start() and drain(): {WRAP}",
        ),
    ],
)
def test_servers_that_are_none_come_with_the_cure(returned: object, expected: str) -> None:
    container = Served()
    container.config = returned
    text = said(container, made_servers)
    assert text.startswith("Served.servers() " + expected)


def test_servers_may_not_be_awaited() -> None:
    assert said(ServedAsync(), made_servers) == (
        "ServedAsync.servers() must be a plain function: write `def`, and open what it needs in "
        "engines()"
    )


def test_good_servers_are_returned() -> None:
    server: Any = Stub()
    assert made_servers(Served({"http": server})) == {"http": server}


class Forgetful(Container):
    def __init__(self, config: object) -> None:
        self.mine = config


class WithoutConfig(Container):
    def __init__(self) -> None:
        super().__init__({})


def test_an_init_that_does_not_fit_comes_with_the_cure() -> None:
    assert said(Forgetful, lambda kind: make(kind, {})) == (  # type: ignore[arg-type]
        "Forgetful.__init__ must call super().__init__(config), which keeps it"
    )
    assert said(WithoutConfig, lambda kind: make(kind, {})) == (  # type: ignore[arg-type]
        "WithoutConfig.__init__ must take one argument, the configuration: "
        "too many positional arguments"
    )
    assert make(Container, {"a": 1}).config == {"a": 1}
