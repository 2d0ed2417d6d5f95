"""Nothing says to install the runtime from an index: none has it, so it would be a stranger's."""

import re

import pytest

from testkit.projects import ROOT, git

NAME = r"api[-_. ]?hour(?:[-_.]?runtime)?"
INSTALLER = (
    r"(?:(?:pip3?|uv|pipx|poetry|pdm|hatch|conda)\b[^\n|&;,]*"
    r"\b(?:install|add|download|wheel|run|with)\b|uvx|easy_install)"
)
# The name is neither a part of a path or URL, nor followed by `@ URL`.
FROM_INDEX = re.compile(
    rf"{INSTALLER}[^\n|&;,]*[\s\"'`]{NAME}(?![\w/.*:-])(?:\[[^]\n]*\])?+(?! *@ *[\w+]+:)[^\n]*",
    re.IGNORECASE,
)
REQUIRED = re.compile(rf"^{NAME}(?![\w/.:-])(?:\[.*\])?+(?! *@)", re.IGNORECASE | re.MULTILINE)


def joined(text: str) -> str:
    """Return a text with its continued lines in one."""
    return re.sub(r"\\\n\s*(?:>\s)?", " ", text)


def test_nothing_names_an_install_of_the_runtime_from_an_index() -> None:
    found = []
    for name in git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        path = ROOT / name.strip('"')
        if path.is_file() and path.suffix not in {".svg", ".png"} and name != "tests/test_names.py":
            text = joined(path.read_text())
            found += [f"{name}: {line[0]}" for line in FROM_INDEX.finditer(text)]
            if "requirements" in path.name:
                found += [f"{name}: {line[0]}" for line in REQUIRED.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "pip install api-hour-runtime",
        'pip install "cookiecutter>=2.6" api_hour_runtime==1.0.0',
        '$ .venv/bin/pip install --quiet "api_hour_runtime[watch]>=1"',
        "python -m pip install \\\n    'api-hour-runtime[aiopg,metrics]'",
        "message: pip install `api-hour` first",
        "uv add api-hour-runtime",
        "uv pip install api.hour.runtime>1.0",
        "pipx run api_hour",
        "uvx api-hour-runtime",
        "pip download API-Hour-Runtime",
    ],
)
def test_an_install_from_an_index_is_found(line: str) -> None:
    assert FROM_INDEX.search(joined(line))


@pytest.mark.parametrize(
    "line",
    [
        'pip install "api-hour-runtime[watch] @ git+https://example.org/x.git#a=b"',
        "pip install ./runtime",
        "pip install wheels/api_hour_runtime-*.whl --editable '.[dev]'",
        "pip install git+https://example.org/api-hour.git",
        "pip install redis, then api_hour visits:Container in this folder",
        "pip install uvicorn; api_hour launcher:Container",
    ],
)
def test_another_install_is_allowed(line: str) -> None:
    assert not FROM_INDEX.search(joined(line))
