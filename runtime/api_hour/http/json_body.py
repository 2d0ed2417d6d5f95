"""The JSON body of a request: a typed value, or a JSON 4xx that names what is wrong."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeVar, overload

import msgspec
from aiohttp import hdrs, web

from api_hour import validation
from api_hour.http.compressed_body import TooCompressed
from api_hour.http.errors import MAX_ECHO, MAX_FAULTS, Fault, problem

T = TypeVar("T")

# What most clients declare; each other Content-Type is parsed.
USUAL = frozenset(
    f"application/json{charset}"
    for charset in ("", "; charset=utf-8", ";charset=utf-8", "; charset=UTF-8", ";charset=UTF-8")
)


@overload
async def read_json(request: web.Request, type: type[T], *, limit: int | None = None) -> T: ...
@overload
async def read_json(request: web.Request, type: Any = Any, *, limit: int | None = None) -> Any: ...
async def read_json(request: web.Request, type: Any = Any, *, limit: int | None = None) -> Any:
    """Return the body of ``request`` as ``type``, read strictly by msgspec.

    ``limit``: bytes, instead of the application's ``client_max_size``. Raises an HTTPException that
    is a problem in JSON: 415 if the body is not declared as JSON, 413 if it is larger than the
    limit, 400 if it is not JSON, and 422, which names each field at fault, if it is not a ``type``.
    """
    check_media(request)
    return decode(await read_body(request, limit), msgspec.json.Decoder(type), type)


def check_media(request: web.Request) -> None:
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


async def read_body(request: web.Request, limit: int | None = None) -> bytes:
    """Return the whole body; never reads more than the limit.

    ``limit``: bytes, instead of the application's ``client_max_size``. Raises a 413 if the body is
    larger, and a 400 if it does not arrive whole.
    """
    if limit is not None:
        request._client_max_size = limit  # aiohttp has no public way to set it for one request
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


def body_nowait(request: web.Request, limit: int | None) -> bytes | None:
    """Return the body if it is declared as JSON, in the usual words, and has all arrived.

    Otherwise None: then ``check_media`` and ``read_body`` decide.
    """
    if request._message.headers.get(hdrs.CONTENT_TYPE) not in USUAL:
        return None
    if not hasattr(request, "read_nowait"):  # aiohttp's own; isinstance() is slow for its classes
        return None
    body: bytes | None = request.read_nowait()
    allowed = limit or request._client_max_size
    return None if body is None or 0 < allowed < len(body) else body


def decode(body: bytes, decoder: "msgspec.json.Decoder[T]", type: Any) -> T:
    """Return what ``decoder``, which is one of ``type``, makes of ``body``.

    Raises a 400 if the body is not JSON, and a 422 if it is not a ``type``.
    """
    try:
        return read_strictly(body, decoder)
    except (ValueError, RecursionError) as error:
        found = faults(body, type, error)
        raise problem(web.HTTPUnprocessableEntity(), faults=found) from None


def read_strictly(body: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    """Do the same without any answer; raises ValueError or RecursionError."""
    if not body.isascii():
        body.decode()  # msgspec does not check the text of unknown fields, which it skips
    return decoder.decode(body)


def faults(body: bytes, type: Any, error: Exception) -> list[Fault]:
    """Return every fault of the top level of ``body``, which was refused with ``error``.

    Of a field's own faults it is the first. A ``type`` that is not an object with fields has one.
    Raises a 400 if the body is not JSON, which may be so after the place of ``error``, too.
    """
    try:
        if not isinstance(error, msgspec.ValidationError):
            raise error
        msgspec.json.decode(body, type=msgspec.Raw)
    except (ValueError, RecursionError) as malformed:
        raise problem(web.HTTPBadRequest(), _malformed(body, malformed)) from None
    first = Fault.of("body", validation.read(error, type))
    found = [
        Fault.of("body", violation) for violation in islice(_violations(body, type), MAX_FAULTS)
    ]
    return found if first.field in [fault.field for fault in found] else [first, *found]


def _violations(body: bytes, type: Any) -> Iterator[validation.Violation]:
    """Yield what is wrong with each field: those of ``body`` one by one, then those it lacks.

    Each field is decoded again by itself, as an object of ``type`` that has no other.
    """
    kind = validation.object_type(type)
    if kind is None:
        return
    try:
        sent = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:  # it is not an object
        return
    known = {field.encode_name for field in kind.fields} | {getattr(kind, "tag_field", None)}
    strict = getattr(kind, "forbid_unknown_fields", False)
    decoder = msgspec.json.Decoder(type)
    for name, value in sent.items():
        if name not in known and not strict:
            continue
        try:
            decoder.decode(b"{%b:%b}" % (msgspec.json.encode(name), value))
        except msgspec.ValidationError as error:
            violation = validation.read(error, type)
            if violation.where.startswith(f".{name}") or violation.field == name:
                yield violation
    for field in kind.fields:
        if field.required and field.encode_name not in sent:
            missing = validation.MISSING
            yield validation.Violation(missing, "", False, missing, field=field.encode_name)


def _malformed(body: bytes, error: Exception) -> str:
    if not body or body.isspace():
        return "The body is empty"
    if isinstance(error, RecursionError):
        return "The body is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"The body is not UTF-8 (byte {error.start})"
    return f"The body is not JSON: {str(error).removeprefix('JSON is malformed: ')}"
