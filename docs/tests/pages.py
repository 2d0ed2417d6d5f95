"""The pages as Sphinx built them: their blocks in order, and what a reader does with each.

A block is a file to write, commands to type, or text to look at. This module runs nothing.
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
    """A literal block of a page."""

    text: str
    language: str
    source: Path | None  # of an included file
    caption: str
    classes: tuple[str, ...]
    line: int

    @property
    def target(self) -> str | None:
        """Return the path to which the reader writes this file, if the caption is a path."""
        return self.caption if self.source and re.fullmatch(r"[\w./-]+", self.caption) else None

    @property
    def shell(self) -> str | None:
        """Return the shell into which the reader types this; None if there is nothing to type."""
        if self.language != "console" or self.source or "not-run" in self.classes:
            return None
        if not self.caption:
            return MAIN
        found = SHELL.fullmatch(self.caption)
        return found[1] if found else None


@dataclass(frozen=True)
class Step:
    """A command and the output that the page shows; without a command, output to wait for."""

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
    assert (BUILT / "doctrees").is_dir(), "the pages are not built: run make docs"
    return Sphinx(DOCS, DOCS, BUILT / "html", BUILT / "doctrees", "html", status=None)


def beginning(page: str) -> str:
    """Return the kind of folder in which the reader begins: the field ``:begin:`` of the page."""
    return str(built().env.metadata[page].get("begin", "empty"))


def blocks(page: str) -> list[Block]:
    """Return every literal block of a page, in order."""
    tree = built().env.get_doctree(page)
    assert not list(tree.findall(nodes.doctest_block)), "write a console block instead"
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


def end_of_match(shown: str, output: str, start: int = 0) -> int | None:
    """Return where the shown text ends in ``output``; None if it is not there.

    A line of ``...`` matches any number of lines, another ``...`` anything within a line.
    """
    found = _pattern(shown).search(output, start)
    return found.end() if found else None


def is_whole_output(shown: str, output: str) -> bool:
    """Tell whether the shown text is the whole output."""
    return _pattern(shown).fullmatch(output) is not None


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
