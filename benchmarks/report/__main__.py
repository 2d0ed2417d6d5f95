"""The command: ``python -m benchmarks.report RESULTS.json [--output DIR]``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report.chart import draw
from benchmarks.report.text import render
from benchmarks.results import Results

CASE = "index"  # what the charts show


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables and charts of a run beside its results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=main.__doc__)
    parser.add_argument("results", type=Path, metavar="RESULTS.json")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write to this folder")
    options = parser.parse_args(arguments)
    folder: Path = options.output or options.results.parent
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in report(Results.read(options.results), options.results.stem).items():
        (folder / name).write_text(text)
        print(f"Wrote {folder / name}")


def report(results: Results, name: str) -> dict[str, str]:
    """Return the files of a report by name; pages include the tables, ``name``.inc."""
    titles = {entrant.name: (entrant.title, entrant.kind) for entrant in results.entrants}
    counted = {
        figure.contender: figure.per_request / 1000
        for figure in results.instructions
        if figure.case == CASE
    }
    loads = [load for load in results.loads if load.case == CASE]
    files = {f"{name}.inc": render(results)}
    if counted:
        title = "JSON: thousands of user-space instructions per request"
        files["instructions.svg"] = draw(title, _bars(counted, titles))
    for connections in sorted({load.connections for load in loads}):
        best = {
            load.contender: load.least * 1e6 for load in loads if load.connections == connections
        }
        title = f"JSON, {connections} connections: microseconds of CPU time per request, best round"
        files[f"cpu-{connections}.svg"] = draw(title, _bars(best, titles))
    return files


def _bars(
    figures: dict[str, float], titles: dict[str, tuple[str, str]]
) -> list[tuple[str, str, float]]:
    """Return title, kind and figure of each contender, the smallest first."""
    ordered = sorted(figures.items(), key=lambda item: item[1])
    return [(*titles[name], figure) for name, figure in ordered]


if __name__ == "__main__":
    main()
