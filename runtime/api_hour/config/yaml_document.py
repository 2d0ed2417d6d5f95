"""Documents: a YAML file becomes plain data that remembers where each key and value stands.

A value that came from ``!env`` or ``!file`` may be a secret: no error ever prints it.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from api_hour.exceptions import ConfigError

Keys = tuple[str | int, ...]  # the way from the top of the data to one value

MAX_YAML = 256 * 1024  # bytes; two seconds of parsing
MAX_FILE = 1024 * 1024  # bytes of one !file
MAX_VALUES = 10_000  # an alias counts as all that it stands for
MAX_DEPTH = 50
MAX_SHOWN = 60  # characters of a value in an error
STANDARD = "tag:yaml.org,2002:"
USAGE = {"!env": "!env NAME, or !env NAME:default", "!file": "!file PATH"}
SCALARS = [STANDARD + name for name in ("str", "int", "float", "bool", "null", "timestamp")]


class Place(NamedTuple):
    """Say where a key and its value stand, and what filled the value in."""

    key: int  # line; of a list's item, the line of the item
    value: int  # line; of a mapping or a list, the line of its key
    origin: str = ""  # "!env NAME" or "!file PATH"


@dataclass(frozen=True, slots=True)
class Document:
    """Keep plain data beside the places of its keys and values in ``file``."""

    data: dict[str, Any] = field(default_factory=dict, repr=False)
    file: str = "configuration"
    places: Mapping[Keys, Place] = field(default_factory=dict, repr=False)
    above: str = ""  # the section that ``data`` is
    taken: tuple[str, ...] = ()  # the sections that were split off

    def split(self, section: str) -> tuple["Document", "Document"]:
        """Return one section and the rest; raises ConfigError when it is no mapping."""
        data = self.data.get(section)
        if not isinstance(data, dict | None):
            raise self.error((section,), f"{section} must be a mapping, got {self.got((section,))}")
        places = self.places.items()
        inside = {keys[1:]: place for keys, place in places if keys[:1] == (section,)}
        outside = {keys: place for keys, place in places if keys[:1] != (section,)}
        rest = {key: value for key, value in self.data.items() if key != section}
        return (
            Document(data or {}, self.file, inside, above=section),
            Document(rest, self.file, outside, taken=(*self.taken, section)),
        )

    def error(self, keys: Keys, message: str, *, of_key: bool = False) -> ConfigError:
        """Put the place of ``keys``, or of what should hold them, before ``message``."""
        while keys and keys not in self.places:
            keys = keys[:-1]
        place = self.places.get(keys)
        line = 0 if place is None else place.key if of_key else place.value
        return _error(self.file, line, message)

    def name(self, keys: Keys) -> str:
        """Return ``keys`` as an error writes them: ``engines.postgresql.hosts[1]``."""
        steps = [f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys]
        return (self.above + "".join(steps)).removeprefix(".")

    def got(self, keys: Keys) -> str:
        """Return the value at ``keys`` for an error, or the origin of what may be a secret."""
        if origin := self.origin(keys):
            return f"the value of {origin}"
        value = at(self.data, keys)
        if isinstance(value, dict | list):
            return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
        if value is None or isinstance(value, bool):
            return "null" if value is None else str(value).lower()
        text = repr(value) if isinstance(value, str) else str(value)
        return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."

    def origin(self, keys: Keys) -> str:
        """Return ``!env NAME`` or ``!file PATH`` when that gave the value at ``keys``, else ""."""
        return self.places[keys].origin if keys in self.places else ""


def at(data: Any, keys: Keys) -> Any:
    """Return the value at ``keys`` of ``data``."""
    for key in keys:
        data = data[key]
    return data


def load(path: str | os.PathLike[str]) -> Document:
    """Read a YAML file; a missing or an empty one gives an empty document.

    Raises ConfigError, one line that begins with file and line, for anything that is not a
    mapping of plain values, and for an ``!env`` or ``!file`` that gives none.
    """
    file = Path(os.path.abspath(path))
    shown = str(file).removeprefix(os.getcwd() + os.sep)
    try:
        text = _read(file, MAX_YAML)
    except FileNotFoundError:
        return Document(file=f"{shown} (no such file)")
    except (OSError, ValueError) as error:
        raise _error(shown, 0, _reason(error)) from None
    reader = _Reader(shown, file.parent)
    root = reader.compose(text)
    if root is None or root.tag == STANDARD + "null":
        return Document({}, shown, {(): Place(1, 1)})
    if not isinstance(root, yaml.MappingNode):
        raise reader.error(root, "the file must be a mapping, as in `key: value`")
    return Document(reader.build(root, (), _line(root)), shown, reader.places)


class _Reader:
    """Turn the nodes of one file into data and places."""

    def __init__(self, file: str, folder: Path) -> None:
        self.file = file
        self.folder = folder
        self.places: dict[Keys, Place] = {}
        self.scalars = yaml.constructor.SafeConstructor()

    def compose(self, text: str) -> yaml.Node | None:
        """Return the root of ``text``; raises ConfigError when it is not YAML."""
        try:
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.reader.ReaderError as error:
            line, problem = 1 + text.count("\n", 0, error.position), "it holds a control character"
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, problem = 1 + (mark.line if mark else 0), _problem(error)
        except RecursionError:
            line, problem = 1, f"it is nested deeper than {MAX_DEPTH}"
        raise _error(self.file, line, problem)

    def build(self, node: yaml.Node, keys: Keys, line: int) -> Any:
        """Return the data of ``node``, whose key stands on ``line``, and note the places."""
        if len(keys) > MAX_DEPTH:
            raise self.error(node, f"it is nested deeper than {MAX_DEPTH}")
        if len(self.places) >= MAX_VALUES:
            raise self.error(node, f"more than {MAX_VALUES} values, aliases counted in full")
        self.places[keys] = Place(line, line)
        if isinstance(node, yaml.MappingNode) and node.tag == STANDARD + "map":
            return self._mapping(node, keys)
        if isinstance(node, yaml.SequenceNode) and node.tag == STANDARD + "seq":
            return [self.build(n, (*keys, i), _line(n)) for i, n in enumerate(node.value)]
        value, origin = self._scalar(node)
        self.places[keys] = Place(line, _line(node), origin)
        return value

    def error(self, node: yaml.Node, message: str) -> ConfigError:
        return _error(self.file, _line(node), message)

    def _mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str | int, Any]:
        data: dict[str | int, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key in data:
                first = self.places[(*keys, key)].key
                raise self.error(key_node, f"the key {key} is already on line {first}: remove one")
            data[key] = self.build(value_node, (*keys, key), _line(key_node))
        return data

    def _key(self, node: yaml.Node) -> str | int:
        if node.tag == STANDARD + "merge":
            raise self.error(node, "merge keys (<<) are not read: write the keys out")
        key = self._plain(node)
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise self.error(node, f"the key {node.value} is no text: put it in quotes")
        return key

    def _scalar(self, node: yaml.Node) -> tuple[Any, str]:
        """Return the value of ``node`` and its origin, which is empty for plain YAML."""
        if node.tag not in USAGE:
            return self._plain(node), ""
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            raise self.error(node, f"write {USAGE[node.tag]}")
        if node.tag == "!file":
            return self._file(node), f"!file {node.value}"
        return self._env(node), f"!env {node.value.partition(':')[0]}"

    def _plain(self, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.ScalarNode) or node.tag not in SCALARS:
            tag = node.tag.replace(STANDARD, "!!")
            raise self.error(node, f"{tag} is not read here: the tags are !env and !file")
        try:
            return self.scalars.construct_object(node)
        # PyYAML's own constructors raise any of these, as for `!!bool maybe` or 2026-99-99.
        except (ValueError, KeyError, AttributeError):
            kind = node.tag.removeprefix(STANDARD)
            message = f"{node.value[:MAX_SHOWN]} is no valid {kind}: put text in quotes"
            raise self.error(node, message) from None

    def _env(self, node: yaml.ScalarNode) -> str:
        name, colon, default = node.value.partition(":")
        value = os.environ.get(name, default if colon else None)
        if value is None:
            cure = f"set it, or give a default: !env {name}:value"
            raise self.error(node, f"environment variable {name} is not set: {cure}")
        return value

    def _file(self, node: yaml.ScalarNode) -> str:
        try:
            text = _read(self.folder / node.value, MAX_FILE)
        except (OSError, ValueError) as error:
            raise self.error(node, f"!file {node.value}: {_reason(error)}") from None
        return re.sub(r"\r?\n\Z", "", text)


def _read(file: Path, limit: int) -> str:
    """Return the text of a regular file; raises OSError or ValueError."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError("it is not a regular file")
    with file.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise OSError(f"it is larger than {limit} bytes")
    return data.decode("utf-8-sig")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        line = 1 + error.object.count(b"\n", 0, error.start)
        return f"it is not UTF-8 text (line {line})"
    return getattr(error, "strerror", None) or str(error)


def _problem(error: yaml.MarkedYAMLError) -> str:
    if "'\\t'" in str(error.problem):
        return "a tab cannot begin a YAML value: indent with spaces"
    start = f" from line {error.context_mark.line + 1}" if error.context_mark else ""
    return ", ".join(filter(None, [error.context and error.context + start, error.problem]))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _error(file: str, line: int, message: str) -> ConfigError:
    """Return the error in one line: what cannot be printed is escaped."""
    text = f"{file}:{line}: {message}" if line else f"{file}: {message}"
    return ConfigError("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))
