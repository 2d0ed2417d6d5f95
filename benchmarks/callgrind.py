"""What callgrind's file says of each part of a process: libraries by their name, Python in two."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

BYTECODE, PYTHON, SYSTEM = "Python: bytecode", "Python: all else", "C library and loader"
LOOP = "_PyEval_EvalFrameDefault"  # the function of the interpreter that runs bytecode


def parts(file: Path) -> Counter[str]:
    """Return the instructions of each part; what a function calls counts for the callee."""
    found: Counter[str] = Counter()
    for library, function, cost in _costs(file):
        found[_part(library, function)] += cost
    return found


def _costs(file: Path) -> Iterator[tuple[str, str, int]]:
    """Yield library, function and cost; a name stands in the file once, and then its number."""
    names: dict[str, str] = {}
    now = {"ob": "", "fn": ""}
    of_callee = False
    with file.open() as lines:
        for line in lines:
            if match := re.match(r"(c?(?:ob|fn))=(\(\d+\))(?: (.*))?", line):
                kind, number, name = match.groups()
                key = kind[-2:] + number
                names[key] = name or names[key]
                if kind in now:
                    now[kind] = names[key]
            elif line.startswith("calls="):
                of_callee = True
            elif line[:1].isdigit() or line[:1] in "+-*":
                if not of_callee:
                    yield now["ob"], now["fn"], int(line.split()[1])
                of_callee = False


def _part(library: str, function: str) -> str:
    if package := re.search(r"-packages/([^/.]+)", library):
        return package[1]
    if function.startswith(LOOP):
        return BYTECODE
    name = library.rpartition("/")[2]
    return PYTHON if name.startswith(("libpython", "python")) else SYSTEM
