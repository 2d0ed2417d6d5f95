"""A YAML file as plain data that remembers the line of each key and value.

Errors about configuration name file, line and key, also long after parsing: when the data is
converted to the project's settings, or when a listener cannot be opened. PyYAML's own loader
forgets the lines, so this module walks PyYAML's nodes itself. That is also where ``!env`` and
``!file`` are resolved, and where everything that is not plain data is refused.

A value from ``!env`` or ``!file`` may be a secret: no error ever prints it, only its origin.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from api_hour.exceptions import ConfigError

if TYPE_CHECKING:
    import yaml  # imported by _Builder, so that a daemon without YAML files does not load it

Keys = tuple[str | int, ...]  # the path from the top of the data to one value

MAX_YAML = 256 * 1024  # bytes; about two seconds of parsing
MAX_FILE = 1024 * 1024  # bytes of one !file
MAX_VALUES = 10_000  # an alias counts as everything that it repeats (a "billion laughs" file)
MAX_DEPTH = 50
ALMOST = 0.8  # how alike two names are, of which one is a misspelling
AMBIGUOUS = re.compile(r"[-+]?(0[0-9_]+|.*:.*)")  # numbers of base 8 and 60 in YAML 1.1 alone
MAX_SHOWN = 60  # characters of a value in an error
STANDARD = "tag:yaml.org,2002:"
USAGE = {"!env": "!env NAME, or !env NAME:default", "!file": "!file PATH"}
SCALARS = [STANDARD + name for name in ("str", "int", "float", "bool", "null", "timestamp")]


class Mark(NamedTuple):
    """The lines of a key and of its value, and where the value came from."""

    key: int  # line of the key; for an item of a list, the line of the item
    value: int  # line of the value; for a mapping or a list, the line of its key
    origin: str = ""  # "!env NAME" or "!file PATH"


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data, and the marks of its keys and values in ``file``."""

    data: dict[str, Any] = field(default_factory=dict, repr=False)
    file: str = "configuration"
    marks: Mapping[Keys, Mark] = field(default_factory=dict, repr=False)
    section: str = ""  # the name of the section that ``data`` is; empty for the whole file
    split_off: tuple[str, ...] = ()  # the sections that ``data`` lacks, known to others
    folder: str = field(default="", repr=False)  # of ``file``, absolute

    def split(self, section: str) -> tuple["Document", "Document"]:
        """Return one section and the rest; raises ConfigError when it is not a mapping."""
        data = self.data.get(section)
        for key in get_close_matches(section, map(str, self.data), 1, ALMOST):
            if key != section and section not in self.data:
                message = f"{key} is not a section; did you mean {section}?"
                raise self.error((key,), message, of_key=True)
        if not isinstance(data, dict | None):
            raise self.error((section,), f"{section} must be a mapping, got {self.got((section,))}")
        marks = self.marks.items()
        inside = {keys[1:]: mark for keys, mark in marks if keys[:1] == (section,)}
        outside = {keys: mark for keys, mark in marks if keys[:1] != (section,)}
        rest = {key: value for key, value in self.data.items() if key != section}
        return (
            replace(self, data=data or {}, marks=inside, section=section),
            replace(self, data=rest, marks=outside, split_off=(*self.split_off, section)),
        )

    def error(self, keys: Keys, message: str, *, of_key: bool = False) -> ConfigError:
        """Return an error with the line of ``keys``, or of the nearest mapping that exists.

        With ``of_key`` the line is that of the key instead of the value.
        """
        while keys and keys not in self.marks:
            keys = keys[:-1]
        mark = self.marks.get(keys)
        line = 0 if mark is None else mark.key if of_key else mark.value
        return _error(self.file, line, message)

    def name(self, keys: Keys) -> str:
        """Return ``keys`` as an error writes them: ``engines.postgresql.hosts[1]``."""
        steps = [f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys]
        return (self.section + "".join(steps)).removeprefix(".")

    def got(self, keys: Keys) -> str:
        """Return the value at ``keys`` as an error shows it; of a possible secret, the origin."""
        if origin := self.origin(keys):
            return f"the value of {origin}"
        value = at(self.data, keys)
        if isinstance(value, dict | list):
            return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
        if value is None or isinstance(value, bool):
            return "null" if value is None else str(value).lower()
        text = repr(value) if isinstance(value, str) else str(value)
        return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."

    def veiled(self, keys: Keys) -> Any:
        """Return the value at ``keys``, with ``<!env NAME>`` instead of what may be a secret."""
        value = at(self.data, keys)
        if origin := self.origin(keys):
            return f"<{origin}>"
        if isinstance(value, dict):
            return {key: self.veiled((*keys, key)) for key in value}
        if isinstance(value, list):
            return [self.veiled((*keys, number)) for number in range(len(value))]
        return value

    def origin(self, keys: Keys) -> str:
        """Return ``!env NAME`` or ``!file PATH`` if the value at ``keys`` came from it, else ""."""
        return self.marks[keys].origin if keys in self.marks else ""


def at(data: Any, keys: Keys) -> Any:
    """Return the value at ``keys`` of ``data``."""
    for key in keys:
        data = data[key]
    return data


def load(path: str | os.PathLike[str]) -> Document:
    """Read a YAML file; a missing file and an empty one give an empty document.

    Raises ConfigError, one line that begins with file and line, for anything but a mapping of
    plain values, and for an ``!env`` or ``!file`` without a value.
    """
    file = Path(os.path.abspath(path))
    shown = str(file).removeprefix(os.getcwd() + os.sep)
    try:
        text = _read(file, MAX_YAML)
    except (FileNotFoundError, NotADirectoryError):  # a project may be named like a file of /etc
        if file.with_suffix(".yml").exists():
            raise _error(f"{shown[:-4]}yml", 0, f"rename it to {file.name}") from None
        return Document(file=f"{shown} (no such file)", folder=str(file.parent))
    except (OSError, ValueError) as error:
        raise _error(shown, 0, _reason(error)) from None
    builder = _Builder(shown, file.parent)
    root = builder.compose(text)
    if root is None or root.tag == STANDARD + "null":
        return Document({}, shown, {(): Mark(1, 1)}, folder=str(file.parent))
    if _kind(root) != "mapping":
        raise builder.error(root, "the file must be a mapping, as in `key: value`")
    data = builder.build(root, (), _line(root))
    return Document(data, shown, builder.marks, folder=str(file.parent))


class _Builder:
    """Builds data and marks from PyYAML's nodes of one file."""

    def __init__(self, file: str, folder: Path) -> None:
        import yaml

        self._file = file
        self._folder = folder
        self._scalars = yaml.constructor.SafeConstructor()
        self.marks: dict[Keys, Mark] = {}

    def compose(self, text: str) -> "yaml.Node | None":
        """Return the root node of ``text``; raises ConfigError when it is not YAML."""
        import yaml

        try:
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.reader.ReaderError as error:
            line, problem = 1 + text.count("\n", 0, error.position), "it holds a control character"
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, problem = 1 + (mark.line if mark else 0), _problem(error)
        except ValueError as error:  # an escape that is not a character, as in "\\U00110000"
            line, problem = 1, str(error)
        except RecursionError:
            line, problem = 1, f"it is nested deeper than {MAX_DEPTH}"
        raise _error(self._file, line, problem)

    def build(self, node: "yaml.Node", keys: Keys, line: int) -> Any:
        """Return the data of ``node``, whose key is on ``line``, and keep the marks.

        The limits are checked here, on the way down: aliases repeat nodes, so a small file can
        stand for any amount of data, or contain itself.
        """
        if len(keys) > MAX_DEPTH:
            raise self.error(node, f"it is nested deeper than {MAX_DEPTH}")
        if len(self.marks) >= MAX_VALUES:
            raise self.error(node, f"more than {MAX_VALUES} values, aliases counted in full")
        self.marks[keys] = Mark(line, line)
        if _kind(node) == "mapping" and node.tag == STANDARD + "map":
            return self._mapping(node, keys)
        if _kind(node) == "sequence" and node.tag == STANDARD + "seq":
            return [
                self.build(item, (*keys, number), _line(item))
                for number, item in enumerate(node.value)
            ]
        value, origin = self._scalar(node)
        self.marks[keys] = Mark(line, _line(node), origin)
        return value

    def error(self, node: "yaml.Node", message: str) -> ConfigError:
        """Return an error with the line of ``node``."""
        return _error(self._file, _line(node), message)

    def _mapping(self, node: "yaml.Node", keys: Keys) -> dict[str | int, Any]:
        data: dict[str | int, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key in data:
                first = self.marks[(*keys, key)].key
                raise self.error(key_node, f"the key {key} is already on line {first}: remove one")
            data[key] = self.build(value_node, (*keys, key), _line(key_node))
        return data

    def _key(self, node: "yaml.Node") -> str | int:
        if node.tag == STANDARD + "merge":
            raise self.error(node, "merge keys (<<) are not supported: write the keys out")
        if node.tag in USAGE:
            raise self.error(node, f"a key cannot be {node.tag}: only a value can")
        key = self._plain_value(node)
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise self.error(node, f"the key {node.value} is not text: put it in quotes")
        return key

    def _scalar(self, node: "yaml.Node") -> tuple[Any, str]:
        """Return the value of ``node`` and its origin, which is empty for plain YAML."""
        if node.tag not in USAGE:
            return self._plain_value(node), ""
        if _kind(node) != "scalar" or not node.value:
            raise self.error(node, f"write {USAGE[node.tag]}")
        if node.tag == "!file":
            return self._file_text(node), f"!file {node.value}"
        return self._variable(node), f"!env {node.value.partition(':')[0]}"

    def _plain_value(self, node: "yaml.Node") -> Any:
        if _kind(node) != "scalar" or node.tag not in SCALARS:
            tag = node.tag.replace(STANDARD, "!!")
            raise self.error(node, f"{tag} is not supported here: the tags are !env and !file")
        kind = node.tag.removeprefix(STANDARD)
        if kind in ("int", "float") and AMBIGUOUS.fullmatch(node.value):
            cure = "put text in quotes, or write a number without a leading 0 or a colon"
            raise self.error(node, f"{node.value} is another number in YAML 1.1: {cure}")
        try:
            value = self._scalars.construct_object(node)
            str(value).encode()  # neither half a character nor a number of too many digits
            return value
        # PyYAML's own constructors raise any of these, as for `!!bool maybe` or 2026-99-99.
        except (ValueError, KeyError, AttributeError, IndexError, OverflowError):
            message = f"{node.value[:MAX_SHOWN]} is not a valid {kind}: put text in quotes"
            raise self.error(node, message) from None

    def _variable(self, node: "yaml.Node") -> str:
        name, colon, default = node.value.partition(":")
        value = os.environ.get(name, default if colon else None)
        if value is None:
            cure = f"set it, or give a default: !env {name}:value"
            raise self.error(node, f"environment variable {name} is not set: {cure}")
        return value

    def _file_text(self, node: "yaml.Node") -> str:
        try:
            text = _read(self._folder / node.value, MAX_FILE)
        except (OSError, ValueError) as error:
            raise self.error(node, f"!file {node.value}: {_reason(error)}") from None
        return re.sub(r"\r?\n\Z", "", text)  # secrets are files that end with a newline


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


def _problem(error: "yaml.MarkedYAMLError") -> str:
    if "'\\t'" in str(error.problem):
        return "a tab cannot begin a YAML value: indent with spaces"
    start = f" from line {error.context_mark.line + 1}" if error.context_mark else ""
    return ", ".join(filter(None, [error.context and error.context + start, error.problem]))


def _kind(node: Any) -> str:
    """Return PyYAML's own word for a node: mapping, sequence or scalar."""
    return str(node.id)


def _line(node: "yaml.Node") -> int:
    return int(node.start_mark.line) + 1


def _error(file: str, line: int, message: str) -> ConfigError:
    """Return an error of one line: characters that cannot be printed are escaped."""
    text = f"{file}:{line}: {message}" if line else f"{file}: {message}"
    return ConfigError("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))
