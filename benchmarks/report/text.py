"""The results of a run as reStructuredText: a section for each measure."""

from collections.abc import Iterator

from benchmarks.report.instructions import instructions, profile, shapes
from benchmarks.report.load import idle, loads, memory
from benchmarks.report.table import heading
from benchmarks.results import Results


def render(results: Results) -> str:
    """Return the sections for which the run has figures."""
    sections = (_about, instructions, profile, shapes, loads, memory, idle, _left_out)
    return "\n\n".join(part for section in sections for part in section(results)) + "\n"


def _about(results: Results) -> Iterator[str]:
    machine = results.machine
    tools = ", ".join(f"{name} {version}" for name, version in machine.tools.items())
    yield (
        f"Measured on {results.date[:10]} by ``{results.command}``, commit {results.commit}:"
        f" {machine.processor},"
        f" {machine.cores} cores, {machine.memory / (1 << 30):.0f} GiB, {machine.system},"
        f" Linux {machine.kernel}, Python {machine.python}, {tools};"
        " one worker process each."
    )


def _left_out(results: Results) -> Iterator[str]:
    if not results.left_out:
        return
    yield heading("Left out")
    for left_out in results.left_out:
        yield f"* {left_out.title}: {' '.join(left_out.reason.split())}"
