"""The results of a run as a JSON file; independent of how they were measured."""

import os
from pathlib import Path
from typing import Self

import msgspec

from benchmarks.figures import Idle, Instructions, Load


class Machine(msgspec.Struct, frozen=True):
    """The machine of the run; ``memory`` in bytes."""

    processor: str
    cores: int
    memory: int
    system: str
    kernel: str
    python: str
    tools: dict[str, str]


class Entrant(msgspec.Struct, frozen=True):
    """A contender that answered right; ``answers``: the bytes of a whole answer, by case."""

    name: str
    title: str
    kind: str
    folder: str
    command: list[str]
    versions: dict[str, str]
    answers: dict[str, int]


class LeftOut(msgspec.Struct, frozen=True):
    """A contender without figures, and the reason."""

    name: str
    title: str
    reason: str


class Results(msgspec.Struct):
    """A run; it grows while the run goes on."""

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
        """Read a file written by ``write``."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def title(self, name: str) -> str:
        """Return a contender's name for readers."""
        return next((entrant.title for entrant in self.entrants if entrant.name == name), name)

    def leave_out(self, name: str, title: str, reason: str) -> None:
        """Drop the figures of a contender, and record the first reason."""
        self.entrants = [entrant for entrant in self.entrants if entrant.name != name]
        self.instructions = [figure for figure in self.instructions if figure.contender != name]
        self.loads = [load for load in self.loads if load.contender != name]
        self.idle = [figure for figure in self.idle if figure.contender != name]
        if all(left_out.name != name for left_out in self.left_out):
            self.left_out.append(LeftOut(name, title, reason))

    def write(self, path: Path) -> None:
        """Write everything so far; the new file replaces the old one only when it is complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.draft")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        os.replace(draft, path)
