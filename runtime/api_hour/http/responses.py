"""Responses: ordinary aiohttp responses whose headers and body are made when asked for.

The only module that knows the JSON library, and the only one that gives errors their JSON.
"""

import logging
from typing import Any, TypeVar

import ujson
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.compression_utils import MAX_SYNC_CHUNK_SIZE
from aiohttp.typedefs import Handler, LooseHeaders
from aiohttp.web_response import REASON_PHRASES
from multidict import CIMultiDict

from api_hour.exceptions import DatabaseUnavailable, PoolExhausted, QueryTimeout
from api_hour.http.lazy import Lazy

E = TypeVar("E", bound=web.HTTPException)

RETRY_AFTER = {hdrs.RETRY_AFTER: "1"}  # seconds
ANSWERS: dict[type[Exception], tuple[type[web.HTTPException], str]] = {
    DatabaseUnavailable: (web.HTTPServiceUnavailable, "The database is unavailable"),
    PoolExhausted: (web.HTTPServiceUnavailable, "The database is busy"),
    QueryTimeout: (web.HTTPGatewayTimeout, "The database took too long"),
    TimeoutError: (web.HTTPGatewayTimeout, "The answer took too long"),
}
logger = logging.getLogger(__name__)


def dumps(data: object) -> bytes:
    """Return ``data`` as JSON in UTF-8; raises TypeError or OverflowError for what JSON lacks.

    A lone surrogate, which UTF-8 cannot hold, is written as its JSON escape.
    """
    # ensure_ascii, encode_html_chars, escape_forward_slashes, sort_keys, indent, allow_nan: by
    # keyword, ujson takes three times as long for a small object.
    text: str = ujson.dumps(data, False, False, False, False, 0, False)
    return text.encode("utf-8", "backslashreplace")


class _Lazy(web.Response):
    """Keep what the endpoint gave, and make each part of a web.Response when it is read.

    The constructor fills slots only: ``__dict__`` is empty until someone reads the headers, sets
    a cookie or another status, turns compression on, or touches anything else.
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
        """Say whether more goes out than ``_status``, ``_media`` and ``_render()``."""
        return bool(self.__dict__)

    def _render(self) -> bytes:
        raise NotImplementedError

    @Lazy
    def _body(self) -> bytes:
        return self._render()

    @Lazy
    def _headers(self) -> CIMultiDict[str]:
        return CIMultiDict({hdrs.CONTENT_TYPE: self._media})

    @Lazy
    def _reason(self) -> str:
        return REASON_PHRASES.get(self._status, "")

    @Lazy
    def _state(self) -> dict[str, Any]:
        return {}

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the headers; a body that cannot be made is logged, and answered with a 500."""
        try:
            _ = self._body
        except Exception:
            logger.exception("%s: the answer cannot be written", _named(request))
            self._fail()
        return await super().prepare(request)

    def _fail(self) -> None:
        self.set_status(500)
        self.cookies.clear()
        self.headers.clear()
        self.headers[hdrs.CONTENT_TYPE] = JSON._media
        self.body = _error_body(500, self.reason)


class JSON(_Lazy):
    """Answer with ``data`` as JSON, read when the answer is sent.

    ``headers`` may name another Content-Type, such as application/problem+json.
    """

    __slots__ = ()
    _media = "application/json; charset=utf-8"

    def _render(self) -> bytes:
        return dumps(self._data)


class HTML(_Lazy):
    """Answer with ``text`` as a page."""

    __slots__ = ()
    _media = "text/html; charset=utf-8"
    _data: str

    def __init__(
        self, text: str, *, status: int = 200, headers: LooseHeaders | None = None
    ) -> None:
        super().__init__(text, status=status, headers=headers)

    def _render(self) -> bytes:
        return self._data.encode()


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what an endpoint raises with ``{"error": {"status": 404, "message": "..."}}``.

    Headers and cookies of an HTTPException are kept, and redirects are left alone. The errors of
    a database become 503 or 504; any other exception is logged, and a 500 that tells nothing.
    """
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status >= 400 and not error.content_type.endswith("json"):
            message = _message(error)
            if error.status >= 500:
                logger.warning("%s: %s %s", _named(request), error.status, message)
            as_json(error, message)
        raise
    except Exception as error:
        if request.writer.output_size:  # too late to answer: aiohttp ends the connection
            raise
        raise _answer(request, error) from error


def as_json(error: E, message: str, field: str | None = None) -> E:
    """Give ``error`` the JSON body of an error, and return it."""
    for name in (hdrs.CONTENT_LENGTH, hdrs.CONTENT_ENCODING):
        error.headers.popall(name, None)
    error.headers[hdrs.CONTENT_TYPE] = JSON._media
    error.body = _error_body(error.status, message, field)
    return error


def _error_body(status: int, message: str, field: str | None = None) -> bytes:
    detail = {"status": status, "message": message}
    return dumps({"error": detail if field is None else {**detail, "field": field}})


def _answer(request: web.Request, error: Exception) -> web.HTTPException:
    """Return what the client may know of ``error``, and log the rest."""
    for kind, (answer, message) in ANSWERS.items():
        if isinstance(error, kind):
            logger.warning("%s: %s: %s", _named(request), type(error).__name__, error)
            retry = RETRY_AFTER if answer is web.HTTPServiceUnavailable else None
            return as_json(answer(headers=retry), message)
    logger.error("%s: the endpoint failed", _named(request), exc_info=error)
    failed = web.HTTPInternalServerError()
    return as_json(failed, failed.reason)


def _message(error: web.HTTPException) -> str:
    """Return the text that the endpoint gave, or the reason where there is none."""
    text = error.text if error.content_type == "text/plain" else None
    given = text and text != f"{error.status}: {error.reason}"
    return text if text and given else error.reason


def _named(request: web.BaseRequest) -> str:
    """Name a request in a log: the raw path, as a decoded one may hold control characters."""
    return f"{request.method} {request.rel_url.raw_path}"
