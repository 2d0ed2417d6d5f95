"""The command: ``python -m benchmarks.costs [PATTERN]`` in the root of the repository; minutes.

It measures every shape, or those whose titles match, and writes the results and the table of the
page. What is not measured keeps its figures.
"""

import datetime
import re
import sys

from benchmarks import machine
from benchmarks.costs.measure import measure
from benchmarks.costs.shapes import shapes
from benchmarks.costs.table import PAGE, RESULTS, Costs, render
from benchmarks.progress import say


def main() -> None:
    """Measure, and write what was found."""
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    everything = list(shapes())
    figures = {figure.title: figure for figure in Costs.read(RESULTS).figures} if pattern else {}
    for figure in measure([shape for shape in everything if re.search(pattern, shape.title)]):
        say(f"{figure.times:8.1f} {figure.title}")
        figures[figure.title] = figure
    costs = Costs(
        datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine.describe(),
        [figures[shape.title] for shape in everything if shape.title in figures],
    )
    costs.write(RESULTS)
    PAGE.write_text(render(costs))


if __name__ == "__main__":
    main()
