"""Instructions per request as reStructuredText."""

import math
from collections.abc import Iterator

from benchmarks.case import CASES, SHAPES
from benchmarks.figures import Instructions
from benchmarks.report.table import NONE, heading, table
from benchmarks.results import Entrant, Results

REFERENCE = "aiohttp"  # what ratios refer to
SIMPLEST = "index"
PROFILED = ("parser", "api-hour", "aiohttp")
MIN_SHOWN = 50  # instructions; a smaller part is left blank
OURS, THEIRS = "shapes-api-hour", "shapes-aiohttp"
PARSER = "Gunicorn's parser in Python here, because valgrind cannot run the one in C."
PARSED = {"flask": "Flask", "django": "Django", "django-ninja": "Django Ninja"}  # by that parser


def instructions(results: Results) -> Iterator[str]:
    """Yield the instructions of each contender in each case."""
    figures = {
        (figure.contender, figure.case): figure.per_request for figure in results.instructions
    }
    cases = [case for case in CASES if any(key[1] == case for key in figures)]
    entrants = [
        entrant
        for entrant in results.entrants
        if any((entrant.name, case) in figures for case in cases)
    ]
    if not entrants:
        return
    entrants.sort(
        key=lambda entrant: [figures.get((entrant.name, case), math.inf) for case in cases]
    )
    yield heading("Instructions")
    yield (
        "Thousands of user-space instructions per request, counted by callgrind; in brackets, their"
        f" ratio to those of {results.title(REFERENCE)}.{_parser(entrants)}"
    )
    rows = [
        [
            entrant.title,
            *(
                _with_ratio(figures.get((entrant.name, case)), figures.get((REFERENCE, case)))
                for case in cases
            ),
        ]
        for entrant in entrants
    ]
    yield table(["Contender", *cases], rows)
    yield "\n".join(f"* {case}: {CASES[case].title}" for case in cases)


def _parser(entrants: list[Entrant]) -> str:
    """Return the sentence about the contenders that cannot use Gunicorn's parser in C."""
    names = {entrant.name for entrant in entrants}
    titles = [title for name, title in PARSED.items() if name in names]
    use = "uses" if len(titles) == 1 else "use"
    return f" {' and '.join(titles)} {use} {PARSER}" if titles else ""


def profile(results: Results) -> Iterator[str]:
    """Yield the instructions of the simplest case by library."""
    figures = {
        figure.contender: figure for figure in results.instructions if figure.case == SIMPLEST
    }
    counted = [figures[name] for name in PROFILED if name in figures and figures[name].parts]
    if not counted:
        return
    parts = sorted({part for figure in counted for part in figure.parts})
    parts.sort(key=lambda part: -sum(figure.parts.get(part, 0) for figure in counted))
    yield heading("Instructions by library")
    title = CASES[SIMPLEST].title
    yield f"{title}: thousands of instructions per request, by library and part of Python."
    rows = [[part, *(_share(figure, part) for figure in counted)] for part in parts]
    rows = [row for row in rows if any(row[1:])]
    rows.append(["all", *(f"{figure.per_request / 1000:.1f}" for figure in counted)])
    yield table(["Part", *(results.title(figure.contender) for figure in counted)], rows)


def _share(figure: Instructions, part: str) -> str:
    per_request = figure.parts.get(part, 0) / (2 * figure.requests)
    return f"{per_request / 1000:.1f}" if per_request >= MIN_SHOWN else NONE


def _with_ratio(figure: float | None, reference: float | None) -> str:
    if figure is None:
        return NONE
    return f"{figure / 1000:.1f}" + (f" ({figure / reference:.2f})" if reference else "")


def shapes(results: Results) -> Iterator[str]:
    """Yield the comparison of API-Hour with aiohttp beyond plain JSON."""
    figures = {
        (figure.contender, figure.case): figure.per_request for figure in results.instructions
    }
    cases = [case for case in SHAPES if (OURS, case) in figures and (THEIRS, case) in figures]
    if not cases:
        return
    yield heading("Beyond JSON")
    yield "Thousands of user-space instructions per request of the same aiohttp application."
    rows = []
    for case in cases:
        ours, theirs = figures[OURS, case], figures[THEIRS, case]
        thousands = (f"{ours / 1000:.1f}", f"{theirs / 1000:.1f}")
        rows.append([SHAPES[case].title, *thousands, f"{ours / theirs:.2f}"])
    yield table(["Case", "API-Hour", "aiohttp", "ratio"], rows)
