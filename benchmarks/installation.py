"""The virtual environment of a contender's folder, made once for its pinned requirements."""

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
    """Hold where a contender's programs are, and what they make of its command.

    ``here``: they are those of this Python's environment, and nothing is installed.
    """

    def __init__(self, contender: Contender, venvs: Path, *, here: bool = False) -> None:
        self.contender = contender
        self.folder = (venvs / contender.folder.name).resolve()
        self.prepared = self.folder / "prepared" / contender.name
        self._here = here
        self._programs = Path(sys.prefix if here else self.folder) / "bin"
        self._requirements = contender.folder / "requirements.txt"

    def make(self) -> None:
        """Install and prepare, if that was not done; raise InstallationError with pip's words."""
        if self._requirements.exists() and not self._here:
            stamp = self.folder / "installed"
            if not stamp.exists() or stamp.read_text() != self._contents():
                self._install()
                stamp.write_text(self._contents())
        self.prepared.mkdir(parents=True, exist_ok=True)
        for command in self.contender.declaration.prepare:
            # HOME, because a tool may leave notes there.
            home = {**os.environ, "HOME": str(self.folder)}
            _run(self.fill()(command), self.prepared, home)

    def fill(self, port: int = 0) -> Callable[[list[str]], list[str]]:
        """Return what fills in the braces of a declaration's words."""
        values = {
            "bin": self._programs,
            "folder": self.contender.folder,
            "port": port,
            "prepared": self.prepared,
            "root": ROOT,
        }
        return lambda words: [word.format_map(values) for word in words]

    def versions(self) -> dict[str, str]:
        """Return what is installed, by name."""
        if not self._requirements.exists():
            return {}
        packages = json.loads(_run([*self._pip(), "list", "--format=json"], self.prepared))
        return {one["name"]: one["version"] for one in packages}

    def _install(self) -> None:
        venv = [sys.executable, "-m", "venv", "--clear", "--without-pip", str(self.folder)]
        _run(venv, self.contender.folder)
        # In the contender's folder: a path in a requirements file begins at the working directory.
        _run([*self._pip(), "install", "--quiet", "-r", "requirements.txt"], self.contender.folder)

    def _pip(self) -> list[str]:
        """Return the command of our pip, which works on its environment."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        return [*pip, "--python", str(self._programs / "python")]

    def _contents(self) -> str:
        """Return what a finished environment is made of; the runtime is that of this clone."""
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
