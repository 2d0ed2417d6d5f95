"""The loader: the command line wins over Python, which wins over YAML."""

import sys
from pathlib import Path

import pytest

from api_hour.config.loader import Loader


@pytest.mark.parametrize(
    ("yaml", "python", "option", "expected"),
    [
        ("", "", [], (1, 5.0)),
        ("api_hour: {max_surge: 2}", "", [], (2, 5.0)),
        ("api_hour: {max_surge: 2}", "max_surge = 3\ndrain_idle = 1", [], (3, 1.0)),
        ("api_hour: {max_surge: 2}", "max_surge = 3", ["--max-surge", "4"], (4, 5.0)),
    ],
)
def test_the_command_line_wins_over_python_which_wins_over_yaml(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    yaml: str,
    python: str,
    option: list[str],
    expected: tuple[int, float],
) -> None:
    (tmp_path / "main.yaml").write_text(yaml)
    (tmp_path / "gunicorn.conf.py").write_text(python)
    monkeypatch.chdir(tmp_path)  # Gunicorn leaves it, and adds to the path
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(
        sys, "argv", ["api_hour", "hello:Container", f"--config-dir={tmp_path}", *option]
    )
    cfg = Loader(object).cfg
    assert (cfg.max_surge, cfg.drain_idle) == expected
