"""The results of one run, as they are kept in a JSON file; knows nothing of how they came about."""

import os
from pathlib import Path
from typing import Self

import msgspec

from benchmarks.figures import Idle, Instructions, Load


class Machine(msgspec.Struct, frozen=True):
    """Hold where the run took place; ``memory`` in bytes."""

    processor: str
    cores: int
    memory: int
    system: str
    kernel: str
    python: str
    tools: dict[str, str]


class Entrant(msgspec.Struct, frozen=True):
    """Hold a contender that answered right; ``answers``: the bytes of a whole one, by case."""

    name: str
    title: str
    kind: str
    folder: str
    command: list[str]
    versions: dict[str, str]
    answers: dict[str, int]


class LeftOut(msgspec.Struct, frozen=True):
    """Hold a contender without figures, and why."""

    name: str
    title: str
    reason: str


class Results(msgspec.Struct):
    """Hold one run; it grows while the run goes on."""

    date: str
    command: str
    commit: str
    machine: Machine
    entrants: list[Entrant] = []
    left_out: list[LeftOut] = []
    instructions: list[Instructions] = []
    loads: list[Load] = []
    idle: list[Idle] = []

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that ``write`` wrote."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def title(self, name: str) -> str:
        """Return a contender's name for readers."""
        return next((one.title for one in self.entrants if one.name == name), name)

    def leave_out(self, name: str, title: str, reason: str) -> None:
        """Forget the figures of a contender, and keep why."""
        self.entrants = [one for one in self.entrants if one.name != name]
        self.instructions = [one for one in self.instructions if one.contender != name]
        self.loads = [one for one in self.loads if one.contender != name]
        self.idle = [one for one in self.idle if one.contender != name]
        if all(one.name != name for one in self.left_out):
            self.left_out.append(LeftOut(name, title, reason))

    def write(self, path: Path) -> None:
        """Write everything so far; an older file is there until the new one is whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.draft")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        os.replace(draft, path)
