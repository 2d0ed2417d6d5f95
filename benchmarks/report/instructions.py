"""The figures of callgrind as reStructuredText: instructions a request."""

from collections.abc import Iterator

from benchmarks.case import CASES, SHAPES
from benchmarks.figures import Instructions
from benchmarks.report.table import NONE, heading, table
from benchmarks.results import Results

REFERENCE = "aiohttp"  # what ratios refer to
SIMPLEST = "index"
PROFILED = ("parser", "api-hour", "aiohttp")
LEAST = 50  # instructions of a part that is told
OURS, THEIRS = "shapes-api-hour", "shapes-aiohttp"


def instructions(results: Results) -> Iterator[str]:
    """Say what each contender needs for each case."""
    figures = {(one.contender, one.case): one.each for one in results.instructions}
    cases = [case for case in CASES if any(key[1] == case for key in figures)]
    named = [one for one in results.entrants if any((one.name, case) in figures for case in cases)]
    if not named:
        return
    named.sort(key=lambda one: [figures.get((one.name, case), 1e12) for case in cases])
    yield heading("Instructions")
    yield (
        "Thousands of user-space instructions a request, counted by callgrind, and how many times"
        f" those of {results.title(REFERENCE)} they are. Flask and Django have Gunicorn's parser"
        " in Python here: valgrind cannot run the one in C."
    )
    rows = [
        [
            one.title,
            *(
                _counted(figures.get((one.name, case)), figures.get((REFERENCE, case)))
                for case in cases
            ),
        ]
        for one in named
    ]
    yield table(["Contender", *cases], rows)
    yield "\n".join(f"* {case}: {CASES[case].title}" for case in cases)


def profile(results: Results) -> Iterator[str]:
    """Say in which libraries the instructions of the simplest case are."""
    figures = {one.contender: one for one in results.instructions if one.case == SIMPLEST}
    counted = [figures[name] for name in PROFILED if name in figures and figures[name].parts]
    if not counted:
        return
    parts = sorted({part for one in counted for part in one.parts})
    parts.sort(key=lambda part: -sum(one.parts.get(part, 0) for one in counted))
    yield heading("Where they go")
    yield f"Thousands of instructions of {CASES[SIMPLEST].title}, by library and part of Python."
    rows = [[part, *(_share(one, part) for one in counted)] for part in parts]
    rows = [row for row in rows if any(row[1:])]
    rows.append(["all", *(f"{one.each / 1000:.1f}" for one in counted)])
    yield table(["Part", *(results.title(one.contender) for one in counted)], rows)


def _share(figure: Instructions, part: str) -> str:
    each = figure.parts.get(part, 0) / (2 * figure.requests)
    return f"{each / 1000:.1f}" if each >= LEAST else NONE


def _counted(each: float | None, reference: float | None) -> str:
    if each is None:
        return NONE
    return f"{each / 1000:.1f}" + (f" ({each / reference:.2f})" if reference else "")


def shapes(results: Results) -> Iterator[str]:
    """Compare API-Hour with aiohttp in what is no plain JSON."""
    figures = {(one.contender, one.case): one.each for one in results.instructions}
    cases = [case for case in SHAPES if (OURS, case) in figures and (THEIRS, case) in figures]
    if not cases:
        return
    yield heading("What else an aiohttp application does")
    yield "Thousands of user-space instructions a request."
    rows = []
    for case in cases:
        ours, theirs = figures[OURS, case], figures[THEIRS, case]
        thousands = (f"{ours / 1000:.1f}", f"{theirs / 1000:.1f}")
        rows.append([SHAPES[case].title, *thousands, f"{ours / theirs:.2f}"])
    yield table(["Case", "API-Hour", "aiohttp", "ratio"], rows)
