"""A configuration file in a working directory of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from api_hour.config import loader, yaml_document
from api_hour.config.yaml_document import Document

FILE = "etc/hello/main.yaml"
Load = Callable[[str], Document]


@pytest.fixture(autouse=True)
def not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the warning of root out: these tests are about others, and may run as root."""
    monkeypatch.setattr(loader, "ROOT", -1)


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
