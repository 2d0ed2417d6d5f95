"""A refused request is read again, and everything that is wrong with it becomes one answer."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from aiohttp import web

from api_hour import validation
from api_hour.http.api.forms import Form, open_form
from api_hour.http.api.operation import FORM, PATH, QUERY, Operation, Parameter
from api_hour.http.api.reading import Part, Reading
from api_hour.http.api.texts import path_reader
from api_hour.http.errors import Fault, problem
from api_hour.http.json_body import check_media, faults, read_body, read_strictly

NOUNS = validation.NOUNS | {
    "Upload": "a file",
    "bool": "true or false, 1 or 0, yes or no, on or off",
}
UNREADABLE = msgspec.MsgspecError, ValueError, RecursionError


class Refusal:
    """Says what is wrong with a request that an operation could not take."""

    def __init__(
        self, operation: Operation, readings: Sequence[Reading], body: Parameter | None
    ) -> None:
        self._paths = [p for p in operation.parameters if p.place == PATH]
        self._readings = readings
        self._body = body
        self._limit = operation.body_limit
        # Who takes the request may read of the query what it likes.
        by_query = any(reading.place == QUERY for reading in readings)
        self.refuses_query = not by_query and not operation.call.takes_request()

    async def __call__(
        self, request: web.Request, error: Exception | None = None, form: Form | None = None
    ) -> BaseException:
        """Return the answer to a request; ``error`` itself if nothing is wrong with it."""
        for parameter in self._paths:
            try:
                path_reader(parameter.type)(request.match_info[parameter.key])
            except UNREADABLE as unreadable:
                violation = validation.read(unreadable, parameter.type, NOUNS)
                fault = Fault(PATH, parameter.key, violation.rule, own=violation.own)
                return problem(web.HTTPNotFound(), faults=[fault])
        found: list[Fault] = []
        if self.refuses_query:
            found += [Fault(QUERY, key, validation.UNKNOWN) for key in dict.fromkeys(request.query)]
        for reading in self._readings:
            if reading.place != FORM:
                found += _faults(reading, reading.pairs(request))
            elif form is not None:
                found += _faults(reading, reading.form_pairs(form))
            else:
                async with open_form(request, self._limit) as sent:
                    found += _faults(reading, reading.form_pairs(sent))
        if self._body is not None and (self._body.required or request.body_exists):
            found += await self._of_body(request, self._body.type)
        if error is not None and not found:
            return error
        return problem(web.HTTPUnprocessableEntity(), faults=found)

    async def _of_body(self, request: web.Request, kind: Any) -> list[Fault]:
        """Return the faults of a body of JSON; raises the answer to what is not JSON."""
        check_media(request)
        body = await read_body(request, self._limit)
        try:
            read_strictly(body, msgspec.json.Decoder(kind))
        except (ValueError, RecursionError) as error:
            return faults(body, kind, error)
        return []


def _faults(reading: Reading, pairs: Iterable[tuple[str, Any]]) -> Iterator[Fault]:
    """Yield what is wrong in one place: with its keys, then with their values."""
    texts, place = reading.texts, reading.place
    given = list(pairs)
    unreadable = dict.fromkeys(key for key, text in given if not _is_utf8(text))
    yield from (Fault(place, key, "must be text in UTF-8") for key in unreadable)
    given = [(key, "" if key in unreadable else text) for key, text in given]
    times = Counter(key for key, _ in given)
    single = [key for key in times if not (key in texts.fields and texts.fields[key].many)]
    for key, count in times.items():
        if key not in texts.fields and texts.rest is None:
            yield Fault(place, key, validation.UNKNOWN)
        elif key in single and count > 1:
            yield Fault(place, key, f"may come once, and came {count} times")
    first = dict(reversed(given))
    known = [(key, first[key]) for key in single if key in texts.fields or texts.rest is not None]
    values = texts.read([*known, *((key, text) for key, text in given if key not in single)])
    for part in reading.parts:
        for fault in _faults_of_part(part, part.choose(values, reading.named), place):
            if fault.field.partition("[")[0] not in unreadable:
                yield fault


def _is_utf8(value: Any) -> bool:
    """Return whether a value is a file, or text that came in UTF-8."""
    try:
        return not isinstance(value, str) or value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def _faults_of_part(part: Part, values: Mapping[str, Any], place: str) -> Iterator[Fault]:
    """Yield what is wrong with each key; of what only all of them together show, the one fault."""
    try:
        part.convert(values)
        return
    except UNREADABLE as error:
        whole = _fault(part, error, place)
    found = list(_faults_of_keys(part, values, place))
    yield from found or [whole]


def _faults_of_keys(part: Part, values: Mapping[str, Any], place: str) -> Iterator[Fault]:
    keys = {name: name for name in values} if part.takes_rest else part.keys
    for name, key in keys.items():
        if name in values:
            try:
                part.convert({name: values[name]})
            except UNREADABLE as error:
                fault = _fault(part, error, place)
                if part.takes_rest:  # msgspec does not say which
                    yield replace(fault, field=name)
                elif fault.field == key or fault.field.startswith(f"{key}["):
                    yield fault
        elif name in part.required:
            yield Fault(place, key, validation.MISSING)


def _fault(part: Part, error: Exception, place: str) -> Fault:
    """Return a fault by its key on the wire; the type of a text says nothing."""
    violation = validation.read(error, part.type, NOUNS)
    rule = violation.rule.replace(" or null", "")  # which no text is
    fault = Fault.of(place, replace(violation, rule=rule, got=""))
    name, bracket, index = fault.field.partition("[")
    return replace(fault, field=part.keys.get(name, name) + bracket + index)
