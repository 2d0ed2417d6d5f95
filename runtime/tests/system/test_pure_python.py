"""Without aiohttp's parser in C, as on PyPy, its parser in Python serves.

Which parser there is shows at import, so the requests are sent in a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from aiohttp import web
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from testkit.wire import chunked, ours, request, run_on, with_body

ROOT = Path(__file__).parents[3]
PAGE = request("/page")
UPGRADE = request("/page", "Connection: Upgrade", "Upgrade: h2c")
MARK = "marked"  # bytes of the client, which no answer repeats
GARBAGE = f"{MARK} \0\r\n\r\n".encode()
# What is sent in which pieces, and the statuses that are heard.
CASES: dict[str, tuple[list[bytes], list[int]]] = {
    "requests": ([PAGE * 40], [200] * 40),
    "a request in pieces": ([PAGE[:7], PAGE[7:40], PAGE[40:] + PAGE], [200, 200]),
    "a body": ([with_body("/body", b"body") + PAGE], [200, 200]),
    "a late body": ([with_body("/body", b"body")[:-2], b"dy" + PAGE], [200, 200]),
    "chunks": ([chunked("/body", [b"one", b"two"]) + PAGE], [200, 200]),
    "behind an ignored upgrade": ([UPGRADE + PAGE[:13], PAGE[13:]], [200, 200]),
    "garbage": ([GARBAGE], [400]),
    "garbage behind": ([PAGE, GARBAGE + PAGE], [200, 400]),
    "a bad target": ([request(f"http://[{MARK}")], [400]),
    "a bad header": ([request("/page", f"X-{MARK}\x01: 1")], [400]),
    "a long line": ([request(f"/{MARK * 2000}")], [431]),  # this parser does not tell which line
    "a long header": ([request("/page", f"X: {MARK * 2000}")], [431]),
    "HTTP/1.2": ([request("/page", version="1.2") + PAGE], [200, 200]),
    "HTTP/2.0": ([request("/page", version="2.0") + PAGE], [505]),
}


async def page(request: web.Request) -> web.Response:
    return web.Response(text="page")


async def body(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def ask_all() -> None:
    """Send every case; print what was heard."""
    app = web.Application()
    app.router.add_get("/page", page)
    app.router.add_post("/body", body)
    heard = {}
    async with ours(app) as service:
        for name, (sent, _) in CASES.items():
            heard[name] = (await service.ask(*sent))[0].decode()
    print(json.dumps(heard))


def test_the_parser_in_python_serves() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "runtime.tests.system.test_pure_python"],
        cwd=ROOT,
        env=os.environ | {"AIOHTTP_NO_EXTENSIONS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("without its C parser") == 1
    for name, heard in json.loads(run.stdout).items():
        statuses = [int(line.split()[1]) for line in heard.splitlines() if "HTTP/1.1 " in line]
        assert statuses == CASES[name][1], name
        assert MARK not in heard, name


if __name__ == "__main__":
    assert HttpRequestParser is HttpRequestParserPy
    run_on("asyncio", ask_all())
