"""The plan of what is read from a request: per place, the keys, and the types made of them."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from aiohttp import web

from api_hour.http.api import texts
from api_hour.http.api.forms import Form
from api_hour.http.api.operation import FORM, HEADER, QUERY, Parameter


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A value that msgspec makes of the keys of one place."""

    type: Any
    parameters: tuple[Parameter, ...]  # the one that it is; or those that its attributes are
    keys: Mapping[str, str]  # by their names in ``type``
    required: frozenset[str] = frozenset()  # names
    takes_rest: bool = False  # a mapping of all keys that no other part has

    @property
    def is_whole(self) -> bool:
        """Return whether the value itself is the argument, and not its attributes."""
        return not self.parameters[0].key

    @property
    def is_choosy(self) -> bool:
        """Return whether it refuses, or takes, what is not its own."""
        return self.takes_rest or bool(
            getattr(getattr(self.type, "__struct_config__", None), "forbid_unknown_fields", False)
        )

    def choose(self, values: Mapping[str, Any], named: Iterable[str]) -> Mapping[str, Any]:
        """Return those of a place's ``values`` that are its own; ``named``: of any part."""
        if self.takes_rest:
            return {name: value for name, value in values.items() if name not in named}
        return {name: values[name] for name in self.keys if name in values}

    def convert(self, values: Mapping[str, Any]) -> Any:
        """Return the value made of its own values; raises msgspec.ValidationError."""
        return msgspec.convert(values, self.type)


class Reading:
    """What an operation reads from one place of a request."""

    def __init__(self, place: str, parameters: Iterable[Parameter]) -> None:
        """Raises ValueError for a key that two parameters take."""
        self.place = place
        self.parts: list[Part] = []
        self._taken: dict[str, str] = {}  # the name of the parameter, by key
        fields: list[texts.Field] = []
        rest = None
        single = []
        for parameter in parameters:
            if parameter.key:
                single.append(parameter)
                continue
            kind = msgspec.inspect.type_info(parameter.type)
            item = texts.item_of_mapping(kind)
            if item is None:
                fields += self._add_object(parameter, kind)
                continue
            if rest is not None:
                raise ValueError(f"two parameters take all other keys of the {place}")
            rest = texts.scalar_reader(item)
            if place == FORM:
                rest = _or_file(rest)
            self.parts.append(Part(parameter.type, (parameter,), {}, takes_rest=True))
        if single:
            fields += self._add_single(single)
        if place == FORM:
            fields = [replace(field, read=_or_file(field.read)) for field in fields]
        self.texts = texts.Texts(fields, rest)
        self.named = frozenset(field.name for field in fields)
        self._lists = {field.key for field in fields if field.many}

    def pairs(self, request: web.Request) -> Iterable[tuple[str, Any]]:
        """Return the pairs of key and text of this place; those of a form come from elsewhere."""
        if self.place == QUERY:
            return request.query.items()
        return self._header(request) if self.place == HEADER else self._cookies(request)

    def utf8_pairs(self, request: web.Request) -> Iterator[tuple[str, Any]]:
        """Yield the same of a header or a cookie; raises ValueError for what is not UTF-8."""
        for key, text in self.pairs(request):
            if not text.isascii():
                text.encode()
            yield key, text

    def form_pairs(self, form: Form) -> Iterator[tuple[str, Any]]:
        """Yield the pairs of a form; browsers send empty text where no file was chosen."""
        files = {field.key for field in self.texts.fields.values() if field.is_file}
        return ((key, value) for key, value in form if value != "" or key not in files)

    def _header(self, request: web.Request) -> Iterator[tuple[str, str]]:
        headers = request.headers
        for key in self.texts.fields:
            for text in headers.getall(key, ()):
                if key in self._lists:  # RFC 9110, 5.3: repeated lines are one list
                    yield from ((key, item) for part in text.split(",") if (item := part.strip()))
                else:
                    yield key, text

    def _cookies(self, request: web.Request) -> Iterator[tuple[str, str]]:
        cookies = request.cookies
        return ((key, cookies[key]) for key in self.texts.fields if key in cookies)

    def _add_object(self, parameter: Parameter, kind: msgspec.inspect.Type) -> list[texts.Field]:
        fields = list(texts.fields_of(kind, self.place))
        for field in fields:
            self._take(field.key, parameter.name)
        keys = {field.name: field.key for field in fields}
        required = frozenset(field.name for field in fields if field.required)
        self.parts.append(Part(parameter.type, (parameter,), keys, required))
        return fields

    def _add_single(self, parameters: list[Parameter]) -> list[texts.Field]:
        """Add one Struct whose fields are the parameters that take one key each."""
        fields, declared = [], []
        for parameter in parameters:
            self._take(parameter.key, parameter.name)
            kind = msgspec.inspect.type_info(parameter.type)
            read, many = texts.reader(kind)
            key, is_file = parameter.key, texts.is_file(kind)
            fields.append(texts.Field(key, key, read, many, parameter.required, is_file))
            declared.append((parameter.name, parameter.type, _struct_field(parameter.default)))
        # By their keys, which differ; a name may be the key of another parameter.
        keys = {parameter.key: parameter.key for parameter in parameters}
        names = {parameter.name: parameter.key for parameter in parameters}
        struct = msgspec.defstruct(self.place.capitalize(), declared, kw_only=True, rename=names)
        required = frozenset(parameter.key for parameter in parameters if parameter.required)
        self.parts.append(Part(struct, tuple(parameters), keys, required))
        return fields

    def _take(self, key: str, name: str) -> None:
        key = key.lower() if self.place == HEADER else key
        if key in self._taken:
            raise ValueError(
                f"parameters {self._taken[key]} and {name}, which differ, both take the key {key} "
                f"of the {self.place}"
            )
        self._taken[key] = name


def _struct_field(default: Any) -> Any:
    """Return the field of a Struct with that default, of which each request has its own."""
    if isinstance(default, Hashable):
        return msgspec.field(default=default)
    return msgspec.field(default_factory=lambda: copy(default))


def _or_file(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Return how a value of a form is read, which may be a file instead of text."""
    return lambda value: read(value) if isinstance(value, str) else value
