"""What ``api_hour.http`` uses of aiohttp, and aiohttp promises to nobody.

Whoever tries another aiohttp reads here what it has changed. Parts of the table hold with the fast
path only.
"""

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl
from aiohttp import (
    MultipartReader,
    http_exceptions,
    http_parser,
    http_writer,
    streams,
    web,
    web_app,
    web_protocol,
    web_urldispatcher,
)
from aiohttp._websocket.reader_py import WebSocketDataQueue
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import DeflateBuffer

from api_hour import http
from api_hour.http.parser import _held
from testkit.wire import request

PINNED: dict[Any, str] = {
    BaseProtocol: "_buffer_paused _drain_helper _loop _parser _pause_reading_for_buffer _paused "
    "_reading_paused _upgraded",
    web_protocol: "ERROR MAX_MSG_QUEUE_SIZE RequestPayloadError _ErrInfo _PAYLOAD_ACCESS_ERROR",
    web_protocol.RequestHandler: "_cache _close _current_request _force_close _handle_request "
    "_keepalive _keepalive_handle _keepalive_timeout _lingering_time _logging_enabled "
    "_make_error_handler _manager _max_msg_queue_size _message_tail _messages "
    "_next_keepalive_close_time _payload_parser _process_keepalive _read_bufsize _request_count "
    "_task_handler _waiter finish_response handle_error keep_alive log_access start",
    web.Server: "_kwargs _loop",
    http_parser.HttpRequestParserPy: "feed_data message_consumed",
    http_writer: "_serialize_headers",
    http_writer.StreamWriter: "_eof output_size",
    MultipartReader: "_at_bof _readline",
    DeflateBuffer: "out",
    streams: "EMPTY_PAYLOAD",
    streams.StreamReader: "_buffer _exception _loop _read_nowait_chunk _wait _waiter is_eof "
    "total_bytes total_compressed_bytes total_raw_bytes",
    WebSocketDataQueue: "_buffer",
    web.WebSocketResponse: "_reader _waiting",
    web.BaseRequest: "ATTRS _cache _cancel _client_max_size _client_max_fields _finish _headers "
    "_loop _message _method _payload _payload_writer _post _prepare_hook _protocol _read_bytes "
    "_rel_url _state _task _transport_peername _transport_sockname _transport_sslcontext _version",
    web.Request: "_match_info",
    web.StreamResponse: "_body_length _chunked _compression _cookies _eof_sent _headers "
    "_keep_alive _reason _status",
    web.Response: "_body",
    web_app: "_cached_build_middleware",
    web.Application: "_handle _has_legacy_middlewares _make_request _middlewares_handlers "
    "_run_middlewares _subapps",
    web_urldispatcher: "_pattern _routes",
    web.UrlDispatcher: "_resource_index",
    web.UrlMappingMatchInfo: "_apps _current_app _frozen",
    yarl.URL: "_netloc _path",
}
NOT_OF_AIOHTTP = {"_get_running_loop", "_buckets", "_sum"}  # asyncio's, prometheus_client's
TREES = [ast.parse(file.read_text()) for file in Path(http.__path__[0]).rglob("*.py")]


@pytest.mark.parametrize("place", PINNED, ids=lambda place: place.__name__)
def test_aiohttp_still_has_it(place: Any) -> None:
    for name in PINNED[place].split():
        has = hasattr(place, name) or re.search(rf"\b{name}\b", inspect.getsource(place))
        where = f"{place.__name__}.{name}, which api_hour.http uses"
        assert has, f"aiohttp {aiohttp.__version__} has no {where}"


def test_the_compiled_parser_still_shows_what_it_holds_after_an_error() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        parser = http_parser.HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        for _ in range(2):  # an error is for good until it is initialized again
            with pytest.raises(http_exceptions.BadHttpMethod):
                parser.feed_data(request("/one") + request("/two") + b"GARBAGE\r\n")
            assert [message.path for message, _ in _held(parser)] == ["/one", "/two"]
            parser.__init__(BaseProtocol(loop), loop, 2**16)  # type: ignore[misc]

    asyncio.run(scenario())


def test_all_that_is_used_is_in_the_table() -> None:
    used = {
        node.attr
        for tree in TREES
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr)
    }
    pinned = {name for names in PINNED.values() for name in names.split()}
    assert used - pinned - NOT_OF_AIOHTTP - set(ours()) - {"_replace"} == set()


def ours() -> Iterator[str]:
    """Return the names that our own classes define."""
    for tree in TREES:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                yield node.attr
            elif isinstance(node, ast.ClassDef):
                names = (part for line in node.body for part in ast.walk(line))
                for name in names:
                    if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                        yield name.id
                    elif isinstance(name, ast.Constant) and isinstance(name.value, str):
                        yield name.value
