"""The handler of an operation: Python source that is written, compiled and run at start.

What a request needs is known before the first one comes: which keys, which types, which providers,
in which order. A loop over such a description would cost each request more than the checks do, so
the description becomes a function, such as

    async def list_page(request):
        try:
            query_values = read_query(request.query.items())
            query_0 = convert(query_values, query_0_type)
        except UNREADABLE as error:
            raise await refuse(request, error) from None
        value = await endpoint(page=query_0, pool=provided_0)
        try:
            return Encoded(encode(value))
        except TypeError:
            return answer(value, 200)

A traceback through it shows its lines, and ``handler.__source__`` is its text.
"""

import functools
import linecache
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import copy
from typing import Any

import msgspec
from aiohttp import web

from api_hour.exceptions import ConfigError
from api_hour.http.api import answers, forms
from api_hour.http.api.events import Streams
from api_hour.http.api.faults import UNREADABLE, Refusal
from api_hour.http.api.operation import (
    BODY,
    COOKIE,
    EVENTS,
    FORM,
    HEADER,
    JSON,
    NOTHING,
    PATH,
    QUERY,
    RESPONSE,
    Call,
    Operation,
    Parameter,
    Provided,
    Source,
)
from api_hour.http.api.reading import Reading
from api_hour.http.api.texts import path_reader
from api_hour.http.json_body import body_nowait, check_media, read_body
from api_hour.http.responses import Encoded
from api_hour.http.server import named

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

WITHOUT_BODY = "GET", "HEAD"


def compile_handler(operation: Operation, streams: Streams) -> Handler:
    """Return the aiohttp handler of an operation; raises ConfigError if it cannot be one."""
    source = _Writer(operation, streams)
    text = source.write()
    file = f"<{operation.method} {operation.path}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    scope = source.scope
    exec(compile(text, file, "exec"), scope)  # noqa: S102 - of the names of the project's functions
    handler: Any = scope["handler"]
    function = operation.call.function
    handler = functools.update_wrapper(handler, function)
    handler.__source__ = text
    return handler  # type: ignore[no-any-return]


def path_variables(request: web.Request) -> Mapping[str, str]:
    """Return the variables in the path, of aiohttp's own request, too."""
    # Not isinstance(), which is slow for aiohttp's classes.
    return getattr(request, "path_variables", None) or request.match_info


class _Writer:
    """Writes the source of one handler, and collects the objects that it names."""

    def __init__(self, operation: Operation, streams: Streams) -> None:
        self._operation = operation
        parameters = operation.parameters
        self._readings = self._read_texts(parameters)
        self._body = self._the_body(parameters)
        self._form = next((r for r in self._readings if r.place == FORM), None)
        self._paths = [parameter for parameter in parameters if parameter.place == PATH]
        self._lines: list[str] = []
        self._calls: dict[Call, str] = {}  # the variable of what each provider gave
        self._provided: list[Provided] = []
        self._refusal = Refusal(operation, self._readings, self._body)
        self.scope: dict[str, Any] = {
            "Encoded": Encoded,
            "UNREADABLE": UNREADABLE,
            "answer": answers.answer,
            "body_nowait": body_nowait,
            "check_media": check_media,
            "convert": msgspec.convert,
            "copy": copy,
            "empty": answers.empty,
            "encode": answers.encode,
            "endpoint": operation.call.function,
            "read_body": read_body,
            "open_form": forms.open_form,
            "path_variables": path_variables,
            "refuse": self._refusal,
            "stream": streams.answer,
        }

    def write(self) -> str:
        """Return the source of a function ``handler``."""
        self._add(0, "async def handler(request):")
        for number, security in enumerate(self._operation.security):
            self.scope[f"check_{number}"] = security.check
            self._add(1, f"await check_{number}(request)")
        self._write_texts()
        if self._form is not None:
            self._write_form()
        else:
            self._write_providers(self._operation.call, 1, after_body=False)
            self._write_body()
            self._write_providers(self._operation.call, 1, after_body=True)
            self._write_answer(1)
        return "\n".join(self._lines) + "\n"

    def _write_texts(self) -> None:
        readings = [reading for reading in self._readings if reading.place != FORM]
        if readings or self._paths:
            self._add(1, "try:")
            if self._paths:
                self._add(2, "variables = path_variables(request)")
            for parameter in self._paths:
                name = f"path_{parameter.name}"
                self.scope[f"read_{name}"] = path_reader(parameter.type)
                self._add(2, f"{name} = read_{name}(variables[{parameter.key!r}])")
            for reading in readings:
                by_query = reading.place == QUERY
                pairs = "request.query.items()" if by_query else f"{reading.place}_pairs(request)"
                self._write_reading(reading, 2, pairs)
            self._write_refusal(1)
        if self._refusal.refuses_query:
            self._add(1, 'if "?" in request.raw_path and request.query:')
            self._add(2, "raise await refuse(request)")

    def _write_reading(self, reading: Reading, depth: int, pairs: str) -> None:
        place = reading.place
        self.scope[place] = reading
        self.scope[f"{place}_pairs"] = reading.utf8_pairs
        self.scope[f"read_{place}"] = reading.texts.read
        self._add(depth, f"{place}_values = read_{place}({pairs})")
        for number, part in enumerate(reading.parts):
            name = f"{place}_{number}"
            self.scope[f"{name}_type"] = part.type
            values = f"{place}_values"
            if part.is_choosy and len(reading.parts) > 1:
                self.scope[f"choose_{name}"] = part.choose
                values = f"choose_{name}({values}, {place}.named)"
            self._add(depth, f"{name} = convert({values}, {name}_type)")

    def _write_body(self) -> None:
        if self._body is None:
            return
        self.scope["decode"] = msgspec.json.Decoder(self._body.type).decode
        self.scope["default"] = self._body.default
        limit = self._operation.body_limit
        depth = 1
        if not self._body.required:
            self._add(1, "body = copy(default)")
            self._add(1, "if request.body_exists:")
            depth = 2
        self._add(depth, f"content = body_nowait(request, {limit})")
        self._add(depth, "if content is None:")
        self._add(depth + 1, "check_media(request)")
        self._add(depth + 1, f"content = await read_body(request, {limit})")
        self._add(depth, "try:")
        self._add(depth + 1, "if not content.isascii():")
        self._add(depth + 2, "content.decode()")
        self._add(depth + 1, "body = decode(content)")
        self._write_refusal(depth)

    def _write_form(self) -> None:
        assert self._form is not None  # noqa: S101 - for mypy
        limit = self._operation.body_limit
        self._write_providers(self._operation.call, 1, after_body=False)
        self._add(1, f"async with open_form(request, {limit}) as sent:")
        self._add(2, "try:")
        self._write_reading(self._form, 3, "form.form_pairs(sent)")
        self._write_refusal(2)
        self._write_providers(self._operation.call, 2, after_body=True)
        self._write_answer(2)

    def _write_refusal(self, depth: int) -> None:
        self._add(depth, "except UNREADABLE as error:")
        form = ", sent" if depth > 1 and self._form is not None else ""
        self._add(depth + 1, f"raise await refuse(request, error{form}) from None")

    def _write_providers(self, call: Call, depth: int, *, after_body: bool) -> None:
        """Call the providers of a function, those of each provider first, each once."""
        for source in call.arguments.values():
            if not isinstance(source, Call) or source in self._calls:
                continue
            self._write_providers(source, depth, after_body=after_body)
            needs_body = any(p.place in (BODY, FORM) for p in source.parameters())
            if source in self._calls or (needs_body and not after_body):
                continue
            name = f"given_{len(self._calls)}"
            self.scope[f"provide_{name}"] = source.function
            self._add(depth, f"{name} = await provide_{name}({self._arguments(source)})")
            self._calls[source] = name

    def _write_answer(self, depth: int) -> None:
        kind, status = self._operation.answer.kind, self._operation.status
        call = f"endpoint({self._arguments(self._operation.call)})"
        if kind == EVENTS:
            self._add(depth, f"return await stream(request, {call})")
            return
        if kind == RESPONSE:
            self._add(depth, f"return await {call}")
            return
        self._add(depth, f"value = await {call}")
        if kind == NOTHING:
            self._add(depth, f"return empty(value, {status})")
            return
        assert kind == JSON  # noqa: S101 - the last of the kinds
        self._add(depth, "try:")
        given = "" if status == 200 else f", status={status}"
        self._add(depth + 1, f"return Encoded(encode(value){given})")
        self._add(depth, "except TypeError:")
        self._add(depth + 1, f"return answer(value, {status})")

    def _arguments(self, call: Call) -> str:
        return ", ".join(
            f"{name}={self._expression(source)}" for name, source in call.arguments.items()
        )

    def _expression(self, source: Source) -> str:
        if isinstance(source, Call):
            return self._calls[source]
        if isinstance(source, Provided):
            return self._provided_name(source)
        if not isinstance(source, Parameter):
            return "request"
        if source.place == BODY:
            return "body"
        if source.place == PATH:
            return f"path_{source.name}"
        reading = next(r for r in self._readings if r.place == source.place)
        for number, part in enumerate(reading.parts):
            if source in part.parameters:
                variable = f"{source.place}_{number}"
                return variable if part.is_whole else f"{variable}.{source.name}"
        raise AssertionError(source)

    def _provided_name(self, source: Provided) -> str:
        known = [number for number, other in enumerate(self._provided) if other is source]
        if not known:
            self._provided.append(source)
        name = f"provided_{known[0] if known else len(self._provided) - 1}"
        self.scope[name] = source.value
        return name

    def _read_texts(self, parameters: Iterable[Parameter]) -> list[Reading]:
        readings = []
        for place in (HEADER, COOKIE, QUERY, FORM):
            those = [parameter for parameter in parameters if parameter.place == place]
            if not those:
                continue
            try:
                readings.append(Reading(place, those))
            except ValueError as error:
                raise self._wrong(str(error)) from None
        return readings

    def _the_body(self, parameters: Iterable[Parameter]) -> Parameter | None:
        bodies = [parameter for parameter in parameters if parameter.place in (BODY, FORM)]
        if bodies and self._operation.method in WITHOUT_BODY:
            raise self._wrong(
                f"parameter {bodies[0].name} is a {bodies[0].place}, which a request of the "
                f"method {self._operation.method} has not"
            )
        of_json = [parameter for parameter in bodies if parameter.place == BODY]
        if of_json and len(bodies) > 1:
            names = " and ".join(parameter.name for parameter in bodies)
            raise self._wrong(f"parameters {names} would each be the body: take one of them")
        return of_json[0] if of_json else None

    def _wrong(self, message: str) -> ConfigError:
        return ConfigError(f"endpoint {named(self._operation.call.function)}: {message}")

    def _add(self, depth: int, line: str) -> None:
        self._lines.append("    " * depth + line)
