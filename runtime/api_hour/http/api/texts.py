"""Values that come as text under a key: of a query string, a header, a cookie or a form.

Text becomes what JSON would have had in its place: ``20`` a number where a number is declared,
``yes`` true where a boolean is. Then msgspec converts it strictly, as it does a body. Text that is
not what its type expects stays text, and msgspec refuses it by name.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from msgspec import convert, inspect

from api_hour.http.api.operation import HEADER
from api_hour.http.api.uploads import Upload

MAX_DIGITS = 400  # of an integer
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,399})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,3})?")
NOT_A_NUMBER = "?"
BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
MANY = inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType
OBJECTS = inspect.StructType, inspect.DataclassType, inspect.TypedDictType
# What msgspec reads from text by itself.
FROM_TEXT = (
    *(inspect.AnyType, inspect.StrType, inspect.BytesType, inspect.DateTimeType),
    *(inspect.DateType, inspect.TimeType, inspect.TimeDeltaType, inspect.UUIDType),
)


class Repeated(ValueError):
    """A key that may come once came again."""


class Unknown(ValueError):
    """A key that nobody takes."""


@dataclass(frozen=True, slots=True)
class Field:
    """A key, and how its texts are read."""

    name: str  # in the mapping that msgspec converts
    key: str  # on the wire
    read: Callable[[str], Any]
    many: bool  # a collection: one text for each element
    required: bool
    is_file: bool = False


class Texts:
    """Reads the keys of one place."""

    def __init__(self, fields: Iterable[Field], rest: Callable[[str], Any] | None = None) -> None:
        """Take each key's field, and how the texts of all other keys are read, if any may come."""
        self.fields = {field.key: field for field in fields}
        self.rest = rest
        self._readers = {key: (f.name, f.read, f.many) for key, f in self.fields.items()}

    def read(self, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        """Return the values of ``pairs`` of key and text, by name.

        Raises Unknown or Repeated for the first key that may not be there, or not again.
        """
        values: dict[str, Any] = {}
        readers = self._readers
        for key, text in pairs:
            found = readers.get(key)
            if found is None:
                self._read_rest(values, key, text)
                continue
            name, read, many = found
            if many:
                values.setdefault(name, []).append(read(text))
            elif name in values:
                raise Repeated(key)
            else:
                values[name] = read(text)
        return values

    def _read_rest(self, values: dict[str, Any], key: str, text: Any) -> None:
        if self.rest is None:
            raise Unknown(key)
        if key in values:
            raise Repeated(key)
        values[key] = self.rest(text)


def wire_key(name: str, place: str) -> str:
    """Return the key that a name stands for: headers have ``-`` for each ``_``."""
    return name.replace("_", "-") if place == HEADER else name


def is_object(kind: inspect.Type) -> bool:
    """Return whether the fields of a type are the keys on the wire."""
    return isinstance(plain(kind), OBJECTS)


def item_of_mapping(kind: inspect.Type) -> inspect.Type | None:
    """Return the type of the values of a mapping from text, which takes all keys; else None."""
    declared = plain(kind)
    if not isinstance(declared, inspect.DictType):
        return None
    if not isinstance(plain(declared.key_type), inspect.StrType | inspect.AnyType):
        raise TypeError("its keys are text: write dict[str, ...]")
    return declared.value_type


def fields_of(kind: inspect.Type, place: str) -> Iterator[Field]:
    """Yield the fields of a Struct, a dataclass or a TypedDict, with their keys in a place.

    Raises TypeError for a field that no text can give.
    """
    declared: Any = plain(kind)
    if getattr(declared, "array_like", False):
        raise TypeError("its fields have no names on the wire: remove array_like")
    if getattr(declared, "tag_field", None):
        raise TypeError("a tag chooses between the types of a body: remove it")
    for item in declared.fields:
        name = item.encode_name
        try:
            read, many = reader(item.type)
        except TypeError as error:
            raise TypeError(f"its field {name}: {error}") from None
        yield Field(name, wire_key(name, place), read, many, item.required, is_file(item.type))


def is_file(kind: inspect.Type) -> bool:
    """Return whether a field of a form is one file, or several."""
    options = [getattr(option, "item_type", option) for option in _options(kind)]
    return any(isinstance(option, inspect.CustomType) for option in options)


def reader(kind: inspect.Type) -> tuple[Callable[[str], Any], bool]:
    """Return how a text of that type is read, and whether it is one of many.

    Raises TypeError if no text can be of that type.
    """
    options = _options(kind)
    collections = [option for option in options if isinstance(option, MANY)]
    if collections:
        if len(options) > 1:
            raise TypeError("a key that may be repeated cannot be another type, too")
        return scalar_reader(collections[0].item_type), True
    return scalar_reader(kind), False


def scalar_reader(kind: inspect.Type) -> Callable[[str], Any]:
    """Return how one text is read; raises TypeError if no text can be of that type."""
    options = _options(kind)
    reads = [read for option in options if (read := _reader_of(option)) is not None]
    if not options:
        raise TypeError("its only value is null, which text cannot be")
    unique = list(dict.fromkeys(reads))
    if len(unique) < 2:
        return unique[0] if unique else _keep
    order = [read for read in (_integer, _number, _boolean) if read in unique]
    last = _decimal if _decimal in unique else _keep
    return lambda text: next((v for read in order if (v := read(text)) is not text), last(text))


def path_reader(kind: Any) -> Callable[[str], Any]:
    """Return how a part of the path is read, which raises msgspec.ValidationError."""
    read = scalar_reader(inspect.type_info(kind))
    if kind is str:
        return read
    if kind is int:
        return _path_integer
    return lambda text: convert(read(text), kind)


def _options(kind: inspect.Type) -> list[inspect.Type]:
    """Return the types that a value may have, without null: no text is null."""
    declared = plain(kind)
    options = declared.types if isinstance(declared, inspect.UnionType) else (declared,)
    found = [plain(option) for option in options]
    return [option for option in found if not isinstance(option, inspect.NoneType)]


def plain(kind: inspect.Type) -> inspect.Type:
    """Return a type without what its annotations say beside it."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def _reader_of(kind: inspect.Type) -> Callable[[str], Any] | None:
    """Return how text becomes what msgspec expects; None means that it expects text."""
    values: tuple[Any, ...] = ()
    if isinstance(kind, inspect.LiteralType):
        values = kind.values
    elif isinstance(kind, inspect.EnumType):
        values = tuple(member.value for member in kind.cls)
    if isinstance(kind, inspect.IntType) or any(isinstance(value, int) for value in values):
        return _integer
    if isinstance(kind, inspect.FloatType):
        return _number
    if isinstance(kind, inspect.BoolType):
        return _boolean
    if isinstance(kind, inspect.DecimalType):
        return _decimal
    if values or isinstance(kind, FROM_TEXT):
        return None
    if isinstance(kind, inspect.CustomType) and kind.cls is Upload:
        return None
    name = getattr(getattr(kind, "cls", None), "__name__", "")
    raise TypeError(
        f"no text can be {f'a {name}' if name else 'of that type'}: take it in the body"
    )


def _keep(text: str) -> str:
    return text


def _integer(text: str) -> int | str:
    """Return the integer that is written as JSON has it, also as ``2.0``."""
    digits = text[1:] if text.startswith("-") else text
    # Without a pattern, which would cost three times as much.
    if not digits.isdecimal() or not digits.isascii() or len(digits) > MAX_DIGITS:
        whole, _, rest = text.partition(".")
        return _integer(whole) if rest and not rest.strip("0") else text
    return text if digits[0] == "0" and len(digits) > 1 else int(text)


def _path_integer(text: str) -> int:
    """Do what ``convert`` would do next, for the most frequent type."""
    number = _integer(text)
    return convert(number, int) if number is text else number  # type: ignore[return-value]


def _number(text: str) -> float | str:
    if not NUMBER.fullmatch(text):
        return text
    number = float(text)
    return text if number in (float("inf"), float("-inf")) else number


def _boolean(text: str) -> bool | str:
    return BOOLEANS.get(text.lower(), text)


def _decimal(text: str) -> Any:
    """Return text that msgspec reads as a Decimal, which has more forms than JSON's numbers."""
    return text if NUMBER.fullmatch(text) else NOT_A_NUMBER
