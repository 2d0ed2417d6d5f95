"""The table of the page about costs, made from the results."""

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec

from benchmarks.costs.measure import HERE, Figure
from benchmarks.costs.shapes import TIMES, shapes
from benchmarks.results import Machine

RESULTS = HERE / "results.json"
PAGE = HERE.parents[1] / "docs" / "explanation" / "request-costs-table.inc"
SMALL = 1 << 16  # bytes of memory that every process gains and loses


class Costs(msgspec.Struct):
    """A run."""

    date: str
    machine: Machine
    figures: list[Figure] = []

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file written by ``write``."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def write(self, path: Path) -> None:
        """Write the run."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")


def render(costs: Costs) -> str:
    """Return what the page includes."""
    machine = costs.machine
    about = (
        f"Measured on {costs.date} by ``python -m benchmarks.costs``: Python {machine.python},"
        f" Linux {machine.kernel}, {machine.cores} cores."
    )
    return f"{about}\n\n" + "\n".join(_table(costs)) + "\n"


def _table(costs: Costs) -> Iterator[str]:
    yield from (".. list-table::", "   :header-rows: 1", "   :widths: 30 8 8 10 8 10 36", "")
    heads = "Shape", "Bytes", "Answer", "Instructions", "Times", "Memory", "What bounds it"
    yield from _row(*heads)
    bounds = {shape.title: shape.bound for shape in shapes()}
    for figure in costs.figures:
        yield from _row(
            figure.title,
            f"{figure.size:,}",
            figure.status,
            _thousands(figure.instructions),
            f"{figure.times:.1f}",
            "" if figure.memory < SMALL else f"{figure.memory / (1 << 20):.1f} MiB",
            bounds[figure.title] if figure.times > TIMES else "",
        )


def _thousands(number: int) -> str:
    return f"{max(0, number) // 1000:,} k"


def _row(*cells: str) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {' ' if number else '*'} - {cell}".rstrip()
