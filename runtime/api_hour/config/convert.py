"""Convert a YAML document to the project's settings, or explain in one line why that fails.

msgspec does the conversion and says what is wrong, but not in which line, and not always under
which key: it leaves out the keys of plain dicts. So its error is taken apart (``validation``), the
place is looked for in the document, and the message is built again with file, line and key.
"""

import re
from difflib import get_close_matches
from typing import Any, TypeVar, Union

import msgspec
from msgspec import inspect

from api_hour import validation
from api_hour.config.yaml_document import Document, Keys, at
from api_hour.exceptions import ConfigError
from api_hour.validation import Violation

T = TypeVar("T")
# What a mapping can be read as.
READABLE = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType, inspect.DictType)

NOUNS = {**validation.NOUNS, "array": "a list", "object": "a mapping"}
ANY_KEY = "[...]"  # what msgspec writes instead of a dict's key
LAX = {"int": int, "float": float, "bool": bool, "null": None}  # what text may be read as


def convert(document: Document, declared: type[T]) -> T:
    """Return the data as ``declared``; raises ConfigError with file, line, key and the rule.

    Types are strict, with one exception: text from ``!env`` and ``!file``, which cannot be anything
    else, is read as a number, a boolean or null where ``declared`` takes no text. Each turn of the
    loop converts one such text, or raises.
    """
    data: Any = document.data
    while True:
        try:
            return msgspec.convert(data, declared)
        except msgspec.ValidationError as error:
            violation = validation.read(error, declared, NOUNS)
        except Exception as error:  # __post_init__ may raise anything
            cause = censored(document, f"{type(error).__name__}: {error}")
            raise document.error((), cause) from error
        keys, rest = _locate(data, declared, violation)
        try:
            data = _replaced(data, keys, _relaxed(document, data, keys, violation))
        except msgspec.ValidationError:
            raise _explain(document, declared, keys, rest, violation) from None


def refuse_unreadable(declared: object, name: str) -> None:
    """Raise ConfigError, which begins with ``name``, unless a mapping fits ``declared``."""
    cure = "write a class that extends msgspec.Struct, or a dataclass"
    try:
        kind = inspect.type_info(declared) if isinstance(declared, type) else None
    except Exception as error:  # an annotation is evaluated, and may raise anything
        cause = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{name}: an annotation of settings: {cause}") from error
    if not isinstance(kind, READABLE):
        raise ConfigError(f"{name}: settings cannot be {declared!r}: {cure}")


def _relaxed(document: Document, data: Any, keys: Keys, violation: Violation) -> Any:
    """Return text of ``!env`` or ``!file`` as what is expected; raises ValidationError."""
    value = at(data, keys)
    kinds = [LAX[name] for name in violation.expected if name in LAX]
    if not kinds or not document.origin(keys) or not isinstance(value, str):
        raise msgspec.ValidationError
    return msgspec.convert(value, Union[tuple(kinds)], strict=False)  # noqa: UP007


def _explain(
    document: Document, declared: Any, keys: Keys, rest: str, violation: Violation
) -> ConfigError:
    if violation.field:
        return _field(document, declared, keys, violation)
    name = document.name(keys) + rest
    if violation.own:
        rule = " ".join(censored(document, violation.rule).split())
        return document.error(keys, f"{name}: {rule}" if name else rule)
    if violation.of_key:
        return document.error(keys, f"the key {name} {violation.rule}", of_key=True)
    got = "" if rest else f", got {document.got(keys)}"
    return document.error(keys, f"{name} {violation.rule}{got}")


def _field(document: Document, declared: Any, keys: Keys, violation: Violation) -> ConfigError:
    """Explain a field that is missing, or an unknown one and what may have been meant."""
    name = document.name((*keys, violation.field))
    if violation.rule == validation.MISSING:
        return document.error(keys, f"{name} is missing: add it")
    known = validation.fields(declared, violation.where, at(document.data, keys))
    known += () if keys else document.split_off
    close = get_close_matches(violation.field, known, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    message = f"{name} is not a known key{hint} (known: {', '.join(known) or 'none'})"
    return document.error((*keys, violation.field), message, of_key=True)


def censored(document: Document, text: str) -> str:
    """Return ``text`` with every value of an ``!env`` or ``!file`` replaced by its origin."""
    origins: dict[str, str] = {}
    for keys in filter(document.origin, document.marks):
        value = at(document.data, keys)
        origins |= dict.fromkeys([value, repr(value)[1:-1]], document.origin(keys))
    for value in sorted(filter(None, origins), key=len, reverse=True):
        # A short value may be part of an innocent word.
        pattern = re.escape(value) if len(value) > 7 else rf"(?<!\w){re.escape(value)}(?!\w)"
        text = re.sub(pattern, f"the value of {origins[value]}".replace("\\", "/"), text)
    return text


def _locate(data: Any, declared: Any, violation: Violation) -> tuple[Keys, str]:
    """Return the keys of msgspec's path, and the rest of it that is not found in ``data``."""
    keys: Keys = ()
    rest = violation.where + (ANY_KEY if violation.of_key else "")
    while rest:
        key, after = _step(at(data, keys), rest)
        if key == ANY_KEY:
            key = _culprit(data, declared, keys, violation.message)
        if key is None:
            break
        keys, rest = (*keys, key), after
    return keys, rest


def _step(value: Any, rest: str) -> tuple[str | int | None, str]:
    """Return the first key of the path ``rest``, and what follows it.

    Names may hold dots themselves, so the longest key that fits is taken.
    """
    steps: dict[str, str | int] = {}
    if isinstance(value, dict):
        steps = {ANY_KEY: ANY_KEY} | {f".{key}": key for key in value}
    if isinstance(value, list):
        steps = {f"[{number}]": number for number in range(len(value))}
    fitting = [step for step in steps if rest == step or rest.startswith((f"{step}.", f"{step}["))]
    longest = max(fitting, key=len, default=None)
    return (None, "") if longest is None else (steps[longest], rest[len(longest) :])


def _culprit(data: Any, declared: Any, keys: Keys, message: str) -> str | int | None:
    """Return the key of the dict at ``keys`` that is at fault, which msgspec does not tell.

    The key is found by converting the dict with one key at a time, until the message is the same.
    """
    mapping: dict[str | int, Any] = at(data, keys)
    for key in mapping:
        try:
            msgspec.convert(_replaced(data, keys, {key: mapping[key]}), declared)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return key
    return None


def _replaced(data: Any, keys: Keys, value: Any) -> Any:
    """Return a copy of ``data`` with another value at ``keys``."""
    if not keys:
        return value
    copy = data.copy()
    copy[keys[0]] = _replaced(data[keys[0]], keys[1:], value)
    return copy
