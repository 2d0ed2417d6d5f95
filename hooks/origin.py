"""The origin of a project, which is its template, commit and answers, and that of its runtime.

The template's folder and its ``.git`` are read as files: neither git nor a network is needed. What
is written ends up in committed files, so no address keeps a token or a password.
"""

import json
import re
from collections.abc import Mapping
from configparser import RawConfigParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from jinja2 import Environment
from jinja2.ext import Extension

FOLDER = "runtime"


class Origin(Extension):
    """Two filters for cookiecutter's answers: ``runtime``, which pip can build, and ``origin``.

    An update renders from a clone; the answer ``_origin`` then names the cloned repository.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._start = Path.cwd()  # while rendering, it is the template's folder
        environment.filters |= {"runtime": self.runtime, "origin": self.origin}

    def runtime(self, answers: Mapping[str, Any]) -> str:
        """Return the folder of a local template's runtime, or the address of a remote one's."""
        template, commit = self._template(answers), self._commit(answers)
        if template.lower().endswith(".zip"):
            return f"{template}#subdirectory={FOLDER}"
        if Path(template).is_dir():
            return str(Path(template, FOLDER))
        pin = f"@{commit}" if commit else ""
        return f"git+{template}{pin}#subdirectory={FOLDER}"

    def origin(self, answers: Mapping[str, Any]) -> str:
        """Return as JSON everything that an update needs."""
        answers_given = {name: value for name, value in answers.items() if not name.startswith("_")}
        source = {"template": self._template(answers), "commit": self._commit(answers)}
        return json.dumps({**source, "answers": answers_given}, indent=2, ensure_ascii=False)

    def _template(self, answers: Mapping[str, Any]) -> str:
        """Return an absolute path, or an address in full but without its secrets."""
        return without_secrets(self._place(answers))

    def _place(self, answers: Mapping[str, Any]) -> str:
        template = str(answers["_origin"] or answers["_template"])
        if (self._start / template).is_dir():
            return str((self._start / template).resolve())
        if template.lower().endswith(".zip"):
            return template if "://" in template else (self._start / template).resolve().as_uri()
        folder = self._folder(answers)
        return _address(folder / ".git") if (folder / ".git").is_dir() else str(folder)

    def _commit(self, answers: Mapping[str, Any]) -> str | None:
        """Return the commit, or else the requested checkout, which may be a branch."""
        git = self._folder(answers) / ".git"
        return (_commit(git) if git.is_dir() else None) or answers["_checkout"]

    def _folder(self, answers: Mapping[str, Any]) -> Path:
        return (self._start / str(answers["_repo_dir"])).resolve()


def without_secrets(address: str) -> str:
    """Return a URL without its password, query and, unless it is ssh's, user: that may be a token.

    Anything that is not a URL is returned as it is.
    """
    if "://" not in address:
        return address
    parts = urlsplit(address)
    login, _, host = parts.netloc.rpartition("@")
    if parts.scheme.endswith("ssh") and login:
        host = f"{login.partition(':')[0]}@{host}"
    return urlunsplit(parts._replace(netloc=host, query=""))


def _address(git: Path) -> str:
    """Return the URL of ``origin``; git also accepts ``user@host:path``, but pip needs a URL."""
    config = RawConfigParser(strict=False, allow_no_value=True)
    config.read(git / "config", encoding="utf-8")
    url = config.get('remote "origin"', "url")
    return url if "://" in url else re.sub(r"^([^/:]+):", r"ssh://\1/", url)


def _commit(git: Path) -> str | None:
    """Return the commit that is checked out, or None if it is stored in another form."""
    head = (git / "HEAD").read_text().strip()
    name = head.removeprefix("ref: ")
    if name == head:
        return head
    if (git / name).is_file():
        return (git / name).read_text().strip()
    packed = git / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)
