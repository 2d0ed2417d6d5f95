"""The JSON body of a request: a typed value, or a JSON 4xx that names what is wrong."""

import re
from contextlib import suppress
from typing import Any, TypeVar, overload

import msgspec
from aiohttp import hdrs, web

from api_hour import validation
from api_hour.http.compressed_body import TooCompressed
from api_hour.http.errors import MAX_ECHO, Fault, problem

T = TypeVar("T")


@overload
async def read_json(request: web.Request, type: type[T], *, limit: int | None = None) -> T: ...
@overload
async def read_json(request: web.Request, type: Any = Any, *, limit: int | None = None) -> Any: ...
async def read_json(request: web.Request, type: Any = Any, *, limit: int | None = None) -> Any:
    """Return the body of ``request`` as ``type``, read strictly by msgspec.

    ``limit``: bytes, instead of the application's ``client_max_size``. Raises an HTTPException with
    a JSON body: 415 if the body is not declared as JSON, 413 if it is larger than the limit, 400 if
    it is not JSON, and 422, which names the ``field``, if it is not a ``type``.
    """
    _check_media(request)
    if limit is not None:
        request._client_max_size = limit  # aiohttp has no public way to set it for one request
    body = await _read(request)
    try:
        return _decode(body, type)
    except msgspec.ValidationError as error:
        raise _invalid(error, type) from None
    except (ValueError, RecursionError) as error:
        raise problem(web.HTTPBadRequest(), _malformed(body, error)) from None


def _check_media(request: web.Request) -> None:
    """Refuse a body that is not declared as JSON in UTF-8, the only encoding JSON has."""
    media, charset = request.content_type, request.charset or "utf-8"
    if not re.fullmatch(r"application/(json|.+\+json)", media):
        sent = media[:MAX_ECHO] if hdrs.CONTENT_TYPE in request.headers else "none"
        message = f"Send the body with Content-Type: application/json, not {sent}"
    elif charset.lower() not in ("utf-8", "utf8"):
        message = f"The body must be in UTF-8, not {charset[:MAX_ECHO]}"
    else:
        return
    raise problem(web.HTTPUnsupportedMediaType(), message)


async def _read(request: web.Request) -> bytes:
    """Return the whole body; never reads more than the limit."""
    limit = request.client_max_size
    try:
        if limit and (request.content_length or 0) > limit:
            raise web.HTTPRequestEntityTooLarge(limit)
        body = await request.read()
        if limit and len(body) > limit:  # a middleware has read it, under a larger limit
            raise web.HTTPRequestEntityTooLarge(limit)
        return body
    except TooCompressed as error:
        raise problem(error, str(error.text)) from None
    except web.HTTPRequestEntityTooLarge as error:
        raise problem(error, f"The body is larger than {limit} bytes") from None
    except (web.RequestPayloadError, ConnectionError):
        request.content.feed_eof()  # otherwise aiohttp reads on, and logs the same error again
        incomplete = problem(web.HTTPBadRequest(), "The body did not arrive whole")
        incomplete.force_close()
        raise incomplete from None


def _decode(body: bytes, type: Any) -> Any:
    if not body.isascii():
        body.decode()  # msgspec does not check the text of unknown fields, which it skips
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.ValidationError:
        with suppress(msgspec.ValidationError):
            msgspec.json.decode(body)  # what follows the fault was not read, and may not be JSON
        raise


def _malformed(body: bytes, error: Exception) -> str:
    if not body or body.isspace():
        return "The body is empty"
    if isinstance(error, RecursionError):
        return "The body is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"The body is not UTF-8 (byte {error.start})"
    return f"The body is not JSON: {str(error).removeprefix('JSON is malformed: ')}"


def _invalid(error: msgspec.ValidationError, type: Any) -> web.HTTPException:
    violation = validation.read(error, type)
    field = violation.where + (f".{violation.field}" if violation.field else "")
    of_key = "has a key that " if violation.of_key else ""
    got = f", got {violation.got}" if violation.got else ""
    message = of_key + violation.rule + got
    fault = Fault("body", field.removeprefix("."), message, own=violation.own)
    return problem(web.HTTPUnprocessableEntity(), faults=[fault])


# until merged
check_media = _check_media
async def read_body(request, limit=None):
    if limit is not None:
        request._client_max_size = limit
    return await _read(request)
def body_faults(body, type):
    try: _decode(body, type)
    except msgspec.ValidationError as error: return [Fault("body", "", str(error))]
    except (ValueError, RecursionError) as error: raise problem(web.HTTPBadRequest(), _malformed(body, error)) from None
    return []
