"""Reads callgrind's output: instructions by library, those of Python itself in two parts."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

BYTECODE, PYTHON, SYSTEM = "Python: bytecode", "Python: all else", "C library and loader"
EVAL = "_PyEval_EvalFrameDefault"  # the interpreter's function that runs bytecode


def read(file: Path) -> Counter[str]:
    """Return the instructions of each part, without those of the functions that it calls."""
    parts: Counter[str] = Counter()
    for library, function, cost in _costs(file):
        parts[_part(library, function)] += cost
    return parts


def _costs(file: Path) -> Iterator[tuple[str, str, int]]:
    """Yield library, function and cost of each line of the file.

    The format compresses names: ``fn=(7) name`` the first time, ``fn=(7)`` from then on. The line
    after ``calls=`` holds the cost of the callee, which has lines of its own.
    """
    names: dict[str, str] = {}
    current = {"ob": "", "fn": ""}
    is_callee = False
    with file.open() as lines:
        for line in lines:
            if match := re.match(r"(c?(?:ob|fn))=(\(\d+\))(?: (.*))?", line):
                kind, number, name = match.groups()
                key = kind[-2:] + number
                names[key] = name or names[key]
                if kind in current:
                    current[kind] = names[key]
            elif line.startswith("calls="):
                is_callee = True
            elif line[:1].isdigit() or line[:1] in "+-*":
                if not is_callee:
                    yield current["ob"], current["fn"], int(line.split()[1])
                is_callee = False


def _part(library: str, function: str) -> str:
    if package := re.search(r"-packages/([^/.]+)", library):
        return package[1]
    if function.startswith(EVAL):
        return BYTECODE
    name = library.rpartition("/")[2]
    return PYTHON if name.startswith(("libpython", "python")) else SYSTEM
