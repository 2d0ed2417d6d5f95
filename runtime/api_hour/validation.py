"""Take msgspec's validation errors apart and say them in plain words.

msgspec gives one sentence with a path: "Expected `int`, got `str` - at `$.hosts[1].port`". Here
it becomes a Violation, from which configuration and HTTP bodies each build their own message.
This module knows msgspec's sentences and types, but not where the data came from.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from msgspec import inspect

NOUNS = {
    "array": "an array",
    "bool": "true or false",
    "date": "a date",
    "datetime": "a date and time",
    "float": "a number",
    "int": "an integer",
    "null": "null",
    "object": "an object",
    "str": "a string",
}
Object = inspect.StructType | inspect.DataclassType | inspect.TypedDictType
MISSING = "is missing"
UNKNOWN = "is not known"
_PLACED = re.compile(r"(.*) - at `(key` in `)?\$(.*)`", re.DOTALL)
_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)
FORMATS = {  # by the text's noun in msgspec's sentence
    "UUID": "a UUID",
    "base64 encoded string": "text in base64",
    "date": "a date, such as 2026-01-31",
    "datetime": "a date and time, such as 2026-01-31T12:30:00Z",
    "decimal string": "a decimal number",
    "duration": "a duration, such as PT1H30M",
    "time": "a time, such as 12:30:00",
}
UNITS = {"array": "item", "bytes": "byte", "object": "key", "str": "character"}
_FORMAT = re.compile(rf"Invalid (?:RFC3339 encoded |ISO8601 )?({'|'.join(FORMATS)})")
_LENGTH = re.compile(r" of (at least |at most )?length (>= |<= )?(\d+)( to \d+)?")
_EXPECTED = re.compile(r"Expected `([^`]*)`(.*?)(?:, got (?:`(.*)`|(\d+)))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that was broken, and where."""

    message: str  # msgspec's own
    where: str  # its path without the "$": ".hosts[1].port"; a dict's key is "[...]"
    of_key: bool  # the rule is about a key of the mapping at ``where``
    rule: str  # "must be an integer"; or the message of the project's own check
    field: str = ""  # the missing or unknown field of the mapping at ``where``
    expected: tuple[str, ...] = ()  # the allowed types, in msgspec's words
    got: str = ""  # the type that was found: "a string"
    own: bool = False  # ``rule`` is a sentence by itself, from the project's own check


def read(error: Exception, declared: Any, nouns: Mapping[str, str] = NOUNS) -> Violation:
    """Return what the ValidationError of a conversion to ``declared`` means."""
    placed = _PLACED.fullmatch(str(error))
    text, key, where = placed.groups() if placed else (str(error), None, "")
    violation = Violation(str(error), where, key is not None, rule=text)
    if match := _FIELD.fullmatch(text):
        rule = MISSING if match[1] == "missing required" else UNKNOWN
        return replace(violation, rule=rule, field=match[2])
    if match := _EXPECTED.fullmatch(text):
        names = tuple(match[1].split(" | "))
        nouns_of = " or ".join(nouns.get(name, name) for name in names)
        rule = f"must be {nouns_of}{_qualification(match[2], names)}"
        got = nouns.get(match[3], match[3]) or match[4] or ""
        return replace(violation, rule=rule, expected=names, got=got)
    if text.startswith(("Invalid enum value ", "Invalid value ")):
        allowed = ", ".join(map(repr, _choices(declared, where, violation.of_key)))
        return replace(violation, rule=f"must be one of {allowed or 'its choices'}")
    if match := _FORMAT.fullmatch(text):
        return replace(violation, rule=f"must be {FORMATS[match[1]]}")
    if text.endswith("out of range"):
        return replace(violation, rule="is out of range")
    return replace(violation, own=True)


def object_type(declared: Any) -> Object | None:
    """Return the one kind of object with fields that ``declared`` allows, None if there is none."""
    found = [kind for kind in _kinds(inspect.type_info(declared), "") if kind != inspect.NoneType()]
    [kind] = found if len(found) == 1 else [None]
    return kind if isinstance(kind, Object) and not getattr(kind, "array_like", False) else None


def fields(declared: Any, where: str, value: Mapping[Any, Any]) -> list[str]:
    """Return the names of the fields that the mapping ``value`` at ``where`` may have.

    Of several declared Structs only the one whose tag ``value`` has counts.
    """
    names = set()
    for kind in _kinds(inspect.type_info(declared), where):
        if isinstance(kind, inspect.StructType) and value.get(kind.tag_field) != kind.tag:
            continue
        names |= {step.removeprefix(".") for step, _ in _fields(kind)}
    return sorted(names)


def _qualification(text: str, names: tuple[str, ...]) -> str:
    """Return what follows the noun: "of length >= 2" is "of at least 2 items"."""
    match = _LENGTH.fullmatch(text)
    if match is None:
        return text.replace(" matching regex ", " that matches ")
    bound = match[1] or {">= ": "at least ", "<= ": "at most "}.get(match[2], "")
    unit = UNITS.get(names[0], "item") + ("s" if match[3] != "1" or match[4] else "")
    return f" of {bound}{match[3]}{match[4] or ''} {unit}"


def _choices(declared: Any, where: str, of_key: bool) -> list[Any]:
    choices: list[Any] = []
    for kind in _kinds(inspect.type_info(declared), where, of_key):
        if isinstance(kind, inspect.EnumType):
            choices += [member.value for member in kind.cls]
        if isinstance(kind, inspect.LiteralType):
            choices += kind.values
    return choices


def _kinds(kind: inspect.Type, where: str, of_key: bool = False) -> Iterator[inspect.Type]:
    """Yield the types declared for the value (or for the keys of the mapping) at ``where``."""
    if isinstance(kind, inspect.UnionType):
        for option in kind.types:
            yield from _kinds(option, where, of_key)
    elif isinstance(kind, inspect.Metadata):
        yield from _kinds(kind.type, where, of_key)
    elif not where and of_key and isinstance(kind, inspect.DictType):
        yield from _kinds(kind.key_type, "")
    elif not where:
        yield kind
    for step, child in _steps(kind, where):
        if where == step or where.startswith((step + ".", step + "[")):
            yield from _kinds(child, where[len(step) :], of_key)


def _steps(kind: inspect.Type, where: str) -> Iterator[tuple[str, inspect.Type]]:
    """Yield each part of ``kind``, and the step of msgspec's path that leads to it."""
    index = re.match(r"\[\d+\]", where)
    if isinstance(kind, inspect.DictType):
        yield "[...]", kind.value_type
    elif isinstance(kind, inspect.TupleType):
        yield from ((f"[{number}]", child) for number, child in enumerate(kind.item_types))
    elif isinstance(kind, inspect.CollectionType) and index:
        yield index[0], kind.item_type
    else:
        yield from _fields(kind)


def _fields(kind: inspect.Type) -> Iterator[tuple[str, inspect.Type]]:
    """Yield the same for the fields of a Struct, a dataclass, a TypedDict or a NamedTuple."""
    array = isinstance(kind, inspect.NamedTupleType)
    if isinstance(kind, inspect.StructType):
        array = kind.array_like
        if kind.tag_field:
            yield f".{kind.tag_field}", inspect.LiteralType((kind.tag,))
    for number, item in enumerate(getattr(kind, "fields", ())):
        yield f"[{number}]" if array else f".{item.encode_name}", item.type
