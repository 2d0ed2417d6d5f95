"""Responses: ordinary aiohttp responses whose headers and body are computed on first access.

The only module that knows the JSON library.
"""

import logging
import marshal
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec
import ujson
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.compression_utils import MAX_SYNC_CHUNK_SIZE
from aiohttp.typedefs import LooseHeaders
from aiohttp.web_response import REASON_PHRASES
from multidict import CIMultiDict

# What ujson, msgspec and marshal raise for data that is not plain.
UNSURE = (TypeError, ValueError, OverflowError, RecursionError)
encode = msgspec.json.Encoder().encode
PROBLEM = "application/problem+json"  # RFC 9457
logger = logging.getLogger(__name__)

Where = tuple[()] | tuple["Where", object]  # the container's place, and the key or the index in it


def dumps(data: object) -> bytes:
    """Return ``data`` as JSON in UTF-8.

    What ujson does not know is converted by msgspec. A lone surrogate, which UTF-8 cannot hold, is
    written as its JSON escape. Raises TypeError or ValueError, which says where, for a Decimal in a
    dict or a list and for what JSON does not have.
    """
    try:
        # Positional, because ujson takes three times as long for a small object with keywords. They
        # are: ensure_ascii, encode_html_chars, escape_forward_slashes, sort_keys, indent, allow_nan
        body: bytes = ujson.dumps(data, False, False, False, False, 0, False).encode()
        # ujson makes a float of a Decimal, ``str()`` of a key, and calls a method ``toDict``, all
        # without a word. msgspec does not, so what both write alike is right; it takes little time.
        if encode(data) == body:
            return body
    except UNSURE:
        pass
    return _dumps_any(data).encode("utf-8", "backslashreplace")


def _dumps_any(data: object) -> str:
    """Return as JSON what is more than plain data, or has what the two libraries write differently.

    Such are numbers like 1e-7, a lone surrogate, and None as a key.
    """
    try:
        with suppress(*UNSURE):
            plain = msgspec.to_builtins(data, builtin_types=(Decimal,), str_keys=True)
            marshal.dumps(plain)  # raises ValueError for a Decimal
            return ujson.dumps(plain, False, False, False, False, 0, False)
        return ujson.dumps(_plain(data, ()), False, False, False, False, 0, False)
    except (OverflowError, RecursionError):
        raise ValueError("the answer holds itself, or is nested too deeply") from None


def _plain(value: object, where: Where) -> object:
    """Return ``value``, which stands at ``where``, as ujson writes it rightly."""
    if isinstance(value, Enum):
        return _plain(value.value, where)
    if isinstance(value, dict):
        return {_key(key, where): _plain(item, (where, key)) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, (where, number)) for number, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{_name(where)} is {value}, which JSON does not have: send None or text")
    if isinstance(value, Decimal):
        raise TypeError(
            f"{_name(where)} is a Decimal, which would lose digits as a float: send str() of it, "
            "or return it from a typed endpoint"
        )
    if value is None or isinstance(value, str | int | float):
        return value
    try:
        known = msgspec.to_builtins(value, str_keys=True)
    except TypeError:
        kind = type(value).__qualname__
        raise TypeError(
            f"{_name(where)} is of the type {kind}, which JSON does not have: "
            "send dicts, lists, text and numbers, or a Struct or dataclass"
        ) from None
    return _plain(known, where)


def _key(key: object, where: Where) -> object:
    """Return a key of the dict at ``where`` as ujson writes it rightly."""
    if isinstance(key, Enum):
        return _key(key.value, where)
    if key is None or isinstance(key, str | int | float):
        return key
    if isinstance(key, Decimal):
        return str(key)
    with suppress(TypeError):
        text = msgspec.to_builtins(key)
        if isinstance(text, str):
            return text
    kind = type(key).__qualname__
    raise TypeError(f"a key of {_name(where)} is of the type {kind}: send text")


def _name(where: Where) -> str:
    """Return the place as Python would name it: ``["records"][3]["price"]``."""
    steps = []
    while where:
        where, step = where
        steps.append(f"[{step!r:.100}]")
    return "".join(reversed(steps)) or "the answer"


class LazyAttribute:
    """An attribute that ``compute`` fills in when it is first read.

    Unlike functools.cached_property, which takes a lock on Python 3.11.
    """

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self.compute = compute

    def __set_name__(self, _owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, _owner: type) -> Any:
        if instance is None:
            return self
        value = self.compute(instance)
        # Not through instance.__dict__: once that dictionary exists, Python 3.11 looks up every
        # attribute of the instance more slowly.
        setattr(instance, self.name, value)
        return value


class _LazyResponse(web.Response):
    """A web.Response that keeps what the endpoint gave it and computes the rest on first access.

    The constructor fills slots only. ``__dict__`` stays empty until someone reads the headers,
    sets a cookie or another status, enables compression, or touches anything else.
    """

    __slots__ = ("_data", "_status")

    _media = ""
    _zlib_executor_size = MAX_SYNC_CHUNK_SIZE
    _zlib_executor = None

    def __init__(
        self, data: object, *, status: int = 200, headers: LooseHeaders | None = None
    ) -> None:
        self._data = data
        self._status = int(status)
        if headers is not None:
            self._headers = CIMultiDict(headers)
            self._headers.setdefault(hdrs.CONTENT_TYPE, self._media)

    @property
    def _touched(self) -> bool:
        """Return whether more goes out than ``_status``, ``_media`` and ``_render()``."""
        return bool(self.__dict__)

    def _render(self) -> bytes:
        raise NotImplementedError

    @LazyAttribute
    def _body(self) -> bytes:
        return self._render()

    @LazyAttribute
    def _headers(self) -> CIMultiDict[str]:
        return CIMultiDict({hdrs.CONTENT_TYPE: self._media})

    @LazyAttribute
    def _reason(self) -> str:
        return REASON_PHRASES.get(self._status, "")

    @LazyAttribute
    def _state(self) -> dict[str, Any]:
        return {}

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the headers; a body that cannot be rendered is logged and becomes a 500."""
        try:
            _ = self._body
        except Exception as error:
            logger.error("%s: the answer cannot be written: %s", describe(request), error)
            self._become_500()
        return await super().prepare(request)

    def _become_500(self) -> None:
        self.set_status(500)
        self.cookies.clear()
        self.headers.clear()
        self.headers[hdrs.CONTENT_TYPE] = PROBLEM
        self.body = error_body(500, self.reason)


class JSON(_LazyResponse):
    """An answer with ``data`` as JSON; ``data`` is read when the answer is sent.

    ``data`` is made of dicts, lists, text and numbers, and of what msgspec writes: Structs,
    dataclasses, dates and times, UUIDs, enums, sets, bytes. A Decimal is refused where it would
    become a float, NaN everywhere. The answer to what cannot be written is a 500.

    ``headers`` may name another Content-Type, such as application/problem+json.
    """

    __slots__ = ()
    _media = "application/json; charset=utf-8"

    def _render(self) -> bytes:
        return dumps(self._data)


class Encoded(_LazyResponse):
    """An answer whose JSON is ready; ``data`` is its bytes."""

    __slots__ = ()
    _media = JSON._media
    _data: bytes

    def _render(self) -> bytes:
        return self._data


class HTML(_LazyResponse):
    """An answer with ``text`` as an HTML page."""

    __slots__ = ()
    _media = "text/html; charset=utf-8"
    _data: str

    def __init__(
        self, text: str, *, status: int = 200, headers: LooseHeaders | None = None
    ) -> None:
        super().__init__(text, status=status, headers=headers)

    def _render(self) -> bytes:
        return self._data.encode()


def error_body(status: int, detail: str, errors: Sequence[Mapping[str, str]] = (), /) -> bytes:
    """Return the body of a problem: the fields of RFC 9457, then ``error``, which says it shorter.

    ``errors``: the faults of the request, each with ``in``, ``field`` and ``message``.
    """
    body: dict[str, object] = {
        "type": "about:blank",
        "title": REASON_PHRASES.get(status, ""),
        "status": status,
        "detail": detail,
    }
    error: dict[str, object] = {"status": status, "message": detail}
    if errors:
        body["errors"] = errors
        if field := errors[0]["field"]:
            error["field"] = field
    body["error"] = error
    return dumps(body)


def describe(request: web.BaseRequest) -> str:
    """Name a request in a log by its raw path: a decoded one may hold control characters."""
    return f"{request.method} {request.rel_url.raw_path}"
