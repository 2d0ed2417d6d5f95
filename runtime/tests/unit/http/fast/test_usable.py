"""Which aiohttp the fast path knows, and what serves with another."""

import aiohttp
import pytest

from api_hour.http.fast import usable
from runtime.tests.unit.http.endpoints import application
from testkit.wire import ours, request, run_on


def test_another_aiohttp_is_served_without_the_fast_path(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with ours(application()) as service:
            assert type(service.connections).__name__ == "Connections"
            heard, _ = await service.ask(request("/json"))
            assert heard.startswith(b"HTTP/1.1 200 OK\r\n")

    usable.cache_clear()
    monkeypatch.setattr(aiohttp, "__version__", "3.15.0")
    run_on("asyncio", scenario())
    usable.cache_clear()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["No fast path for aiohttp 3.15.0: its own is used"]


def test_the_aiohttp_that_is_pinned_is_known() -> None:
    assert usable()
