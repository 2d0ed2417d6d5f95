"""Look for the phrases of ``words.toml`` in every tracked text: ``python -m style [FILE...]``.

In Python only comments and strings are read, elsewhere every line. A finding is one line: the file,
the line number, the phrase, and what to write instead. The exit code is 1 if there is one.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

WORDS = tomllib.loads(Path(__file__).with_name("words.toml").read_text())
PHRASES = {
    re.compile(phrase["pattern"].replace(" ", r"\s+"), re.IGNORECASE): phrase["instead"]
    for phrase in WORDS["phrase"]
}
VERBS = set(WORDS["verbs"])
SUFFIXES = {".conf", ".py", ".rst", ".service", ".sh", ".socket", ".sql", ".toml", ".yaml", ".yml"}
NAMES = {"Dockerfile", "Makefile"}
SKIPPED = ("docs/", "style/", "benchmarks/contenders/")

Finding = tuple[int, str, str]  # line number, what was found, what to write instead


def main(names: list[str]) -> int:
    """Print the findings in the files ``names``, or in every tracked one; return the exit code."""
    found = 0
    for file in map(Path, names) if names else tracked():
        source = file.read_text(encoding="utf-8")
        for number, wrong, instead in findings(source, python=file.suffix == ".py"):
            print(f"{file}:{number}: {wrong!r}: {instead}")
            found += 1
    return 1 if found else 0


def tracked() -> Iterator[Path]:
    """Yield the files of the repository that people read."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    for name in filter(None, listed.stdout.split("\0")):
        file = Path(name)
        is_text = file.suffix in SUFFIXES or file.name in NAMES
        if is_text and file.is_file() and not name.startswith(SKIPPED):
            yield file


def findings(source: str, *, python: bool) -> Iterator[Finding]:
    """Yield what a native engineer would write in another way."""
    for start, text in _strings(source) if python else [(1, source)]:
        for pattern, instead in PHRASES.items():
            for match in pattern.finditer(text):
                yield start + text.count("\n", 0, match.start()), match[0], f"write {instead}"
    if python:
        yield from _imperative_classes(source)


def _strings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments and strings of a Python file, each with its first line."""
    kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    for token in _tokens(source):
        if token.type in kinds:
            yield token.start[0], token.string


def _tokens(source: str) -> Iterator[tokenize.TokenInfo]:
    try:
        yield from tokenize.generate_tokens(io.StringIO(source).readline)
    except (tokenize.TokenError, SyntaxError):  # the template's tags are not Python
        return


def _imperative_classes(source: str) -> Iterator[Finding]:
    """Yield each class that is described by a verb, as only a function should be."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and (docstring := ast.get_docstring(node)):
            verb = docstring.split()[0]
            if verb in VERBS:
                yield node.lineno, f"{node.name}: {verb} ...", "describe a class by a noun"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
