"""The YAML file: plain data, the marks of each key and value, and every error in one line."""

import datetime
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from api_hour.config import yaml_document
from api_hour.config.yaml_document import Document
from api_hour.exceptions import ConfigError

FILE = "etc/hello/main.yaml"
Load = Callable[[str], Document]


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


def test_every_key_and_value_keeps_its_lines(load: Load) -> None:
    document = load("# first\na: 1\nb:\n  c:\n    long\n  d: [x,\n      y]\n")
    assert {keys: (mark.key, mark.value) for keys, mark in document.marks.items()} == {
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
    assert (document.data, document.marks) == ({}, {})
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
    assert not yaml_document.load(Path(__file__) / "main.yaml").marks
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
KNOWN_TAGS = "is not supported here: the tags are !env and !file"
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
    ("a: 1\non: 2\n", 2, "the key on is not text: put it in quotes"),
    ("null: 2\n", 1, "the key null is not text: put it in quotes"),
    ("2.5: 2\n", 1, "the key 2.5 is not text: put it in quotes"),
    ("a: 1\n? [b]\n: 2\n", 2, f"!!seq {KNOWN_TAGS}"),
    ("!env A: 2\n", 1, "a key cannot be !env: only a value can"),
    ("a: &a {b: 1}\nc:\n  <<: *a\n", 3, "merge keys (<<) are not supported: write the keys out"),
    ("a: !secret x\n", 1, f"!secret {KNOWN_TAGS}"),
    (
        "a: !!python/object/apply:os.system [ls]\n",
        1,
        f"!!python/object/apply:os.system {KNOWN_TAGS}",
    ),
    ("a: !!set {b}\n", 1, f"!!set {KNOWN_TAGS}"),
    ("a: !!str {}\n", 1, f"!!str {KNOWN_TAGS}"),
    ("a: !!map x\n", 1, f"!!map {KNOWN_TAGS}"),
    ("a: !!bool maybe\n", 1, "maybe is not a valid bool: put text in quotes"),
    ("a: 2026-99-99\n", 1, "2026-99-99 is not a valid timestamp: put text in quotes"),
    ("a: 0b_\n", 1, "0b_ is not a valid int: put text in quotes"),
    ("0x_: 1\n", 1, "0x_ is not a valid int: put text in quotes"),
    (f"a: {'9' * 5000}\n", 1, f"{'9' * 60} is not a valid int: put text in quotes"),
    ("a: " + "[" * 60 + "]" * 60 + "\n", 1, DEEP),
    ("a: " + "[" * 1_000 + "\n", 1, DEEP),
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
    assert document.marks["c",].key == 3
    assert document.marks["c", "b"].value == 2


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


def test_a_document_shows_no_data_in_its_repr(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    document = load("a: !env SECRET\nb: plain\n")
    assert repr(document) == f"Document(file='{FILE}', section='', split_off=())"
    assert (document.got(("a",)), document.got(("b",))) == ("the value of !env SECRET", "'plain'")


# Splitting


def test_a_section_is_taken_out_with_its_marks(load: Load) -> None:
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


@pytest.mark.parametrize("text", ["", "a: 1\n", "api_hour:\n", "api_hour: {}\n"])
def test_a_section_that_is_missing_or_empty_is_an_empty_document(load: Load, text: str) -> None:
    section, rest = load(text).split("api_hour")
    assert section.data == {}
    assert "api_hour" not in rest.data
    assert str(section.error(("workers",), "wrong")).endswith(": wrong")


@pytest.mark.parametrize(
    ("text", "got"), [("5", "5"), ("[a]", "a list of 1"), ("!env S:x", "the value of !env S")]
)
def test_a_section_that_is_not_a_mapping_is_refused(load: Load, text: str, got: str) -> None:
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
    """A writer of YAML, one key or scalar a line, that knows which line holds what."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.marks: dict[yaml_document.Keys, tuple[int, int]] = {}

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
            self.marks[*keys, key] = (start, line + 1 if scalar else start)


@given(DATA)
def test_every_mark_is_where_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]
) -> None:
    writer = Writer()
    writer.write(data, (), "")
    path = tmp_path_factory.getbasetemp() / "marks.yaml"
    path.write_text("\n".join(writer.lines))
    document = yaml_document.load(path)
    marks = {keys: (mark.key, mark.value) for keys, mark in document.marks.items() if keys}
    assert document.data == data
    assert marks == writer.marks


@given(DATA)
def test_what_pyyaml_writes_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True))
    assert yaml_document.load(path).data == data


@settings(max_examples=3 * settings().max_examples)
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
        message = f"{path}: {type(document.data).__name__} of {len(document.marks)}"
    assert message.startswith(f"{path}:")
    assert message.isprintable()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 030", ":1: 030 is another number in YAML 1.1: put text in quotes, or write a number"),
        ("a: 1:30", ":1: 1:30 is another number in YAML 1.1"),
        (f"a: 1{':00' * 100}.5", "is another number in YAML 1.1"),
        ('a: "\\U00110000"', ":1: "),
        ('a: "\\ud800"', "is not a valid str"),
        ('a: !!int ""', "is not a valid int"),
        ('a: !!float ""', "is not a valid float"),
        ('a: !!int "_"', "_ is not a valid int"),
        ("a: 0x" + "f" * 5000, "is not a valid int"),
    ],
)
def test_a_value_that_yaml_or_python_reads_as_something_else_is_refused(
    load: Load, text: str, expected: str
) -> None:
    assert expected in refused(load, text)


def test_numbers_that_mean_what_they_say_are_kept(load: Load) -> None:
    assert load("a: [0, 0.5, -1, 1_000, 0x1f]").data == {"a": [0, 0.5, -1, 1000, 31]}


def test_a_misspelt_section_is_named_and_other_names_are_left_alone(load: Load) -> None:
    with pytest.raises(ConfigError, match=":1: api-hour is not a section; did you mean api_hour"):
        load("api-hour: {workers: 3}").split("api_hour")
    assert load("api_host: x").split("api_hour")[1].data == {"api_host": "x"}
