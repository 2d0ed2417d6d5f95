"""Forms: the body of an HTML form, with or without files, as pairs of key and value."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import hdrs, web

from api_hour.http.api.uploads import Upload
from api_hour.http.errors import MAX_ECHO, problem

URLENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
Form = list[tuple[str, str | Upload]]


@asynccontextmanager
async def open_form(request: web.Request, limit: int | None) -> AsyncIterator[Form]:
    """Yield the pairs of a form, and close its files afterwards.

    ``limit``: bytes of the whole body, instead of the application's ``client_max_size``. Files
    above a size go to the disk as they arrive. Raises an HTTPException for what is not a form.
    """
    if request.content_type not in (URLENCODED, MULTIPART):
        has_type = hdrs.CONTENT_TYPE in request.headers
        sent = request.content_type[:MAX_ECHO] if has_type else "none"
        message = f"Send a form, as {MULTIPART} or {URLENCODED}, not {sent}"
        raise problem(web.HTTPUnsupportedMediaType(), message)
    if limit is not None:
        request._client_max_size = limit  # aiohttp has no public way to set it for one request
    try:
        fields = await request.post()
    except web.HTTPRequestEntityTooLarge as error:
        message = error.text or ""  # of the number of fields, or of what was inflated
        if message.startswith("Maximum request body size"):
            message = f"The body is larger than {request.client_max_size} bytes"
        raise problem(error, message) from None
    files = [value.file for value in fields.values() if isinstance(value, web.FileField)]
    try:
        yield [(_utf8(key), _value(value)) for key, value in fields.items()]
    finally:
        for file in files:
            file.close()


def _value(value: str | bytes | bytearray | web.FileField) -> str | Upload:
    if isinstance(value, web.FileField):
        return Upload(value)
    return _utf8(value)


def _utf8(text: str | bytes | bytearray) -> str:
    try:
        return (text.encode() if isinstance(text, str) else text).decode()
    except UnicodeError as error:
        raise problem(web.HTTPBadRequest(), "A field of the form is not UTF-8") from error
