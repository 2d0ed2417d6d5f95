"""The table of the README: one JSON answer, in CPU time and in instructions."""

from benchmarks.report.table import NONE, table
from benchmarks.results import Results

CASE, CONNECTIONS = "index", 64


def summary(counted: Results, loaded: Results) -> str:
    """Return the table of a run that counted instructions and one under load, by CPU time."""
    instructions = {
        figure.contender: f"{figure.per_request / 1000:.1f}"
        for figure in counted.instructions
        if figure.case == CASE
    }
    loads = [load for load in loaded.loads if (load.case, load.connections) == (CASE, CONNECTIONS)]
    rows = [
        [
            loaded.title(load.contender),
            f"{load.least * 1e6:.1f}",
            instructions.get(load.contender, NONE),
        ]
        for load in sorted(loads, key=lambda load: load.least)
    ]
    return table(["A JSON answer", "microseconds", "thousand instructions"], rows)
