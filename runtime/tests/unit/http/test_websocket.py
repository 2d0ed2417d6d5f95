"""WebSockets: what RFC 6455 forbids a client is a protocol error, on both paths, at every cut."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiohttp import web

from testkit.wire import LOOPS, Service, ours, request, run_on

Run = Callable[[Coroutine[Any, Any, None]], None]
TEXT, CLOSE, PING = 0x81, 0x88, 0x89
MASK = b"\x01\x02\x03\x04"
OPEN = request(
    "/", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Return a function that runs a scenario on one of the event loops."""
    return lambda scenario: run_on(request.param, scenario)


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Return whether the fast path is on."""
    return bool(request.param)


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


def application() -> web.Application:
    app = web.Application()
    app.router.add_get("/", echo)
    return app


def frame(first: int, payload: bytes, mask: bytes | None = MASK) -> bytes:
    """Return a frame; a client may only send masked ones."""
    size = len(payload)
    flag = 0 if mask is None else 0x80
    if size < 126:
        head = bytes([first, flag | size])
    elif size < 1 << 16:
        head = bytes([first, flag | 126]) + size.to_bytes(2)
    else:
        head = bytes([first, flag | 127]) + size.to_bytes(8)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def closing(code: int) -> bytes:
    return frame(CLOSE, code.to_bytes(2) + b"why")


async def say(service: Service, *pieces: bytes) -> bytes:
    """Open a WebSocket, send ``pieces``; return what the server sends after its head."""
    heard, _ = await service.ask(OPEN, *pieces)
    return heard.partition(b"\r\n\r\n")[2]


def answer(text: bytes) -> bytes:
    return frame(TEXT, text, None)


def closed_with(code: int) -> bytes:
    return frame(CLOSE, code.to_bytes(2), None)


LONG, LONGER = b"x" * 300, b"y" * 70_000
REFUSED = {
    "an unmasked text": frame(TEXT, b"hello", None),
    "an unmasked long text": frame(TEXT, LONG, None),
    "an unmasked ping": frame(PING, b"", None),
    "an unmasked close": frame(CLOSE, (1000).to_bytes(2), None),
} | {
    f"close code {code}": closing(code)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_as_a_protocol_error(run: Run, fast: bool, name: str) -> None:
    good = frame(TEXT, b"good")

    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            data = good + REFUSED[name]
            cuts = range(0, min(len(data), len(good) + 16), 3)
            heard = await asyncio.gather(*(say(service, data[:cut], data[cut:]) for cut in cuts))
            assert set(heard) == {answer(b"good") + closed_with(1002)}

    run(scenario())


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999])
def test_a_valid_close_code_is_answered(run: Run, fast: bool, code: int) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            assert (await say(service, closing(code))).startswith(frame(CLOSE, b"", None)[:1])
            assert await say(service, closing(code)) != closed_with(1002) or code == 1002

    run(scenario())


def test_frames_of_every_length_pass_at_every_cut(run: Run, fast: bool) -> None:
    data = frame(TEXT, b"a") + frame(TEXT, LONG) + frame(TEXT, LONGER) + frame(CLOSE, b"")
    expected = answer(b"a") + answer(LONG) + answer(LONGER)

    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            for cut in (1, 2, 5, 7, 8, 9, 10, 11, 13, 14, 15, 320, 325, 400, len(data) - 3):
                assert (await say(service, data[:cut], data[cut:])).startswith(expected)
            peer_by_byte = [bytes([byte]) for byte in data[:40]] + [data[40:]]
            assert (await say(service, *peer_by_byte)).startswith(expected)

    run(scenario())


def test_frames_that_come_with_the_handshake_are_checked(run: Run, fast: bool) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            heard, _ = await service.ask(OPEN + frame(TEXT, b"hello", None))
            assert heard.partition(b"\r\n\r\n")[2] == closed_with(1002)

    run(scenario())
