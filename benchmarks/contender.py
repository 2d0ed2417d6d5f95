"""The contenders: each folder's contender.toml has one table for each way to start it."""

import dataclasses
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks.case import ALL, Case

FOLDER = Path(__file__).parent / "contenders"
OURS = "api_hour"


class Declaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of a contender.toml.

    ``command``, ``prepare``, ``directory`` and ``environment`` may contain {bin} (the programs of
    the virtual environment), {port}, {folder}, {prepared} (a folder for what ``prepare`` makes) and
    {root} (this repository). ``paths`` overrides the path of a case, ``stop`` is the signal that
    stops it.
    """

    title: str
    kind: Literal["framework", "bare", "floor", "shapes"] = "framework"
    command: list[str]
    cases: list[str]
    prepare: list[list[str]] = []
    directory: str = ""
    environment: dict[str, str] = {}
    programs: list[str] = []
    paths: dict[str, str] = {}
    database: bool = False
    stop: str = "TERM"


@dataclasses.dataclass(frozen=True)
class Contender:
    """A contender: its name, its folder and its declaration."""

    name: str
    folder: Path
    declaration: Declaration

    @property
    def title(self) -> str:
        """Its name for readers."""
        return self.declaration.title

    @property
    def needs_database(self) -> bool:
        """Whether it needs PostgreSQL to start."""
        return self.declaration.database or any(case.database for case in self.cases.values())

    @property
    def cases(self) -> Mapping[str, Case]:
        """The cases that it takes part in, by name."""
        return {name: self._case(name) for name in self.declaration.cases}

    def _case(self, name: str) -> Case:
        path = self.declaration.paths.get(name, ALL[name].path)
        return dataclasses.replace(ALL[name], path=path)

    @property
    def missing(self) -> list[str]:
        """The programs that it needs and this machine does not have."""
        return [name for name in self.declaration.programs if program(name) is None]


def program(name: str) -> str | None:
    """Return the path of a program; Debian keeps some in folders that a user's PATH lacks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def discover(folder: Path = FOLDER) -> dict[str, Contender]:
    """Return every contender below ``folder`` by name, ours first."""
    found = {}
    for file in sorted(folder.glob("*/contender.toml"), key=lambda file: (_rank(file), file)):
        tables = msgspec.toml.decode(file.read_bytes(), type=dict[str, Declaration])
        for name, declaration in tables.items():
            found[name] = Contender(name, file.parent, declaration)
    return found


def _rank(file: Path) -> int:
    return 0 if file.parent.name == OURS else 1


def select(contenders: Mapping[str, Contender], names: Iterable[str]) -> list[Contender]:
    """Return the named contenders, or all; raise LookupError if a name is unknown."""
    wanted = list(names) or list(contenders)
    for name in wanted:
        if name not in contenders:
            raise LookupError(f"no contender is named {name!r}: there are {', '.join(contenders)}")
    return [contenders[name] for name in wanted]
