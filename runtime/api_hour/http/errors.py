"""Errors: what an endpoint raises becomes an answer in JSON, and the log gets the rest."""

import logging
from typing import TypeVar

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from api_hour.exceptions import DatabaseUnavailable, PoolExhausted, QueryTimeout
from api_hour.http.request import body_error, has_left, is_of_client
from api_hour.http.responses import JSON, describe, error_body

E = TypeVar("E", bound=web.HTTPException)

RETRY_AFTER = {hdrs.RETRY_AFTER: "1"}  # seconds
ANSWERS: dict[type[Exception], tuple[type[web.HTTPException], str]] = {
    DatabaseUnavailable: (web.HTTPServiceUnavailable, "The database is unavailable"),
    PoolExhausted: (web.HTTPServiceUnavailable, "The database is busy"),
    QueryTimeout: (web.HTTPGatewayTimeout, "The database took too long"),
    TimeoutError: (web.HTTPGatewayTimeout, "The answer took too long"),
}
logger = logging.getLogger(__name__)


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what an endpoint raises with ``{"error": {"status": 404, "message": "..."}}``.

    An HTTPException keeps its headers and cookies; redirects are left alone. A database error
    becomes a 503 or a 504. Any other exception is logged and becomes a 500 without details.
    """
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status >= 400 and not error.content_type.endswith("json"):
            message = _message(error)
            if error.status >= 500:
                logger.warning("%s: %s %s", describe(request), error.status, message)
            as_json(error, message)
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if request.writer.output_size:  # too late to answer: aiohttp closes the connection
            raise
        if is_of_client(request, error):  # a body that is malformed, late, or that nobody ends
            if has_left(request):
                raise
            raise _refusal(error) from error
        raise _answer(request, error) from error


def as_json(error: E, message: str, field: str | None = None) -> E:
    """Give ``error`` a JSON body, and return it."""
    for name in (hdrs.CONTENT_LENGTH, hdrs.CONTENT_ENCODING):
        error.headers.popall(name, None)
    error.headers[hdrs.CONTENT_TYPE] = JSON._media
    error.body = error_body(error.status, message, field)
    return error


def _answer(request: web.Request, error: BaseException) -> web.HTTPException:
    """Return what the client may know about ``error``, and log the rest."""
    for kind, (answer, message) in ANSWERS.items():
        if isinstance(error, kind):
            logger.warning("%s: %s: %s", describe(request), type(error).__name__, error)
            retry = RETRY_AFTER if answer is web.HTTPServiceUnavailable else None
            return as_json(answer(headers=retry), message)
    logger.error("%s: the endpoint failed", describe(request), exc_info=error)
    internal = web.HTTPInternalServerError()
    return as_json(internal, internal.reason)


def _refusal(error: BaseException) -> web.HTTPException:
    """Return the answer to a body that failed; nothing of it is worth a line of the log."""
    status, message = body_error(error)
    refused = web.HTTPRequestTimeout() if status == 408 else web.HTTPBadRequest()
    refused.force_close()
    return as_json(refused, message)


def _message(error: web.HTTPException) -> str:
    """Return the text that the endpoint gave, else the reason phrase."""
    text = error.text if error.content_type == "text/plain" else None
    given = text and text != f"{error.status}: {error.reason}"
    return text if text and given else error.reason
