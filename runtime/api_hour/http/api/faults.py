"""A refused request is read again, and everything that is wrong with it becomes one answer."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from api_hour import validation
from api_hour.http.api.forms import Form
from api_hour.http.api.operation import FORM, PATH, QUERY, Operation, Parameter
from api_hour.http.api.reading import Part, Reading
from api_hour.http.api.texts import path_reader
from api_hour.http.errors import Fault, problem
from api_hour.http.json_body import body_faults, check_media, read_body

MAX_KEYS = 1000  # of one place that are looked at, after which enough is said
NOUNS = validation.NOUNS | {"Upload": "a file", "bool": "true, false, 1, 0, yes, no, on or off"}
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

    async def __call__(
        self, request: web.Request, error: Exception, form: Form | None = None
    ) -> BaseException:
        """Return the answer to a request; ``error`` itself if nothing is wrong with it."""
        for parameter in self._paths:
            try:
                path_reader(parameter.type)(request.match_info[parameter.key])
            except UNREADABLE as unreadable:
                fault = _fault(PATH, parameter.key, unreadable, parameter.type)
                return problem(web.HTTPNotFound(), faults=[fault])
        faults: list[Fault] = []
        for reading in self._readings:
            if reading.place != FORM:
                faults += _faults_of(reading, reading.pairs(request))
            elif form is not None:
                faults += _faults_of(reading, form)
        if self._body is not None and (self._body.required or request.body_exists):
            faults += await self._of_body(request)
        if not faults:
            return error
        return problem(web.HTTPUnprocessableEntity(), faults=faults)

    async def _of_body(self, request: web.Request) -> list[Fault]:
        """Return the faults of a body of JSON; raises the answer to what is not JSON."""
        assert self._body is not None  # noqa: S101 - for mypy
        check_media(request)
        return body_faults(await read_body(request, self._limit), self._body.type)


def refuse_query(request: web.Request) -> None:
    """Raise the answer to a request whose keys of the query nobody takes."""
    faults = [Fault(QUERY, key, validation.UNKNOWN) for key in dict.fromkeys(request.query)]
    if faults:
        raise problem(web.HTTPUnprocessableEntity(), faults=faults)


def _faults_of(reading: Reading, pairs: Iterable[tuple[str, Any]]) -> list[Fault]:
    texts = reading.texts
    faults, values = [], {}
    known: list[tuple[str, Any]] = []
    times: Counter[str] = Counter()
    for key, text in pairs:
        times[key] += 1
        if key not in texts.fields and texts.rest is None:
            if times[key] == 1 and len(faults) < MAX_KEYS:
                faults.append(Fault(reading.place, key, validation.UNKNOWN))
        elif times[key] == 1 or (key in texts.fields and texts.fields[key].many):
            known.append((key, text))
    values = texts.read(known)
    for key, count in times.items():
        single = key not in texts.fields or not texts.fields[key].many
        if count > 1 and single and (key in texts.fields or texts.rest):
            faults.append(Fault(reading.place, key, f"may come once, and came {count} times"))
    for part in reading.parts:
        faults += _faults_of_part(part, part.choose(values, reading.named), reading.place)
    return faults


def _faults_of_part(part: Part, values: Mapping[str, Any], place: str) -> list[Fault]:
    try:
        part.convert(values)
    except UNREADABLE as error:
        found = list(_faults_of_fields(part, values, place))
        return found or [_fault(place, "", error, part.type)]
    return []


def _faults_of_fields(part: Part, values: Mapping[str, Any], place: str) -> Iterator[Fault]:
    for field in validation.declared_fields(part.type):
        key = part.keys.get(field.name, field.name)
        if field.name in values:
            try:
                msgspec.convert(values[field.name], field.type)
            except UNREADABLE as error:
                yield _fault(place, key, error, field.type)
        elif field.required:
            yield Fault(place, key, validation.MISSING)


def _fault(place: str, key: str, error: Exception, declared: Any) -> Fault:
    violation = validation.read(error, declared, NOUNS)
    return Fault(place, key + violation.where, violation.rule, own=violation.own)


