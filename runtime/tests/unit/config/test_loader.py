"""The loader: what overrides what."""

import subprocess
import sys
from pathlib import Path

import pytest

SHOW = """\
import sys
from api_hour.config.loader import Loader
sys.argv = ["api_hour", *sys.argv[1:]]
cfg = Loader(object).cfg
print(cfg.max_surge, cfg.drain_idle)
"""


@pytest.mark.parametrize(
    ("yaml", "python", "option", "expected"),
    [
        ("", "", [], "1 5.0"),
        ("api_hour: {max_surge: 2}", "", [], "2 5.0"),
        ("api_hour: {max_surge: 2}", "max_surge = 3\ndrain_idle = 1", [], "3 1.0"),
        ("api_hour: {max_surge: 2}", "max_surge = 3", ["--max-surge", "4"], "4 5.0"),
    ],
)
def test_the_command_line_wins_over_python_which_wins_over_yaml(
    project: Path, yaml: str, python: str, option: list[str], expected: str
) -> None:
    (project / "etc" / "hello").mkdir(parents=True)
    (project / "etc" / "hello" / "main.yaml").write_text(yaml)
    (project / "etc" / "hello" / "gunicorn.conf.py").write_text(python)
    command = [sys.executable, "-c", SHOW, "hello:Container", *option]
    ended = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == expected
