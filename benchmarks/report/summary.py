"""The one table for whoever reads no further: JSON, in instructions and in CPU time."""

from benchmarks.report.table import NONE, table
from benchmarks.results import Results

CASE, CONNECTIONS = "index", 64


def summary(counted: Results, loaded: Results) -> str:
    """Return the table of two runs, one of them under load; who needs the least CPU comes first."""
    each = {one.contender: one.each for one in counted.instructions if one.case == CASE}
    loads = [one for one in loaded.loads if (one.case, one.connections) == (CASE, CONNECTIONS)]
    rows = [
        [
            loaded.title(one.contender),
            f"{one.least * 1e6:.1f}",
            f"{each[one.contender] / 1000:.1f}" if one.contender in each else NONE,
        ]
        for one in sorted(loads, key=lambda one: one.least)
    ]
    return table(["A JSON answer", "microseconds", "thousand instructions"], rows)
