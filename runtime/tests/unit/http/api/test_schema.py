"""A schema accepts what msgspec reads, and nothing else; what msgspec writes fits it."""

import datetime
import decimal
import enum
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from msgspec import Meta, Struct, UnsetType

from api_hour.http.api import texts
from api_hour.http.api.schema import READ, TEXT, WRITTEN, Schema, Schemas

Item = TypeVar("Item")


class Colour(enum.Enum):
    """A colour of the house."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(Struct):
    """A place on the map."""

    x: int
    name: str = "here"


class Strict(Struct, forbid_unknown_fields=True):
    x: int


class Cat(Struct, tag=True):
    lives: int


class Dog(Struct, tag=True):
    tricks: list[str] = []


class Row(Struct, array_like=True):
    x: int
    name: str = ""


class Camel(Struct, rename="camel"):
    first_name: str


class Partial(Struct):
    x: int | UnsetType = msgspec.UNSET


class Short(Struct, omit_defaults=True):
    x: int = 1


class Price(Struct):
    amount: decimal.Decimal


class Tree(Struct):
    value: int
    children: list["Tree"]


class Page(Struct, Generic[Item]):
    items: list[Item]
    after: str | None = None


@dataclass
class Plain:
    x: int
    tags: list[str] | None = None


class Typed(TypedDict):
    x: int
    name: NotRequired[str]


class Pair(NamedTuple):
    x: int
    name: str = ""


LONG = "x" * 11
NUMBERS = [0, 1, -1, 7, 1.5, -2.25, 1e-300, 10**25]
TEXTS = [
    *("", "a", "red", "green", "here", LONG, "7", "1.5", "-0.5", "1e5", "true", "null", "x\x00y"),
    *("2024-01-02", "2024-13-01", "2024-01-02T03:04:05Z", "2024-01-02T03:04:05.5+01:00"),
    *("2023-02-29T00:00:00", "2024-02-29T00:00:00", "2024-04-31T00:00:00", "2024-12-31T23:59:59"),
    *("2024-01-02T03:04:05", "2024-01-02T03:04:61Z", "03:04:05", "03:04:05.25Z", "24:00:00"),
    *("P1D", "PT1H", "P1DT2H3M4.5S", "-P1D", "P1Y", "P", "PT", "P1DT", "PT1S1M"),
    *("123e4567-e89b-12d3-a456-426614174000", "123e4567", "aGVsbG8=", "aGVsbG8", "!!", "YQ=="),
]
LISTS: list[Any] = [[], [1], [1, 2], [1, 2, 3], ["a"], [1, "a"], [None], [[1]]]
OBJECTS: list[Any] = [
    *({}, {"x": 1}, {"x": "1"}, {"x": None}, {"x": 1, "name": "a"}, {"x": 1, "name": None}),
    *({"x": 1, "y": 2}, {"name": "a"}, {"firstName": "a"}, {"first_name": "a"}, {"1": 1}),
    *({"type": "Cat", "lives": 9}, {"type": "Dog"}, {"type": "Dog", "tricks": [1]}, {"lives": 9}),
    *({"type": "Cow"}, {"red": 1}, {"2024-01-02": 1}, {"x": 1, "tags": ["a"]}, {"items": [1]}),
    *({"amount": 1.5}, {"amount": "1.5"}, {"amount": "x"}, {"items": [{"x": 1}], "after": None}),
    *({"value": 1, "children": []}, {"value": 1, "children": [{"value": 2, "children": []}]}),
    *({"value": 1, "children": [{"value": 2}]}, {"x": 1, "tags": None}, {"a": True}),
    *({"123e4567-e89b-12d3-a456-426614174000": 1}, {"1.5": 1}),
]
VALUES: list[Any] = [None, True, False, *NUMBERS, *TEXTS, *LISTS, *OBJECTS]

TYPES: Mapping[str, Any] = {
    "any": Any,
    "none": None,
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes,
    "Decimal": decimal.Decimal,
    "datetime": datetime.datetime,
    "datetime with a zone": Annotated[datetime.datetime, Meta(tz=True)],
    "datetime without a zone": Annotated[datetime.datetime, Meta(tz=False)],
    "date": datetime.date,
    "time": datetime.time,
    "time with a zone": Annotated[datetime.time, Meta(tz=True)],
    "time without a zone": Annotated[datetime.time, Meta(tz=False)],
    "timedelta": datetime.timedelta,
    "UUID": uuid.UUID,
    "bounded int": Annotated[int, Meta(gt=0, le=7)],
    "bounded float": Annotated[float, Meta(ge=0, lt=2)],
    "multiple": Annotated[int, Meta(multiple_of=7)],
    "bounded text": Annotated[str, Meta(min_length=1, max_length=10)],
    "pattern": Annotated[str, Meta(pattern="^[a-z]+$")],
    "bounded bytes": Annotated[bytes, Meta(max_length=3)],
    "Enum": Colour,
    "IntEnum": Level,
    "Literal": Literal["red", 1, None],
    "nullable": int | None,
    "nullable Enum": Colour | None,
    "union": int | str | list[int] | None,
    "list": list[int],
    "bare list": list,
    "bounded list": Annotated[list[int], Meta(min_length=1, max_length=2)],
    "set": set[int],
    "frozenset": frozenset[str],
    "tuple": tuple[int, str],
    "tuple of any length": tuple[int, ...],
    "dict": dict[str, int],
    "dict of int": dict[int, int],
    "dict of float": dict[float, int],
    "dict of date": dict[datetime.date, int],
    "dict of UUID": dict[uuid.UUID, int],
    "dict of Enum": dict[Colour, int],
    "dict of Literal": dict[Literal["a", "x"], Any],
    "dict of short keys": dict[Annotated[str, Meta(max_length=3)], Any],
    "bounded dict": Annotated[dict[str, Any], Meta(min_length=1, max_length=1)],
    "Struct": Point,
    "nullable Struct": Point | None,
    "strict Struct": Strict,
    "tagged union": Cat | Dog,
    "tagged union and more": Cat | Dog | int | None,
    "Struct as array": Row,
    "renamed Struct": Camel,
    "Struct with UNSET": Partial,
    "Struct with a Decimal": Price,
    "recursive Struct": Tree,
    "generic Struct": Page[Point],
    "dataclass": Plain,
    "TypedDict": Typed,
    "NamedTuple": Pair,
}
# What is accepted although no schema promises it: clients have a better way to say the same.
MORE_THAN_PROMISED = {
    "datetime": [
        *("2024-02-29T00:00:00", "2024-12-31T23:59:59", "2024-01-02T03:04:05"),
    ],
}


def complete(kind: Any, form: str) -> tuple[Schema, Schema]:
    """Return a schema that jsonschema can use, and the components."""
    schemas = Schemas()
    schema = schemas.of(kind, form)
    components = dict(schemas.components())
    return {**schema, "components": {"schemas": components}}, components


def validator(kind: Any, form: str) -> jsonschema.Draft202012Validator:
    schema, _ = complete(kind, form)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def reads(decoder: "msgspec.json.Decoder[Any]", value: object) -> bool:
    try:
        decoder.decode(json.dumps(value))
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", TYPES)
def test_what_a_schema_accepts_is_read_and_nothing_else(name: str) -> None:
    decoder, valid = msgspec.json.Decoder(TYPES[name]), validator(TYPES[name], READ)
    promised = [value for value in VALUES if valid.is_valid(value)]
    read = [value for value in VALUES if reads(decoder, value)]
    assert promised == [v for v in read if v not in MORE_THAN_PROMISED.get(name, ())]
    assert read or name in ("dict of Literal",)


@pytest.mark.parametrize("name", TYPES)
def test_what_is_written_fits_its_schema(name: str) -> None:
    decoder, valid = msgspec.json.Decoder(TYPES[name]), validator(TYPES[name], WRITTEN)
    for value in VALUES:
        if reads(decoder, value) and value not in MORE_THAN_PROMISED.get(name, ()):
            written = json.loads(msgspec.json.encode(decoder.decode(json.dumps(value))))
            valid.validate(written)


@pytest.mark.parametrize(
    "name",
    [
        *("str", "bytes", "Decimal", "datetime with a zone", "date", "time", "timedelta", "UUID"),
        *("bounded text", "pattern", "Enum", "nullable Enum"),
    ],
)
def test_a_text_that_its_schema_accepts_is_read(name: str) -> None:
    kind = TYPES[name]
    read, valid = texts.scalar_reader(msgspec.inspect.type_info(kind)), validator(kind, TEXT)

    def is_read(text: str) -> bool:
        try:
            msgspec.convert(read(text), kind)
        except msgspec.ValidationError:
            return False
        return True

    promised = [text for text in TEXTS if valid.is_valid(text)]
    assert promised == [text for text in TEXTS if is_read(text)]
    assert promised
