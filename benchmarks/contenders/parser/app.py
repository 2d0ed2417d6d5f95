"""The floor below API-Hour: uvloop and aiohttp's C parser, one answer: ``python app.py PORT``."""

import asyncio
import signal
import sys

import ujson
import uvloop
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.http_parser import HttpRequestParser

ANSWER = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
    "Content-Length: %d\r\nDate: %s\r\nServer: " + SERVER_SOFTWARE + "\r\n\r\n%s"
)


class Protocol(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.parser = HttpRequestParser(self, asyncio.get_running_loop(), 2**16)

    def data_received(self, data):
        messages, _, _ = self.parser.feed_data(data)
        for _ in messages:
            body = ujson.dumps({"message": "Hello, World!"}, escape_forward_slashes=False)
            self.transport.write((ANSWER % (len(body), rfc822_formatted_time(), body)).encode())


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Protocol, "127.0.0.1", int(sys.argv[1]))
    loop.add_signal_handler(signal.SIGTERM, server.close)
    await server.wait_closed()


uvloop.run(main())
