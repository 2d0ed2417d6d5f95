"""Whatever an operator writes into main.yaml or logging.yaml is settings, or one line about it.

It takes neither long nor much memory. ``make test-long`` tries many more examples than a usual run.
"""

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from gunicorn.config import KNOWN_SETTINGS
from hypothesis import given
from hypothesis import strategies as st

from api_hour.config import logging_yaml, yaml_document
from api_hour.config.loader import Loader
from api_hour.exceptions import ConfigError
from runtime.tests.examples import UNSHRUNK, bounded, count
from runtime.tests.logging_file import FILE

EXAMPLES = count(30)
CPU = 10.0  # seconds of this process for one file; five times what the largest one takes
LENGTH = 20_000  # characters of an error, which may quote the longest fragment
MEMORY = 1_000_000  # KiB; garbage waits for its collection in a process that has much else

FRAGMENTS = [
    *("api_hour:", "listeners:", "http:", "a:", "- ", "  ", "\n", "\n  ", "{", "}", "[", "]", ", "),
    *(": ", "&a ", "*a", "*b", "<<: ", "? ", "| ", ">-\n", "'", '"', "\\", "#", "---\n", "...\n"),
    *("!env ", "!file ", "!env HOME", "!env NOPE", "!env NOPE:x", "!env [a]", "!env {a: b}"),
    *("!file /dev/zero", "!file .", "!file /proc/self/mem", "!file pipe", "!file \\0", "!env ''"),
    *("!!python/object/apply:os.system [exit]", "!!binary x", "!!set {a}", "!!omap [a: b]", "!x y"),
    *("!!int ", "!!float ", "!!timestamp ", "!!bool maybe", "!!null x", "2026-99-99", "1e999"),
    *(
        "9" * 5000,
        "0x" + "f" * 5000,
        "0o17",
        "017",
        "1:30",
        ".nan",
        "-.inf",
        "\0",
        "\ufeff",
        "\x85",
    ),
    *(
        "\ud800",
        "\u202e",
        "\u2028",
        "%YAML 9.9\n",
        "%TAG ! x\n",
        "\t",
        "~",
        "yes",
        "NaN",
        "[" * 3000,
    ),
    *(
        "{a: " * 500,
        "- " * 3000,
        "- &a0 [x]\n" + "".join(f"- &a{n} [{f'*a{n - 1},' * 9}]\n" for n in range(1, 9)),
    ),
]
NAMES = sorted({setting.name for setting in KNOWN_SETTINGS} | {"listeners", "nope"})
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["tcp://127.0.0.1:0", "unix:/x", "udp://[::1]:99999", "auto", "10.0.0.0/8"])
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
SECTION = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)
DOCUMENT = st.fixed_dictionaries(
    {"api_hour": SECTION | VALUES}, optional={"listeners": VALUES, "debug": VALUES}
)
PART = st.dictionaries(
    st.sampled_from(
        ["class", "()", "level", "formatter", "filters", "stream", "filename", "x", "."]
    ),
    st.sampled_from(
        [
            *("logging.StreamHandler", "logging.FileHandler", "logging.Handler", "builtins.dict"),
            *("nope", "nope.Nope", "ext://sys.stderr", "ext://sys", "text", "INFO", "made.log", ""),
            *("logging.handlers.QueueHandler", "logging.handlers.MemoryHandler", "cfg://root"),
        ]
    )
    | VALUES,
    max_size=5,
)
PARTS = st.dictionaries(st.sampled_from(["text", "json", "console", "a.b", ""]), PART | VALUES)
LOGGING = st.fixed_dictionaries(
    {"root": st.fixed_dictionaries({"level": st.just("INFO"), "handlers": st.just(["console"])})},
    optional={
        **dict.fromkeys(["formatters", "filters", "handlers", "loggers"], PARTS | VALUES),
        "version": LEAVES,
    },
)
TEXT = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=12).map("".join)


def dumped(data: Any) -> bytes:
    """Return data as YAML that keeps odd values."""
    return yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "surrogatepass")


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@st.composite
def cut(draw: st.DrawFn) -> bytes:
    """Return a good logging.yaml with a fragment somewhere."""
    place = draw(st.integers(0, len(FILE)))
    fragment = draw(st.sampled_from(FRAGMENTS))
    return encoded(FILE[:place] + fragment + FILE[place + draw(st.integers(0, 20)) :])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder etc/hello of a project, which is the working directory."""
    etc = tmp_path / "etc" / "hello"
    etc.mkdir(parents=True)
    os.mkfifo(etc / "pipe")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["api_hour", "hello:Container"])
    return etc


def try_files(read: Callable[[], object], project: Path, name: str, content: bytes) -> None:
    (project / name).write_bytes(content)
    began = time.process_time()
    try:
        read()
    except ConfigError as error:
        text = str(error)
        assert text.isprintable(), text
        assert text.startswith(f"etc/hello/{name}"), text
        assert len(text) < LENGTH, text
    finally:
        os.chdir(project.parents[1])
    assert time.process_time() - began < CPU


@pytest.mark.parametrize("kind", ["structure", "text", "bytes"])
@pytest.mark.parametrize("name", ["main.yaml", "logging.yaml"])
def test_whatever_is_written_is_settings_or_one_line(project: Path, name: str, kind: str) -> None:
    main = name == "main.yaml"
    contents = {
        "structure": (DOCUMENT if main else LOGGING).map(dumped),
        "text": TEXT.map(encoded) if main else cut(),
        "bytes": st.binary(max_size=200),
    }[kind]

    def read() -> object:
        if kind == "structure" and main:
            return Loader(object)
        document = yaml_document.load(project / name)
        if main:
            return document.split("api_hour")
        if found := logging_yaml.read(document, "hello"):
            logging_yaml.try_out(document, found)
        return found

    @bounded(EXAMPLES, UNSHRUNK)
    @given(contents)
    def check(content: bytes) -> None:
        try_files(read, project, name, content)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + MEMORY
