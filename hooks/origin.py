"""Where the runtime comes from: the folder of this template, or the git address it was cloned from.

It reads the template's folder and its ``.git`` as files: git need not be there, nor a network.
"""

import re
from collections.abc import Mapping
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

from jinja2 import Environment
from jinja2.ext import Extension

FOLDER = "runtime"


class Origin(Extension):
    """Offer the filter ``runtime``, which turns cookiecutter's answers into what pip can build."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._start = Path.cwd()  # while rendering, it is the template's folder
        environment.filters["runtime"] = self.runtime

    def runtime(self, answers: Mapping[str, Any]) -> str:
        """Return a folder for a local template, and an address for one from elsewhere."""
        template = str(answers["_template"])
        folder = (self._start / str(answers["_repo_dir"])).resolve()
        if (self._start / template).is_dir():
            return str(folder / FOLDER)
        if template.lower().endswith(".zip"):
            return f"{self._archive(template)}#subdirectory={FOLDER}"
        if not (folder / ".git").is_dir():
            return str(folder / FOLDER)
        revision = answers["_checkout"] or _commit(folder / ".git")
        pin = f"@{revision}" if revision else ""
        return f"git+{_address(folder / '.git')}{pin}#subdirectory={FOLDER}"

    def _archive(self, template: str) -> str:
        return template if "://" in template else (self._start / template).resolve().as_uri()


def _address(git: Path) -> str:
    """Return the URL of ``origin``; pip wants one where git takes ``user@host:path`` too."""
    config = RawConfigParser(strict=False, allow_no_value=True)
    config.read(git / "config", encoding="utf-8")
    url = config.get('remote "origin"', "url")
    return url if "://" in url else re.sub(r"^([^/:]+):", r"ssh://\1/", url)


def _commit(git: Path) -> str | None:
    """Return the commit that is checked out, or None when it is kept in another form."""
    head = (git / "HEAD").read_text().strip()
    name = head.removeprefix("ref: ")
    if name == head:
        return head
    if (git / name).is_file():
        return (git / name).read_text().strip()
    packed = git / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)
