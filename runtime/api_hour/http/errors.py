"""Errors: what an endpoint raises becomes a problem (RFC 9457), and the log gets the rest."""

import json
import logging
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from api_hour.exceptions import (
    DatabaseUnavailable,
    EngineUnavailable,
    InvalidArgument,
    PoolExhausted,
    QueryTimeout,
)
from api_hour.http.request import Request, body_error, has_left, is_of_client
from api_hour.http.responses import PROBLEM, describe, error_body

if TYPE_CHECKING:
    from api_hour.validation import Violation

E = TypeVar("E", bound=web.HTTPException)

MAX_ECHO = 200  # characters of the client's own text that an answer repeats
MAX_MESSAGE = 500  # characters of a fault, which may hold a project's own choices and words
MAX_DETAIL = 1000  # characters of a detail that is made from several faults
MAX_FAULTS = 100  # in one answer
WHOLES = {"header": "The headers", "cookie": "The cookies"}  # the others: "The body", "The query"
RETRY_AFTER = {hdrs.RETRY_AFTER: "1"}  # seconds
ANSWERS: dict[type[Exception], tuple[type[web.HTTPException], str]] = {
    DatabaseUnavailable: (web.HTTPServiceUnavailable, "The database is unavailable"),
    EngineUnavailable: (web.HTTPServiceUnavailable, "A service that is needed is unavailable"),
    PoolExhausted: (web.HTTPServiceUnavailable, "The database is busy"),
    QueryTimeout: (web.HTTPGatewayTimeout, "The database took too long"),
    TimeoutError: (web.HTTPGatewayTimeout, "The answer took too long"),
    InvalidArgument: (
        web.HTTPUnprocessableEntity,
        "Text must not contain the character NUL, nor another that the database cannot store",
    ),
}
READERS = {  # what reads the body as text
    method.__code__ for method in (Request.json, web.BaseRequest.json, web.BaseRequest.text)
}
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one field of a request."""

    place: str  # "body", "query", "header", "cookie", "form" or "path"
    field: str  # "hosts[1].port"; empty for the whole place
    message: str  # says it of the field: "must be an integer, got a string"
    own: bool = False  # ``message`` is a sentence by itself: "the name root is taken"

    @classmethod
    def of(cls, place: str, violation: "Violation") -> "Fault":
        """Return what ``violation`` means for a client."""
        field = violation.where + (f".{violation.field}" if violation.field else "")
        of_key = "has a key that " if violation.of_key else ""
        got = f", got {violation.got}" if violation.got else ""
        message = of_key + violation.rule + got
        return cls(place, field.removeprefix("."), message, own=violation.own)

    def __str__(self) -> str:
        subject = self.field[:MAX_ECHO] or WHOLES.get(self.place, f"The {self.place}")
        return f"{subject}{':' if self.own else ''} {self.message[:MAX_MESSAGE]}"


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what an endpoint raises with a problem in JSON, as RFC 9457 has it.

    An HTTPException keeps its headers and cookies; redirects are left alone. An engine that is
    unavailable becomes a 503, another database error a 503 or a 504, or a 422 for text that it
    cannot store. A body that ``request.json()`` cannot read is a 400. Any other exception is logged
    and becomes a 500 without details.
    """
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status >= 400 and not error.content_type.endswith("json"):
            message = _message(error)
            if error.status >= 500:
                logger.warning("%s: %s %s", describe(request), error.status, message)
            problem(error, message)
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if request.writer.output_size:  # too late to answer: aiohttp closes the connection
            raise
        if is_of_client(request, error):  # a body that is malformed, late, or that nobody ends
            if has_left(request):
                raise
            raise _refusal(error) from error
        raise _answer(request, error) from error


def problem(error: E, message: str | None = None, faults: Sequence[Fault] = ()) -> E:
    """Give ``error`` a body of the type application/problem+json, and return it.

    ``message``: one sentence for the client; by default it is made from the ``faults``, and without
    any it is the reason phrase. No more than ``MAX_FAULTS`` of them are sent.
    """
    for name in (hdrs.CONTENT_LENGTH, hdrs.CONTENT_ENCODING):
        error.headers.popall(name, None)
    error.headers[hdrs.CONTENT_TYPE] = PROBLEM
    entries = [
        {
            "in": fault.place,
            "field": fault.field[:MAX_ECHO],
            "message": fault.message[:MAX_MESSAGE],
        }
        for fault in faults[:MAX_FAULTS]
    ]
    if message is None:
        message = _detail(faults) if faults else error.reason
    error.body = error_body(error.status, message, entries)
    return error


def _detail(faults: Sequence[Fault]) -> str:
    """Return one sentence about all of ``faults``, or about as many as fit."""
    said = str(faults[0])
    for number, fault in enumerate(faults[1:], 1):
        sentence = f"{said}; {fault}"
        if len(sentence) > MAX_DETAIL:
            return f"{said}; and {len(faults) - number} more"
        said = sentence
    return said


def _answer(request: web.Request, error: BaseException) -> web.HTTPException:
    """Return what the client may know about ``error``, and log the rest."""
    for kind, (answer, message) in ANSWERS.items():
        if isinstance(error, kind):
            if answer.status_code >= 500:
                logger.warning("%s: %s: %s", describe(request), type(error).__name__, error)
            retry = RETRY_AFTER if answer is web.HTTPServiceUnavailable else None
            return problem(answer(headers=retry), message)
    if unreadable := _unreadable(error):
        return unreadable
    logger.error("%s: the endpoint failed", describe(request), exc_info=error)
    internal = web.HTTPInternalServerError()
    return problem(internal)


def _unreadable(error: BaseException) -> web.HTTPException | None:
    """Return the answer to a body that is not the text or the JSON as which it was read."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    if READERS.isdisjoint(codes):
        return None
    if isinstance(error, LookupError) and codes[-1] in READERS:
        return problem(web.HTTPUnsupportedMediaType(), "The charset of the body is not known")
    if isinstance(error, UnicodeDecodeError):
        message = f"The body is not {error.encoding} (byte {error.start})"
    elif isinstance(error, RecursionError):
        message = "The body is nested too deeply"
    elif isinstance(error, ValueError):
        told = f": {error}" if isinstance(error, json.JSONDecodeError) else ""
        message = f"The body is not JSON{told}"
    else:
        return None
    return problem(web.HTTPBadRequest(), message)


def _refusal(error: BaseException) -> web.HTTPException:
    """Return the answer to a body that failed; nothing of it is worth a line of the log."""
    status, message = body_error(error)
    refused = web.HTTPRequestTimeout() if status == 408 else web.HTTPBadRequest()
    refused.force_close()
    return problem(refused, message)


def _message(error: web.HTTPException) -> str:
    """Return the text that the endpoint gave, else the reason phrase."""
    text = error.text if error.content_type == "text/plain" else None
    given = text and text != f"{error.status}: {error.reason}"
    return text if text and given else error.reason
