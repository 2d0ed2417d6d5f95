"""Read the pages as Sphinx built them: their blocks in order, and what a reader does with each.

A block is a file to write, commands to type, or a sight to see; nothing here runs anything.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BUILT = ROOT / "build" / "docs"
MAIN = "main"
SHELL = re.compile(r"In (?:a|the) (second|third|fourth) shell")
INTERRUPT = "^C"


@dataclass(frozen=True)
class Block:
    """Hold one literal block of a page."""

    text: str
    language: str
    source: Path | None  # of an included file
    caption: str
    classes: tuple[str, ...]
    line: int

    @property
    def target(self) -> str | None:
        """Return where the reader writes this file, if the caption names a path."""
        return self.caption if self.source and re.fullmatch(r"[\w./-]+", self.caption) else None

    @property
    def shell(self) -> str | None:
        """Return which shell the reader types this in, or None when there is nothing to type."""
        if self.language != "console" or self.source or "not-run" in self.classes:
            return None
        if not self.caption:
            return MAIN
        found = SHELL.fullmatch(self.caption)
        return found[1] if found else None


@dataclass(frozen=True)
class Step:
    """Hold one command and what the page shows below it; without a command it is only awaited."""

    command: str
    shown: str


def names() -> list[str]:
    """Return the name of every page."""
    return sorted(
        str(page.relative_to(DOCS).with_suffix(""))
        for page in DOCS.rglob("*.rst")
        if page.relative_to(DOCS).parts[0] != "tests"
    )


@cache
def built() -> Sphinx:
    """Return what ``make docs`` has built."""
    assert (BUILT / "doctrees").is_dir(), "nothing is built yet: make docs does"
    return Sphinx(DOCS, DOCS, BUILT / "html", BUILT / "doctrees", "html", status=None)


def beginning(page: str) -> str:
    """Return in what folder the reader begins, from the field ``:begin:`` above the title."""
    return str(built().env.metadata[page].get("begin", "empty"))


def blocks(page: str) -> list[Block]:
    """Return every literal block of a page, in order."""
    tree = built().env.get_doctree(page)
    assert not list(tree.findall(nodes.doctest_block)), "write a console block in its place"
    return [_block(node) for node in tree.findall(nodes.literal_block)]


def steps(text: str) -> Iterator[Step]:
    """Split the text of a console block into its commands."""
    command, shown = "", list[str]()
    for line in text.splitlines():
        if command.endswith("\\"):
            command += "\n" + line.removeprefix("> ")
        elif line.startswith("$ ") or line == INTERRUPT:
            if command or shown:
                yield Step(command, "\n".join(shown))
            command, shown = line.removeprefix("$ "), []
        else:
            shown.append(line)
    yield Step(command, "\n".join(shown))


def agrees(shown: str, said: str, start: int = 0) -> int | None:
    """Return where ``said`` has what is shown, or None; a line of ``...`` is any number of lines.

    Other ``...`` stand for anything within a line.
    """
    found = _pattern(shown).search(said, start)
    return found.end() if found else None


def is_all(shown: str, said: str) -> bool:
    """Say whether what is shown is all that was said."""
    return _pattern(shown).fullmatch(said) is not None


def _pattern(shown: str) -> re.Pattern[str]:
    lines = [r"(?:.*\n)*?" if line.strip() == "..." else _line(line) for line in shown.splitlines()]
    return re.compile("^" + "".join(lines), re.MULTILINE)


def _line(line: str) -> str:
    return ".*".join(map(re.escape, line.rstrip().split("..."))) + r"[ \t]*\n"


def _block(node: nodes.literal_block) -> Block:
    wrapped = isinstance(node.parent, nodes.container) and isinstance(node.parent[0], nodes.caption)
    caption = node.parent[0].astext() if wrapped else ""
    source = node.get("source")
    return Block(
        text=node.astext(),
        language=node.get("language", "none"),
        source=Path(source).resolve() if source else None,
        caption=caption,
        classes=tuple(node["classes"]),
        line=node.line or 0,
    )
