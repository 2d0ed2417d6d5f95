"""JSON Schemas of types, as msgspec reads and writes them.

A type has up to three forms. They differ where msgspec reads more than it writes (a Decimal is read
from a number or a string, and written as a string), and where a field may be left out by a client
but is never left out by the daemon:

* ``READ``: JSON that a client sends;
* ``TEXT``: a text under a key of its own, as in a query string, where nothing is null;
* ``WRITTEN``: JSON that the daemon sends.

An enumeration, and a class with fields, becomes a component, to which schemas refer by ``$ref``. If
what is read and what is written differ, there are two: ``Record`` is written, ``RecordInput`` read.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Any

import msgspec
from msgspec import inspect

from api_hour.http.api.uploads import Upload

READ, TEXT, WRITTEN = "read", "text", "written"
PLACE = "#/components/schemas/"

INTEGER = "^-?(0|[1-9][0-9]*)$"
NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"
DECIMAL = NUMBER.replace("{1,3}", "{1,9}")
# Days that exist; of leap years those that end no century.
DATE = (
    "([1-9][0-9]{3}-("
    "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    "|02-(0[1-9]|1[0-9]|2[0-8]))|[1-9][0-9](0[48]|[2468][048]|[13579][26])-02-29)"
)
TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
ZONE = "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
SECONDS = r"[0-9]{1,9}(\.[0-9]+)?S"
CLOCK = rf"T([0-9]{{1,7}}H([0-9]{{1,7}}M)?({SECONDS})?|[0-9]{{1,7}}M({SECONDS})?|{SECONDS})"
# Not the format "duration", which has years and weeks, and neither a sign nor a fraction.
DURATION = rf"^[+-]?P([0-9]{{1,8}}D({CLOCK})?|{CLOCK})$"
BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

FILE = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
LIMITS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
OF_TEXT = {"min_length": "minLength", "max_length": "maxLength", "pattern": "pattern"}
OF_ITEMS = {"min_length": "minItems", "max_length": "maxItems"}
OF_KEYS = {"min_length": "minProperties", "max_length": "maxProperties"}
OBJECTS = (
    *(inspect.StructType, inspect.DataclassType, inspect.TypedDictType, inspect.NamedTupleType),
    inspect.EnumType,
)

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Component:
    """A class in one of its forms, as a part of a schema that is not finished."""

    cls: Any
    form: str = field(compare=False)  # so that two forms are equal if nothing else differs


class Schemas:
    """Makes schemas, which are complete once ``components()`` was called."""

    def __init__(self) -> None:
        self._found: dict[tuple[Any, str], Schema] = {}
        self._references: list[tuple[Schema, str]] = []  # where a component is named

    def of(self, kind: Any, form: str) -> Schema:
        """Return the schema of a type, or of what ``msgspec.inspect`` says of it."""
        info = kind if isinstance(kind, inspect.Type) else inspect.type_info(kind)
        extra: Schema = {}
        while isinstance(info, inspect.Metadata):
            extra = {**(info.extra_json_schema or {}), **extra}
            info = info.type
        if isinstance(info, OBJECTS):
            schema = self._reference(info, form)
        else:
            schema = _WRITERS.get(type(info), _any)(self, info, form)
        schema.update(extra)
        return schema

    def components(self, reserved: Iterable[str] = ()) -> Mapping[str, Schema]:
        """Return all components by name, and complete the schemas that refer to them.

        ``reserved``: names that others have.
        """
        differing = self._differing()
        names = _names([cls for cls, _ in self._found], reserved)
        taken = {*names.values(), *reserved}
        inputs = {}
        for cls in differing:
            inputs[cls] = _free(f"{names[cls]}Input", taken)
            taken.add(inputs[cls])
        for schema, key in self._references:
            at = schema[key]
            read = at.cls in differing and at.form != WRITTEN
            schema[key] = PLACE + (inputs if read else names)[at.cls]
        self._references.clear()
        found = {}
        for (cls, form), schema in self._found.items():
            read = cls in differing and form != WRITTEN
            found[(inputs if read else names)[cls]] = schema
        return dict(sorted(found.items()))

    def _differing(self) -> list[Any]:
        """Return the classes whose read form is not their written one."""
        written = {cls: schema for (cls, form), schema in self._found.items() if form == WRITTEN}
        read = {cls: schema for (cls, form), schema in self._found.items() if form != WRITTEN}
        both = [cls for cls in read if cls in written]
        found = {cls for cls in both if read[cls] != written[cls]}
        while True:
            more = {
                cls
                for cls in both
                if cls not in found and not found.isdisjoint(_classes_in(read[cls]))
            }
            if not more:
                return [cls for cls in both if cls in found]
            found |= more

    def _reference(self, info: Any, form: str) -> Schema:
        if form == TEXT:
            form = READ  # of an enumeration, the only one of these in a text
        if (info.cls, form) not in self._found:
            schema = self._found[info.cls, form] = {}  # before its fields, which may refer to it
            write = _enum if isinstance(info, inspect.EnumType) else _object
            schema.update(write(self, info, form))
        return self.name({}, "$ref", info.cls, form)

    def name(self, schema: Schema, key: str, cls: Any, form: str) -> Schema:
        """Let ``key`` of a schema be the place of a component, and return the schema."""
        schema[key] = _Component(cls, form)
        self._references.append((schema, key))
        return schema


def title(cls: Any) -> str:
    """Return the name of a class, such as ``Page[Record]``."""
    origin = getattr(cls, "__origin__", None)
    if origin is None:
        return str(getattr(cls, "__name__", cls))
    return f"{title(origin)}[{', '.join(title(argument) for argument in cls.__args__)}]"


def described(cls: Any) -> str:
    """Return the docstring of a class, or "" if Python has made it."""
    cls = getattr(cls, "__origin__", cls)
    text = cls.__dict__.get("__doc__") or ""
    made = text.startswith(f"{cls.__name__}(") and text.endswith(")")
    return "" if made or text == "An enumeration." else cleandoc(text)


def _names(classes: Iterable[Any], reserved: Iterable[str]) -> dict[Any, str]:
    """Return a name for each class; classes of one name get those of their modules, too."""
    short: dict[Any, str] = {cls: _plain(title(cls)) for cls in classes}
    taken = {*reserved}
    names: dict[Any, str] = {}
    for cls, name in short.items():
        alone = list(short.values()).count(name) == 1 and name not in taken
        whole = name if alone else _plain(f"{getattr(cls, '__module__', '')}.{name}")
        names[cls] = _free(whole, taken)
        taken.add(names[cls])
    return names


def _free(name: str, taken: Iterable[str]) -> str:
    number = 1
    found = name
    while found in taken:
        number += 1
        found = f"{name}{number}"
    return found


def _plain(name: str) -> str:
    """Return a name of the characters that a component's may have."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_")


def _classes_in(part: object) -> Iterable[Any]:
    if isinstance(part, _Component):
        yield part.cls
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from _classes_in(value)
    elif isinstance(part, list):
        for value in part:
            yield from _classes_in(value)


def _limits(info: Any, names: Mapping[str, str]) -> Schema:
    return {
        name: limit
        for key, name in names.items()
        if (limit := getattr(info, key, None)) is not None
    }


def _any(schemas: Schemas, info: Any, form: str) -> Schema:
    return {}


def _plainly(**schema: Any) -> Callable[[Schemas, Any, str], Schema]:
    return lambda schemas, info, form: dict(schema)


def _number(schemas: Schemas, info: Any, form: str) -> Schema:
    name = "integer" if isinstance(info, inspect.IntType) else "number"
    return {"type": name} | _limits(info, LIMITS)


def _string(schemas: Schemas, info: Any, form: str) -> Schema:
    return {"type": "string"} | _limits(info, OF_TEXT)


def _bytes(schemas: Schemas, info: Any, form: str) -> Schema:
    schema = {"type": "string", "contentEncoding": "base64", "pattern": BASE64}
    limits = _limits(info, {"min_length": "minLength", "max_length": "maxLength"})
    return schema | {name: (limit + 2) // 3 * 4 for name, limit in limits.items()}


def _decimal(schemas: Schemas, info: Any, form: str) -> Schema:
    if form == WRITTEN:
        return {"type": "string", "format": "decimal"}
    return {
        "type": ["number", "string"] if form == READ else "string",
        "format": "decimal",
        "pattern": DECIMAL if form == READ else NUMBER,  # of the string
    }


def _datetime(schemas: Schemas, info: Any, form: str) -> Schema:
    if info.tz is False:
        return {"type": "string", "pattern": f"^{DATE}T{TIME}$"}
    # Without a zone it is accepted as well, unless the type asks for one: clients should send it.
    return {"type": "string", "format": "date-time"}


def _time(schemas: Schemas, info: Any, form: str) -> Schema:
    zone = {True: ZONE, False: "", None: f"{ZONE}?"}[info.tz]
    return {"type": "string", "pattern": f"^{TIME}{zone}$"}


def _collection(schemas: Schemas, info: Any, form: str) -> Schema:
    schema: Schema = {"type": "array"}
    if not isinstance(info.item_type, inspect.AnyType):
        schema["items"] = schemas.of(info.item_type, form)
    schema |= _limits(info, OF_ITEMS)
    if isinstance(info, inspect.SetType | inspect.FrozenSetType) and form == WRITTEN:
        schema["uniqueItems"] = True  # a client may repeat one
    return schema


def _tuple(schemas: Schemas, info: Any, form: str) -> Schema:
    items = [schemas.of(item, form) for item in info.item_types]
    schema: Schema = {"type": "array", "minItems": len(items), "maxItems": len(items)}
    return schema | ({"prefixItems": items} if items else {})


def _mapping(schemas: Schemas, info: Any, form: str) -> Schema:
    schema: Schema = {"type": "object"}
    if names := _key(schemas, info.key_type):
        schema["propertyNames"] = names
    if not isinstance(info.value_type, inspect.AnyType):
        schema["additionalProperties"] = schemas.of(info.value_type, form)
    return schema | _limits(info, OF_KEYS)


def _key(schemas: Schemas, info: inspect.Type) -> Schema:
    """Return the schema of the keys of an object, which are always strings."""
    while isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(info, inspect.EnumType):
        return {"enum": [str(member.value) for member in info.cls]}
    if isinstance(info, inspect.LiteralType):
        return {"enum": [str(value) for value in info.values if value is not None]}
    if isinstance(info, inspect.IntType | inspect.FloatType):
        return {"pattern": INTEGER if isinstance(info, inspect.IntType) else NUMBER}
    schema = {} if isinstance(info, inspect.UnionType) else schemas.of(info, TEXT)
    schema.pop("type", None)
    return schema


def _union(schemas: Schemas, info: Any, form: str) -> Schema:
    others: list[inspect.Type] = []
    structs: list[inspect.StructType] = []
    nullable = False
    for item in info.types:
        plain = item
        while isinstance(plain, inspect.Metadata):
            plain = plain.type
        if isinstance(plain, inspect.NoneType):
            nullable = form != TEXT
        elif isinstance(plain, inspect.StructType) and plain.tag_field:
            structs.append(plain)
        else:
            others.append(item)
    options = [schemas.of(item, form) for item in others]
    if structs:
        options.append(_tagged(schemas, structs, form))
    if nullable:
        options.append({"type": "null"})
    return options[0] if len(options) == 1 else {"anyOf": options}


def _tagged(schemas: Schemas, structs: list[inspect.StructType], form: str) -> Schema:
    """Return the schema of Structs of which the value of one field chooses one."""
    options = [schemas.of(item, form) for item in structs]
    if len(options) == 1 or any(item.array_like for item in structs):
        return options[0] if len(options) == 1 else {"anyOf": options}
    mapping: Schema = {}
    for item in structs:
        schemas.name(mapping, str(item.tag), item.cls, form)
    discriminator = {"propertyName": structs[0].tag_field, "mapping": mapping}
    return {"anyOf": options, "discriminator": discriminator}


def _literal(schemas: Schemas, info: Any, form: str) -> Schema:
    return {"enum": [value for value in info.values if value is not None or form != TEXT]}


def _enum(schemas: Schemas, info: Any, form: str) -> Schema:
    text = described(info.cls)
    return {
        "title": title(info.cls),
        **({"description": text} if text else {}),
        "enum": [member.value for member in info.cls],
    }


def _object(schemas: Schemas, info: Any, form: str) -> Schema:
    text = described(info.cls)
    schema: Schema = {"title": title(info.cls)}
    if text:
        schema["description"] = text
    fields: dict[str, Schema] = {}
    required: list[str] = []
    tag = getattr(info, "tag_field", None)
    if tag is not None:
        fields[tag] = {"const": info.tag}
        required.append(tag)
    for item in info.fields:
        fields[item.encode_name] = of_field(schemas, item, form)
        if item.required or (form == WRITTEN and _always_written(info, item)):
            required.append(item.encode_name)
    if isinstance(info, inspect.NamedTupleType) or getattr(info, "array_like", False):
        schema |= {"type": "array", "prefixItems": list(fields.values())}
        schema["minItems"] = len(required)
        if isinstance(info, inspect.NamedTupleType) or info.forbid_unknown_fields:
            schema["maxItems"] = len(fields)
        return schema
    schema |= {"type": "object", "properties": fields}
    if required:
        schema["required"] = required
    if getattr(info, "forbid_unknown_fields", False):
        schema["additionalProperties"] = False
    return schema


def of_field(schemas: Schemas, item: inspect.Field, form: str) -> Schema:
    """Return the schema of a field, with its default."""
    schema = schemas.of(item.type, form)
    if item.default is not msgspec.NODEFAULT:
        default = item.default
    elif item.default_factory in (list, dict, set, frozenset, tuple, bytearray):
        default = item.default_factory()
    else:
        return schema
    if default is not None or form != TEXT:
        schema["default"] = msgspec.to_builtins(default, str_keys=True)
    return schema


def _always_written(info: Any, item: inspect.Field) -> bool:
    """Return whether a field that has a default is in every answer."""
    if item.default is msgspec.NODEFAULT and item.default_factory is msgspec.NODEFAULT:
        return False  # of a TypedDict, or UNSET
    cls = getattr(info.cls, "__origin__", info.cls)
    if isinstance(info, inspect.DataclassType) and cls.__dictoffset__:
        # msgspec leaves a default that it has not read in the class, and does not write it.
        return item.default is msgspec.NODEFAULT
    config = getattr(cls, "__struct_config__", None)
    return not (config and config.omit_defaults)


def _custom(schemas: Schemas, info: Any, form: str) -> Schema:
    return dict(FILE) if info.cls is Upload else {}


_WRITERS: dict[type[inspect.Type], Callable[[Schemas, Any, str], Schema]] = {
    inspect.NoneType: _plainly(type="null"),
    inspect.BoolType: _plainly(type="boolean"),
    inspect.IntType: _number,
    inspect.FloatType: _number,
    inspect.StrType: _string,
    inspect.BytesType: _bytes,
    inspect.ByteArrayType: _bytes,
    inspect.MemoryViewType: _bytes,
    inspect.DecimalType: _decimal,
    inspect.DateTimeType: _datetime,
    inspect.TimeType: _time,
    inspect.DateType: _plainly(type="string", format="date"),
    inspect.TimeDeltaType: _plainly(type="string", pattern=DURATION),
    inspect.UUIDType: _plainly(type="string", format="uuid"),
    inspect.ListType: _collection,
    inspect.SetType: _collection,
    inspect.FrozenSetType: _collection,
    inspect.VarTupleType: _collection,
    inspect.TupleType: _tuple,
    inspect.DictType: _mapping,
    getattr(inspect, "FrozenDictType", inspect.DictType): _mapping,  # of msgspec 0.22
    inspect.UnionType: _union,
    inspect.LiteralType: _literal,
    inspect.CustomType: _custom,
}
