"""The loader: what overrides what, and a reload that changes nothing until it is proved."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from api_hour.config.loader import Loader
from api_hour.exceptions import ConfigError

Load = Callable[..., Loader]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return a function that loads files of etc/hello, given by name, and options."""
    monkeypatch.chdir(tmp_path)  # Gunicorn changes the working directory and the path
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write_and_load(*options: str, yaml: str = "", python: str = "") -> Loader:
        (tmp_path / "main.yaml").write_text(yaml)
        (tmp_path / "gunicorn.conf.py").write_text(python)
        command = ["api_hour", "hello:Container", "--config-dir", str(tmp_path), *options]
        monkeypatch.setattr(sys, "argv", command)
        return Loader(object)

    return write_and_load


@pytest.mark.parametrize(
    ("yaml", "python", "options", "expected"),
    [
        ("", "", [], (1, 5.0)),
        ("api_hour: {max_surge: 2}", "", [], (2, 5.0)),
        ("api_hour: {max_surge: 2}", "max_surge = 3\ndrain_idle = 1", [], (3, 1.0)),
        ("api_hour: {max_surge: 2}", "max_surge = 3", ["--max-surge", "4"], (4, 5.0)),
    ],
)
def test_the_command_line_wins_over_python_which_wins_over_yaml(
    load: Load, yaml: str, python: str, options: list[str], expected: tuple[int, float]
) -> None:
    cfg = load(*options, yaml=yaml, python=python).cfg
    assert (cfg.max_surge, cfg.drain_idle) == expected


def test_the_next_generation_is_read_and_the_current_one_stays_in_force(
    load: Load, tmp_path: Path
) -> None:
    loader = load(yaml="api_hour: {max_surge: 2}")
    current = loader.generation
    (tmp_path / "main.yaml").write_text("api_hour: {max_surge: 3}")
    following = loader.next_generation(current)
    assert (current.cfg.max_surge, following.cfg.max_surge) == (2, 3)
    assert loader.generation is current
    assert loader.cfg is current.cfg


def test_a_generation_with_other_listeners_is_refused(load: Load, tmp_path: Path) -> None:
    loader = load()
    current = loader.generation
    (tmp_path / "main.yaml").write_text("api_hour: {listeners: {http: 'tcp://127.0.0.1:1'}}")
    with pytest.raises(ConfigError, match=r"^listeners cannot change at a reload: restart the"):
        loader.next_generation(current)
    assert loader.generation is current
