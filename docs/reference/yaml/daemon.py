"""A daemon with a listener of each kind, and settings of each origin."""

import asyncio
import contextlib

import api_hour
import msgspec
from aiohttp import web


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    greeting: str
    limit: int
    token: str


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.readline()


class Container(api_hour.Container):
    settings = Settings
    config: Settings

    def servers(self) -> dict[str, api_hour.Server]:
        return {
            "http": api_hour.HTTPServer(web.Application()),
            "lines": api_hour.StreamServer(close),
            "local": api_hour.StreamServer(close),
            "given": api_hour.StreamServer(close),
            "names": api_hour.DatagramServer(asyncio.DatagramProtocol),
            "events": api_hour.DatagramServer(asyncio.DatagramProtocol),
        }
