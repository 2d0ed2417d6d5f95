"""Projects for pages to include files of, generated before the pages are read, one for each driver.

.. literalinclude:: ../../build/docs/generated/aiopg/hello/hello/container.py
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import ExtensionMetadata

ROOT = Path(__file__).parents[2]
PROJECTS = ROOT / "build" / "docs" / "generated"
DRIVERS = ("aiopg", "asyncpg")


def generate(app: Sphinx, env: BuildEnvironment, pages: list[str]) -> None:
    """Generate the projects."""
    shutil.rmtree(PROJECTS, ignore_errors=True)
    for driver in DRIVERS:
        command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"]
        command += [f"--output-dir={PROJECTS / driver}", str(ROOT), f"database={driver}"]
        environment = os.environ | {"HOME": str(PROJECTS)}  # cookiecutter leaves notes there
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)  # noqa: S603


def setup(app: Sphinx) -> ExtensionMetadata:
    """Generate the projects before the pages are read."""
    app.connect("env-before-read-docs", generate)
    return {"version": "1", "parallel_read_safe": True}
