"""load() and convert() on real files: data, places, and every error in one line."""

import copy
import datetime
import enum
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from api_hour.config import convert, yaml_document
from api_hour.config.yaml_document import Document
from api_hour.exceptions import ConfigError

FILE = "etc/hello/main.yaml"
Load = Callable[[str], Document]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return a function that writes etc/hello/main.yaml in a working directory, and loads it."""
    monkeypatch.chdir(tmp_path)
    path = Path(FILE)
    path.parent.mkdir(parents=True)

    def write_and_load(text: str) -> Document:
        path.write_text(text)
        return yaml_document.load(path)

    return write_and_load


def refused(load: Load, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Reading


def test_a_mapping_becomes_plain_data(load: Load) -> None:
    document = load("a: 1\nb: [x, 2.5, true, null]\nc:\n  d: 2026-11-22\n  '5': y\n  6: z\n")
    day = datetime.date(2026, 11, 22)
    assert document.data == {
        "a": 1,
        "b": ["x", 2.5, True, None],
        "c": {"d": day, "5": "y", 6: "z"},
    }
    assert type(document.data) is dict


def test_every_key_and_value_keeps_its_place(load: Load) -> None:
    document = load("# first\na: 1\nb:\n  c:\n    long\n  d: [x,\n      y]\n")
    assert {keys: (place.key, place.value) for keys, place in document.places.items()} == {
        (): (2, 2),
        ("a",): (2, 2),
        ("b",): (3, 3),
        ("b", "c"): (4, 5),
        ("b", "d"): (6, 6),
        ("b", "d", 0): (6, 6),
        ("b", "d", 1): (7, 7),
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "{}", "\ufeff"])
def test_an_empty_file_is_an_empty_document(load: Load, text: str) -> None:
    document = load(text)
    assert document.data == {}
    assert str(document.error((), "wrong")) == f"{FILE}:1: wrong"


def test_a_missing_file_is_an_empty_document(load: Load) -> None:
    document = yaml_document.load("etc/nowhere.yaml")
    assert (document.data, document.places) == ({}, {})
    assert str(document.error(("a",), "wrong")) == "etc/nowhere.yaml (no such file): wrong"


@pytest.mark.parametrize("data", [b"a: \xff", b"a: 1\nb: \xff\n"])
def test_a_file_that_is_not_utf_8_is_refused(load: Load, data: bytes) -> None:
    load("")
    Path(FILE).write_bytes(data)
    line = 1 + data.count(b"\n", 0, 9)
    with pytest.raises(ConfigError, match=rf"^{FILE}: it is not UTF-8 text \(line {line}\)$"):
        yaml_document.load(FILE)


def test_a_folder_and_a_file_that_may_not_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r": it is not a regular file$"):
        yaml_document.load(tmp_path)
    with pytest.raises(ConfigError, match=r": Not a directory$"):
        yaml_document.load(Path(__file__) / "main.yaml")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r": it is not a regular file$"):
        yaml_document.load(tmp_path / "pipe")


def test_a_file_outside_of_the_working_directory_is_named_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "main.yaml").write_text("- 1")
    (tmp_path / "main").mkdir()
    monkeypatch.chdir(tmp_path / "main")
    with pytest.raises(ConfigError, match=f"^{tmp_path}/main.yaml:1: "):
        yaml_document.load("../main.yaml")


MAPPING = "the file must be a mapping, as in `key: value`"
KNOWN_TAGS = "is not read here: the tags are !env and !file"
DEEP = "it is nested deeper than 50"
BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
REFUSED = [
    ("- 1\n", 1, MAPPING),
    ("\n\ntext\n", 3, MAPPING),
    ("a:\n\tb: 1\n", 2, "a tab cannot begin a YAML value: indent with spaces"),
    ("a: b: c\n", 1, "mapping values are not allowed here"),
    (
        "a: 1\nb: [1,\n  2\n",
        4,
        "while parsing a flow sequence from line 2, expected ',' or ']', but got '<stream end>'",
    ),
    (
        'a: "x\n\n',
        3,
        "while scanning a quoted scalar from line 1, found unexpected end of stream",
    ),
    (
        "a: 1\n---\nb: 2\n",
        2,
        "expected a single document in the stream from line 1, but found another document",
    ),
    ("a: 1\nb: *x\n", 2, "found undefined alias 'x'"),
    ("a: 1\nb: \x00\n", 2, "it holds a control character"),
    ("a: 1\nb: 2\na: 3\n", 3, "the key a is already on line 1: remove one"),
    ("a:\n  b: 1\n  'b': 2\n", 3, "the key b is already on line 2: remove one"),
    ("a: 1\non: 2\n", 2, "the key on is no text: put it in quotes"),
    ("null: 2\n", 1, "the key null is no text: put it in quotes"),
    ("2.5: 2\n", 1, "the key 2.5 is no text: put it in quotes"),
    ("a: 1\n? [b]\n: 2\n", 2, f"!!seq {KNOWN_TAGS}"),
    ("!env A: 2\n", 1, f"!env {KNOWN_TAGS}"),
    ("a: &a {b: 1}\nc:\n  <<: *a\n", 3, "merge keys (<<) are not read: write the keys out"),
    ("a: !secret x\n", 1, f"!secret {KNOWN_TAGS}"),
    (
        "a: !!python/object/apply:os.system [ls]\n",
        1,
        f"!!python/object/apply:os.system {KNOWN_TAGS}",
    ),
    ("a: !!set {b}\n", 1, f"!!set {KNOWN_TAGS}"),
    ("a: !!str {}\n", 1, f"!!str {KNOWN_TAGS}"),
    ("a: !!map x\n", 1, f"!!map {KNOWN_TAGS}"),
    ("a: !!bool maybe\n", 1, "maybe is no valid bool: put text in quotes"),
    ("a: 2026-99-99\n", 1, "2026-99-99 is no valid timestamp: put text in quotes"),
    ("a: 0b_\n", 1, "0b_ is no valid int: put text in quotes"),
    ("0x_: 1\n", 1, "0x_ is no valid int: put text in quotes"),
    (f"a: {'9' * 5000}\n", 1, f"{'9' * 60} is no valid int: put text in quotes"),
    ("a: " + "[" * 60 + "]" * 60 + "\n", 1, DEEP),
    ("a: " + "[" * 10_000 + "\n", 1, DEEP),
    ("a: 1\nb: &b [*b]\n", 2, DEEP),
    (BOMB, 1, "more than 10000 values, aliases counted in full"),
    ("a: [" + "1," * 10_000 + "]\n", 1, "more than 10000 values, aliases counted in full"),
]


@pytest.mark.parametrize(("text", "line", "problem"), REFUSED, ids=lambda value: str(value)[-40:])
def test_what_is_not_a_mapping_of_plain_values_is_refused_with_its_line(
    load: Load, text: str, line: int, problem: str
) -> None:
    assert refused(load, text) == f"{FILE}:{line}: {problem}"


def test_a_file_that_is_too_large_is_refused(load: Load) -> None:
    message = f"{FILE}: it is larger than 262144 bytes"
    assert refused(load, "a: " + "x" * 300_000) == message


def test_an_alias_stands_for_its_value_and_names_both_lines(load: Load) -> None:
    document = load("a: &a\n  b: 1\nc: *a\n")
    assert document.data == {"a": {"b": 1}, "c": {"b": 1}}
    assert document.places["c",].key == 3
    assert document.places["c", "b"].value == 2


# !env


def test_env_gives_the_variable_or_the_default(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", "postgresql://u:p@host:5432/db")
    monkeypatch.setenv("EMPTY", "")
    text = "[!env SET, !env 'SET:x', !env EMPTY, !env EMPTY:x, !env UNSET:a:b, !env 'UNSET:']"
    monkeypatch.delenv("UNSET", raising=False)
    assert load(f"a: {text}").data["a"] == [
        "postgresql://u:p@host:5432/db",
        "postgresql://u:p@host:5432/db",
        "",
        "",
        "a:b",
        "",
    ]


def test_env_without_variable_and_default_is_refused_with_the_cure(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert refused(load, "a:\n  b: 1\n  c:\n    !env DATABASE_URL\n") == (
        f"{FILE}:4: environment variable DATABASE_URL is not set: "
        "set it, or give a default: !env DATABASE_URL:value"
    )


@pytest.mark.parametrize("text", ["!env", "!env ''", "!env {A: b}", "!env [A]"])
def test_env_without_a_name_is_refused(load: Load, text: str) -> None:
    assert refused(load, f"a: {text}") == f"{FILE}:1: write !env NAME, or !env NAME:default"


def test_a_name_with_a_line_break_stays_in_one_line(load: Load) -> None:
    assert "environment variable A\\nB is not set" in refused(load, 'a: !env "A\\nB"')


# !file


def test_file_gives_the_text_beside_the_yaml_file_without_its_last_newline(load: Load) -> None:
    load("")
    folder = Path(FILE).parent
    (folder / "secret").write_bytes(b"one\ntwo\n\n")
    (folder / "windows").write_bytes(b"one\r\n")
    (folder / "bare").write_bytes(b"\xef\xbb\xbfone")
    (folder / "empty").write_bytes(b"")
    document = load(f"a: [!file secret, !file windows, !file bare, !file {folder.resolve()}/empty]")
    assert document.data["a"] == ["one\ntwo\n", "one", "one", ""]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("!file nowhere", "!file nowhere: No such file or directory"),
        ("!file .", "!file .: it is not a regular file"),
        ("!file large", "!file large: it is larger than 1048576 bytes"),
        ("!file binary", "!file binary: it is not UTF-8 text (line 2)"),
        ("!file", "write !file PATH"),
        ("!file [a]", "write !file PATH"),
    ],
)
def test_a_file_that_gives_no_text_is_refused_by_name(load: Load, text: str, problem: str) -> None:
    load("")
    folder = Path(FILE).parent
    (folder / "large").write_bytes(b"x" * 1_048_577)
    (folder / "binary").write_bytes(b"\n\xff")
    assert refused(load, f"a: 1\nb: {text}\n") == f"{FILE}:2: {problem}"


def test_a_path_with_a_null_is_refused_in_one_line(load: Load) -> None:
    message = refused(load, 'a: !file "a\\0b"')
    assert message.startswith(f"{FILE}:1: !file a\\x00b: ")


# Converting


class Redis(msgspec.Struct, tag="redis", frozen=True, forbid_unknown_fields=True):
    host: str
    port: int = 6379


class Memory(msgspec.Struct, tag="memory", frozen=True, forbid_unknown_fields=True):
    slots: int
    path: str = ""


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dsn: str = ""
    port: int = 5432
    minsize: Annotated[int, msgspec.Meta(ge=1, description="connections")] = 1
    timeout: float = 5.0
    debug: bool = False
    mode: Literal["fast", "safe"] = "fast"
    replicas: Literal[1, 3] = 1
    level: Level = Level.LOW
    since: datetime.date | None = None

    def __post_init__(self) -> None:
        if "//" in self.dsn:
            raise ValueError(f"no slashes\nin {self.dsn!r}, please")


class Engines(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    postgresql: Engine
    read_only: Engine | None = None


class Point(msgspec.Struct, array_like=True):
    axis: Level


class Spot(NamedTuple):
    axis: Level


class Choices(msgspec.Struct, frozen=True):
    points: list[Point] = []
    spots: list[Spot] = []
    pair: tuple[int, Level] | None = None
    shares: dict[Literal["a", "b"], int] = {}
    labels: Annotated[dict[str, Level], msgspec.Meta(title="labels")] = {}


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    engines: Engines | None = None
    hosts: list[str] = []
    pair: tuple[str, int] | None = None
    ports: dict[int, str] = {}
    limits: dict[str, int] = {}
    zones: dict[str, dict[str, Engine]] = {}
    cache: Redis | Memory | None = None
    caches: list[Redis | Memory] = []
    either: int | str | None = None
    number: int | float | None = None
    quotas: Annotated[dict[str, int], msgspec.Meta(min_length=2)] | None = None
    names: Annotated[list[str], msgspec.Meta(min_length=2)] | None = None


def unconverted(load: Load, text: str, declared: type = Settings) -> str:
    document = load(text)
    with pytest.raises(ConfigError) as caught:
        convert.convert(document, declared)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return message


def test_data_becomes_the_declared_struct(load: Load) -> None:
    document = load(
        "engines:\n  postgresql: {dsn: x, timeout: 3, level: high}\n  read-only:\n    replicas: 3\n"
        "ports: {80: web}\nzones: {a: {b: {since: 2026-11-22}}}\n"
        "cache: {type: memory, slots: 5}\neither: '5'\n"
    )
    settings = convert.convert(document, Settings)
    assert settings.engines is not None
    assert settings.engines.postgresql == Engine(dsn="x", timeout=3.0, level=Level.HIGH)
    assert settings.engines.read_only == Engine(replicas=3)
    assert settings.ports == {80: "web"}
    assert settings.zones["a"]["b"].since == datetime.date(2026, 11, 22)
    assert settings.cache == Memory(slots=5)
    assert settings.either == "5"
    assert convert.convert(Document(), Settings) == Settings()


ENGINE = "engines:\n  postgresql:\n    "
ENGINE_KEYS = "(known: debug, dsn, level, minsize, mode, port, replicas, since, timeout)"
KEYS = (
    "(known: cache, caches, either, engines, hosts, limits, names, number, pair, ports, "
    "quotas, zones)"
)
WRONG = [
    (ENGINE + "port: 'abc'", 3, "PG.port must be an integer, got 'abc'"),
    (ENGINE + "port: '5'", 3, "PG.port must be an integer, got '5'"),
    (ENGINE + "port:\n      abc", 4, "PG.port must be an integer, got 'abc'"),
    (ENGINE + "port: 1.5", 3, "PG.port must be an integer, got 1.5"),
    (ENGINE + "port: no", 3, "PG.port must be an integer, got false"),
    (ENGINE + "port:", 3, "PG.port must be an integer, got null"),
    (ENGINE + "port: [1, 2]", 3, "PG.port must be an integer, got a list of 2"),
    (
        ENGINE + "port:\n      a: 1",
        3,
        "PG.port must be an integer, got a mapping of 1",
    ),
    (
        ENGINE + f"port: {'x' * 99}",
        3,
        f"PG.port must be an integer, got '{'x' * 59}...",
    ),
    (ENGINE + "dsn: 5", 3, "PG.dsn must be a string, got 5"),
    (ENGINE + "timeout: x", 3, "PG.timeout must be a number, got 'x'"),
    (ENGINE + "debug: 1", 3, "PG.debug must be true or false, got 1"),
    (ENGINE + "minsize: 0", 3, "PG.minsize must be an integer >= 1, got 0"),
    (
        ENGINE + "mode: slow",
        3,
        "PG.mode must be one of 'fast', 'safe', got 'slow'",
    ),
    (ENGINE + "replicas: 2", 3, "PG.replicas must be one of 1, 3, got 2"),
    (ENGINE + "level: mid", 3, "PG.level must be one of 'low', 'high', got 'mid'"),
    (
        ENGINE + "since: x",
        3,
        "PG.since must be a valid RFC3339 encoded date, got 'x'",
    ),
    (ENGINE + "dsn: a//b", 2, "PG: no slashes in 'a//b', please"),
    (
        ENGINE + "prot: 5",
        3,
        f"PG.prot is not a known key; did you mean port? {ENGINE_KEYS}",
    ),
    (ENGINE + "xyz:\n      5", 3, f"PG.xyz is not a known key {ENGINE_KEYS}"),
    (
        "engines:\n  postgresql: {}\n  read_only: {}",
        3,
        "engines.read_only is not a known key; did you mean read-only? "
        "(known: postgresql, read-only)",
    ),
    ("# x\nengines: {}", 2, "engines.postgresql is missing: add it"),
    ("engines: 5", 1, "engines must be a mapping or null, got 5"),
    ("hosts: x", 1, "hosts must be a list, got 'x'"),
    ("hosts:\n  - a\n  - 5", 3, "hosts[1] must be a string, got 5"),
    ("pair: [a]", 1, "pair must be a list of length 2, got a list of 1"),
    ("pair: [a, b]", 1, "pair[1] must be an integer, got 'b'"),
    ("names: [a]", 1, "names must be a list of length >= 2, got a list of 1"),
    ("ports:\n  80: a\n  b: c", 3, "the key ports.b must be an integer"),
    ("ports:\n  80: a\n  81: 5", 3, "ports[81] must be a string, got 5"),
    ("limits:\n  a: 1\n  b.c: x\n  d: y", 3, "limits.b.c must be an integer, got 'x'"),
    ("quotas: {a: 1}", 1, "quotas must be a mapping of length >= 2, got a mapping of 1"),
    ("quotas:\n  a: 1\n  b: x", 1, "quotas[...] must be an integer"),
    ("limits:\n  a: 1\n  5: 1", 3, "the key limits[5] must be a string"),
    (
        "zones:\n  a: {x: {port: 1}}\n  b:\n    y: {port: 2}\n    z.y:\n      port: z",
        6,
        "zones.b.z.y.port must be an integer, got 'z'",
    ),
    (
        "zones:\n  a:\n    b:\n      prot: 1",
        4,
        f"zones.a.b.prot is not a known key; did you mean port? {ENGINE_KEYS}",
    ),
    ("cache: {host: x}", 1, "cache.type is missing: add it"),
    ("cache:\n  type: reds", 2, "cache.type must be one of 'redis', 'memory', got 'reds'"),
    ("cache:\n  type: redis", 1, "cache.host is missing: add it"),
    (
        "cache:\n  type: redis\n  path: x",
        3,
        "cache.path is not a known key (known: host, port, type)",
    ),
    (
        "caches:\n  - {type: redis, host: x}\n  - type: memory",
        3,
        "caches[1].slots is missing: add it",
    ),
    ("either: 1.5", 1, "either must be an integer or a string or null, got 1.5"),
    ("hots: [a]", 1, f"hots is not a known key; did you mean hosts? {KEYS}"),
    ("5: a", 1, "the key [5] must be a string"),
]


@pytest.mark.parametrize(("text", "line", "problem"), WRONG, ids=lambda value: str(value)[-60:])
def test_a_wrong_value_is_refused_with_file_line_and_key(
    load: Load, text: str, line: int, problem: str
) -> None:
    problem = re.sub("^PG", "engines.postgresql", problem)
    assert unconverted(load, text) == f"{FILE}:{line}: {problem}"


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("points: [[low], [mid]]", "points[1][0]"),
        ("spots: [[low], [mid]]", "spots[1][0]"),
        ("pair: [1, mid]", "pair[1]"),
        ("labels: {x: low, y: mid}", "labels.y"),
    ],
)
def test_a_choice_is_named_wherever_it_stands(load: Load, text: str, subject: str) -> None:
    message = unconverted(load, text, Choices)
    assert message == f"{FILE}:1: {subject} must be one of 'low', 'high', got 'mid'"


def test_a_key_may_be_a_choice(load: Load) -> None:
    message = unconverted(load, "shares: {a: 1, c: 2}", Choices)
    assert message == f"{FILE}:1: the key shares.c must be one of 'a', 'b'"


def test_an_unknown_section_may_be_one_that_the_runtime_took(load: Load) -> None:
    document = load("api_hours: {}\n")
    _, rest = document.split("api_hour")
    with pytest.raises(ConfigError, match=r"did you mean api_hour\? \(known: .*, api_hour\)$"):
        convert.convert(rest, Settings)


def test_what_a_missing_file_lacks_is_named_without_a_line(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"^no.yaml \(no such file\): postgresql is missing"):
        convert.convert(yaml_document.load("no.yaml"), Engines)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("port", "77", 77),
        ("port", "-1", -1),
        ("timeout", "2.5", 2.5),
        ("timeout", "3", 3.0),
        ("debug", "true", True),
        ("debug", "False", False),
        ("debug", "0", False),
        ("replicas", "3", 3),
        ("mode", "safe", "safe"),
        ("dsn", "77", "77"),
        ("level", "high", Level.HIGH),
        ("since", "2026-11-22", datetime.date(2026, 11, 22)),
    ],
)
def test_text_of_env_and_file_is_read_as_the_declared_type(
    load: Load, monkeypatch: pytest.MonkeyPatch, key: str, text: str, value: object
) -> None:
    load("")
    monkeypatch.setenv("VALUE", text)
    (Path(FILE).parent / "value").write_text(text + "\n")
    for source in ("!env VALUE", "!file value", f"!env UNSET:{text}"):
        document = load(f"postgresql:\n  {key}: {source}\n")
        before = copy.deepcopy(document.data)
        assert getattr(convert.convert(document, Engines).postgresql, key) == value
        assert document.data == before


def test_text_of_env_stays_text_where_text_is_declared(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VALUE", "5")
    document = load(
        "either: !env VALUE\nnumber: !env VALUE\npair: [!env VALUE, !env VALUE]\n"
        "limits: {a: 1, b: !env VALUE}\nhosts: [!env VALUE]\n"
    )
    settings = convert.convert(document, Settings)
    assert (settings.either, settings.number, settings.pair) == ("5", 5, ("5", 5))
    assert (settings.limits, settings.hosts) == ({"a": 1, "b": 5}, ["5"])


SECRET = "hunter2//secret"  # noqa: S105
SECRETS = [
    ("port: {}", "engines.postgresql.port must be an integer, got {}"),
    ("timeout: {}", "engines.postgresql.timeout must be a number, got {}"),
    ("debug: {}", "engines.postgresql.debug must be true or false, got {}"),
    ("level: {}", "engines.postgresql.level must be one of 'low', 'high', got {}"),
    ("mode: {}", "engines.postgresql.mode must be one of 'fast', 'safe', got {}"),
    ("dsn: {}", "engines.postgresql: no slashes in '{}', please"),
    ("port: [{}]", "engines.postgresql.port must be an integer, got a list of 1"),
    ("port: {{a: {}}}", "engines.postgresql.port must be an integer, got a mapping of 1"),
]


@pytest.mark.parametrize(("text", "problem"), SECRETS)
@pytest.mark.parametrize("source", ["!env SECRET", "!file secret", "!env UNSET"])
def test_no_error_prints_what_came_from_env_or_file(
    load: Load, monkeypatch: pytest.MonkeyPatch, text: str, problem: str, source: str
) -> None:
    load("")
    monkeypatch.setenv("SECRET", SECRET)
    (Path(FILE).parent / "secret").write_text(SECRET)
    written = f"'{SECRET}'" if source == "!env UNSET" else ""
    tagged = f"!env 'UNSET:{SECRET}'" if written else source
    message = unconverted(load, ENGINE + text.format(tagged))
    assert message == f"{FILE}:3: {problem.format(f'the value of {source}')}".replace(
        f"{FILE}:3: engines.postgresql: ", f"{FILE}:2: engines.postgresql: "
    )
    assert "hunter2" not in message


def test_a_check_of_the_project_may_print_neither_a_secret_nor_its_escaped_form(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "line one//\nline 'two'")
    monkeypatch.setenv("SHORT", "no")
    message = unconverted(load, "postgresql:\n  dsn: !env KEY\n  mode: fast\n", Engines)
    assert "line one" not in message
    assert message == f'{FILE}:1: postgresql: no slashes in "the value of !env KEY", please'


class Pair(msgspec.Struct):
    one: str
    two: str

    def __post_init__(self) -> None:
        raise ValueError(f"shun {self.one} and {self.two}")


def test_of_two_secrets_the_longer_is_hidden_first_and_words_are_left_alone(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT", "hu")
    monkeypatch.setenv("LONG", "hu/nter2")
    message = unconverted(load, "one: !env SHORT\ntwo: !env LONG\n", Pair)
    expected = "shun the value of !env SHORT and the value of !env LONG"
    assert message == f"{FILE}:1: {expected}"


class Dotted(msgspec.Struct, rename={"long": "a.b"}):
    long: int
    a: dict[str, int] = {}


def test_a_name_may_hold_dots(load: Load) -> None:
    message = unconverted(load, "a:\n  b: 1\na.b: x\n", Dotted)
    assert message == f"{FILE}:3: a.b must be an integer, got 'x'"


def test_a_document_shows_no_data_in_its_repr(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    document = load("a: !env SECRET\nb: plain\n")
    assert repr(document) == f"Document(file='{FILE}', above='', taken=())"
    assert (document.got(("a",)), document.got(("b",))) == ("the value of !env SECRET", "'plain'")


# Splitting


def test_a_section_is_taken_out_with_its_places(load: Load) -> None:
    document = load("a: 1\napi_hour:\n  workers: x\n  listeners: {http: y}\nb: 2\n")
    section, rest = document.split("api_hour")
    assert section.data == {"workers": "x", "listeners": {"http": "y"}}
    assert rest.data == {"a": 1, "b": 2}
    assert str(section.error(("listeners", "http"), "wrong")) == f"{FILE}:4: wrong"
    assert str(section.error(("workers",), "wrong")) == f"{FILE}:3: wrong"
    assert str(section.error(("missing", "key"), "wrong")) == f"{FILE}:2: wrong"
    assert str(rest.error(("b",), "wrong")) == f"{FILE}:5: wrong"
    assert str(rest.error(("api_hour", "workers"), "wrong")) == f"{FILE}:1: wrong"
    assert section.name(("listeners", "http")) == "api_hour.listeners.http"
    assert document.data.keys() == {"a", "api_hour", "b"}


def test_a_section_is_converted_under_its_full_name(load: Load) -> None:
    section, _ = load("engines:\n  postgresql: {port: x}\n").split("engines")
    with pytest.raises(ConfigError, match=f"^{FILE}:2: engines.postgresql.port must be an integer"):
        convert.convert(section, Engines)


@pytest.mark.parametrize("text", ["", "a: 1\n", "api_hour:\n", "api_hour: {}\n"])
def test_a_section_that_is_missing_or_empty_is_an_empty_document(load: Load, text: str) -> None:
    section, rest = load(text).split("api_hour")
    assert section.data == {}
    assert "api_hour" not in rest.data
    assert str(section.error(("workers",), "wrong")).endswith(": wrong")


@pytest.mark.parametrize(
    ("text", "got"), [("5", "5"), ("[a]", "a list of 1"), ("!env S:x", "the value of !env S")]
)
def test_a_section_that_is_no_mapping_is_refused(load: Load, text: str, got: str) -> None:
    document = load(f"a: 1\napi_hour: {text}\n")
    with pytest.raises(ConfigError) as caught:
        document.split("api_hour")
    assert str(caught.value) == f"{FILE}:2: api_hour must be a mapping, got {got}"


def test_a_document_can_be_pickled_and_compared(load: Load) -> None:
    document = load("a: !env UNSET:x\nb: {c: [1]}\n")
    assert pickle.loads(pickle.dumps(document)) == document  # noqa: S301
    assert document.split("b")[0] != document


# Round trips

PRINTABLE = st.characters(max_codepoint=0xD7FF, exclude_categories=["Cc", "Zl", "Zp"])
TEXT = st.text(PRINTABLE)
SCALARS = st.none() | st.booleans() | st.integers() | TEXT
DATA = st.dictionaries(
    TEXT,
    st.recursive(
        SCALARS,
        lambda values: st.lists(values, max_size=4) | st.dictionaries(TEXT, values, max_size=4),
        max_leaves=20,
    ),
    max_size=5,
)


class Writer:
    """Write data as YAML, one key or scalar a line, and note which line holds what."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.places: dict[yaml_document.Keys, tuple[int, int]] = {}

    def write(self, data: Any, keys: yaml_document.Keys, indent: str) -> None:
        items = data.items() if isinstance(data, dict) else enumerate(data)
        for key, value in items:
            name = f"{msgspec.json.encode(key).decode()}:" if isinstance(data, dict) else "-"
            self.lines.append(f"{indent}{name}")
            line = len(self.lines)
            nested = isinstance(value, dict | list) and value
            if nested:
                self.write(value, (*keys, key), f"{indent}  ")
            else:
                self.lines.append(f"{indent}  {msgspec.json.encode(value).decode()}")
            start = line if isinstance(data, dict) else line + 1
            scalar = not isinstance(value, dict | list)
            self.places[*keys, key] = (start, line + 1 if scalar else start)


@given(DATA)
def test_every_place_is_where_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]
) -> None:
    writer = Writer()
    writer.write(data, (), "")
    path = tmp_path_factory.getbasetemp() / "places.yaml"
    path.write_text("\n".join(writer.lines))
    document = yaml_document.load(path)
    places = {keys: (place.key, place.value) for keys, place in document.places.items() if keys}
    assert document.data == data
    assert places == writer.places


@given(DATA)
def test_what_pyyaml_writes_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True))
    assert yaml_document.load(path).data == data


@settings(max_examples=300)
@given(st.text("abc:-[]{}&*!|>'\"%@`,?# \n\t\u00e9\x00<~1.") | st.text())
def test_any_text_is_a_document_or_one_line_that_begins_with_the_file(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "replace"))
    try:
        document = yaml_document.load(path)
    except ConfigError as error:
        message = str(error)
    else:
        message = f"{path}: {type(document.data).__name__} of {len(document.places)}"
    assert message.startswith(f"{path}:")
    assert message.isprintable()
