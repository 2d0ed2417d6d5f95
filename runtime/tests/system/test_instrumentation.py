"""The real sentry-sdk sees the requests of an application that the fast path could serve."""

import json
import subprocess
import sys

SENTRY = """
import asyncio, json, logging, sys
import sentry_sdk
from aiohttp import web
from sentry_sdk.integrations.aiohttp import AioHttpIntegration
from sentry_sdk.transport import Transport
from testkit.wire import ours, request

logging.basicConfig(level=logging.INFO, stream=sys.stderr)
caught = []

class Kept(Transport):
    def capture_envelope(self, envelope):
        for item in envelope.items:
            if item.type in ("event", "transaction"):
                caught.append(item.payload.json)

async def failing(request):
    raise LookupError("boom")

async def main():
    app = web.Application()
    app.router.add_get("/things/{id}", failing)
    async with ours(app) as service:
        heard, _ = await service.ask(request("/things/7"))
        assert heard.startswith(b"HTTP/1.1 500 "), heard
    print(json.dumps([
        (item.get("type", "event"), item["transaction"],
         [error["value"] for error in item.get("exception", {}).get("values", [])])
        for item in caught
    ]))

sentry_sdk.init(
    dsn="http://key@localhost/1", transport=Kept, traces_sample_rate=1.0,
    integrations=[AioHttpIntegration(transaction_style="method_and_path_pattern")],
)
asyncio.run(main())
"""


def test_sentry_gets_an_event_and_a_transaction() -> None:
    child = subprocess.run(
        [sys.executable, "-c", SENTRY], capture_output=True, text=True, timeout=120, check=False
    )
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout.splitlines()[-1])
    assert sorted(found) == [
        ["event", "GET /things/{id}", ["boom"]],
        ["transaction", "GET /things/{id}", []],
    ]
    told = [line for line in child.stderr.splitlines() if "No fast path" in line]
    assert len(told) == 1
    assert "sentry_sdk.integrations.aiohttp" in told[0]
