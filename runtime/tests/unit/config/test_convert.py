"""convert(): a document becomes the declared settings, and every error is one line."""

import copy
import datetime
import enum
import os
import re
from collections.abc import Callable
from dataclasses import make_dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypedDict

import msgspec
import pytest

from api_hour.config import convert, yaml_document
from api_hour.config.yaml_document import Document
from api_hour.exceptions import ConfigError

FILE = "etc/hello/main.yaml"
Load = Callable[[str], Document]


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
        "PG.since must be a date, such as 2026-01-31, got 'x'",
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
    ("pair: [a]", 1, "pair must be a list of 2 items, got a list of 1"),
    ("pair: [a, b]", 1, "pair[1] must be an integer, got 'b'"),
    ("names: [a]", 1, "names must be a list of at least 2 items, got a list of 1"),
    ("ports:\n  80: a\n  b: c", 3, "the key ports.b must be an integer"),
    ("ports:\n  80: a\n  81: 5", 3, "ports[81] must be a string, got 5"),
    ("limits:\n  a: 1\n  b.c: x\n  d: y", 3, "limits.b.c must be an integer, got 'x'"),
    ("quotas: {a: 1}", 1, "quotas must be a mapping of at least 2 keys, got a mapping of 1"),
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
    document = load("ap_hr: {}\n")
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


def test_a_section_is_converted_under_its_full_name(load: Load) -> None:
    section, _ = load("engines:\n  postgresql: {port: x}\n").split("engines")
    with pytest.raises(ConfigError, match=f"^{FILE}:2: engines.postgresql.port must be an integer"):
        convert.convert(section, Engines)


class Careless(msgspec.Struct):
    name: str

    def __post_init__(self) -> None:
        os.environ[f"no such variable: {self.name}"]


def test_a_check_of_the_project_that_fails_itself_is_named_with_the_file(load: Load) -> None:
    assert unconverted(load, "name: x", Careless).endswith("KeyError: 'no such variable: x'")


class Plain:
    """Neither a Struct nor a dataclass."""


class Typed(TypedDict):
    """Has no key."""


class Unknown(msgspec.Struct):
    """Has an annotation that names nothing."""

    port: "Nowhere"  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize(
    ("declared", "rule"),
    [
        (Plain, "settings cannot be <class '.*Plain'>: write a class that extends msgspec.Struct"),
        (int, "settings cannot be <class 'int'>: write a class"),
        ({"port": 1}, "settings cannot be {'port': 1}: write a class"),
        (Unknown, "an annotation of settings: NameError: name 'Nowhere' is not defined"),
    ],
)
def test_settings_of_a_wrong_kind_are_refused(declared: object, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"^hello:Container: {rule}"):
        convert.refuse_unreadable(declared, "hello:Container")


def test_what_a_mapping_can_be_read_as_is_not_refused() -> None:
    for declared in (dict, Typed, make_dataclass("Data", []), msgspec.Struct):
        convert.refuse_unreadable(declared, "hello:Container")
