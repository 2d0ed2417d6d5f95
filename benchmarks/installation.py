"""The virtual environment of a contender's folder, created once for its pinned requirements."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.contender import Contender

ROOT = Path(__file__).parent.parent


class InstallationError(Exception):
    """A contender cannot be installed here."""


class Installation:
    """Where a contender's programs are installed, and its commands with their paths filled in.

    ``here``: use those of this Python's environment and install nothing.
    """

    def __init__(self, contender: Contender, venvs: Path, *, here: bool = False) -> None:
        self.contender = contender
        self.folder = (venvs / contender.folder.name).resolve()
        self.prepared = self.folder / "prepared" / contender.name
        self._here = here
        self._programs = Path(sys.prefix if here else self.folder) / "bin"
        self._requirements = contender.folder / "requirements.txt"

    def make(self) -> None:
        """Install and prepare what is not ready; raise InstallationError with pip's last lines."""
        if self._requirements.exists() and not self._here:
            stamp = self.folder / "installed"
            if not stamp.exists() or stamp.read_text() != self._contents():
                self._install()
                stamp.write_text(self._contents())
        self.prepared.mkdir(parents=True, exist_ok=True)
        for command in self.contender.declaration.prepare:
            # A HOME of its own: cookiecutter, say, writes there.
            home = {**os.environ, "HOME": str(self.folder)}
            _run(self.fill()(command), self.prepared, home)

    def fill(self, port: int = 0) -> Callable[[list[str]], list[str]]:
        """Return a function that replaces the {placeholders} in a declaration's words."""
        values = {
            "bin": self._programs,
            "folder": self.contender.folder,
            "port": port,
            "prepared": self.prepared,
            "root": ROOT,
        }
        return lambda words: [word.format_map(values) for word in words]

    def versions(self) -> dict[str, str]:
        """Return the versions of the installed packages by name."""
        if not self._requirements.exists():
            return {}
        packages = json.loads(_run([*self._pip(), "list", "--format=json"], self.prepared))
        return {package["name"]: package["version"] for package in packages}

    def _install(self) -> None:
        venv = [sys.executable, "-m", "venv", "--clear", "--without-pip", str(self.folder)]
        _run(venv, self.contender.folder)
        # In the contender's folder: pip resolves the paths in its file from the working directory.
        _run([*self._pip(), "install", "--quiet", "-r", "requirements.txt"], self.contender.folder)

    def _pip(self) -> list[str]:
        """Return the command that runs this Python's pip on the contender's environment."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        return [*pip, "--python", str(self._programs / "python")]

    def _contents(self) -> str:
        """Return what the environment depends on: this Python, and the requirements."""
        requirements = self._requirements.read_text().replace("../../..", str(ROOT))
        return f"# Python {sys.version}\n{requirements}"


def _run(command: list[str], directory: Path, environment: Mapping[str, str] = os.environ) -> str:
    result = subprocess.run(  # noqa: S603
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines()
        raise InstallationError(f"{Path(command[0]).name}: {' '.join(lines[-3:])}")
    return result.stdout
