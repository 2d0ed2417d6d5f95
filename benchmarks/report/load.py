"""CPU time, requests, latency and memory as reStructuredText."""

from collections.abc import Iterator

from benchmarks.case import CASES
from benchmarks.figures import Load, Memory
from benchmarks.report.table import NONE, heading, table
from benchmarks.results import Results

REFERENCE = "flask"  # what ratios of requests refer to
MIB = 1 << 20


def loads(results: Results) -> Iterator[str]:
    """Yield the CPU time of each contender, a table for each case and number of connections."""
    groups: dict[tuple[str, int], list[Load]] = {}
    for load in results.loads:
        groups.setdefault((load.case, load.connections), []).append(load)
    if not groups:
        return
    rounds = max(len(load.rounds) for load in results.loads)
    yield heading("CPU")
    yield (
        "Microseconds of CPU time per request, of all processes of a server: the best and the"
        f" median of {rounds} round{'' if rounds == 1 else 's'}; the requests of all rounds, and"
        f" their ratio to those of {results.title(REFERENCE)}; the 99th percentile of the response"
        " time, in milliseconds; unanswered requests."
    )
    for (case, connections), loads in groups.items():
        title = CASES[case].title
        yield f"{title[0].upper()}{title[1:]}, {connections} connections:"
        yield _load_table(results, loads)


def _load_table(results: Results, loads: list[Load]) -> str:
    reference = next((load.requests for load in loads if load.contender == REFERENCE), None)
    rows = [
        [
            results.title(load.contender),
            f"{load.least * 1e6:.1f}",
            f"{load.median * 1e6:.1f}",
            str(load.requests),
            f"{load.requests / reference:.1f}" if reference else NONE,
            f"{load.p99 * 1e3:.1f}",
            str(sum(round.unanswered for round in load.rounds)),
        ]
        for load in sorted(loads, key=lambda load: load.least)
    ]
    return table(["Contender", "best", "median", "requests", "ratio", "p99", "unanswered"], rows)


def memory(results: Results) -> Iterator[str]:
    """Yield the memory of each contender at the end of the load."""
    most: dict[str, Load] = {}
    for load in results.loads:
        if load.contender not in most or load.connections >= most[load.contender].connections:
            most[load.contender] = load
    if not most:
        return
    yield heading("Memory")
    yield "MiB after the last round: all processes together, and the worker."
    ordered = sorted(most.values(), key=lambda load: load.memory.worker_pss)
    rows = [[results.title(load.contender), *_mib(load.memory)] for load in ordered]
    yield table(["Contender", "RSS", "PSS", "worker RSS", "worker PSS"], rows)


def idle(results: Results) -> Iterator[str]:
    """Yield the memory of idle connections."""
    if not results.idle:
        return
    yield heading("Idle connections")
    yield (
        "MiB of the worker before and with connections that are idle after one request each, and"
        " the additional PSS per connection, in kB."
    )
    rows = []
    for figure in results.idle:
        before, after = figure.before, figure.after
        sizes = (before.worker_rss, before.worker_pss, after.worker_rss, after.worker_pss)
        more = (after.worker_pss - before.worker_pss) / 1024
        per_connection = f"{more / figure.connections:.1f}" if figure.connections else NONE
        mib = (f"{size / MIB:.1f}" for size in sizes)
        rows.append(
            [results.title(figure.contender), str(figure.connections), *mib, per_connection]
        )
    head = [
        "Contender",
        "connections",
        "RSS before",
        "PSS before",
        "RSS with",
        "PSS with",
        "kB each",
    ]
    yield table(head, rows)


def _mib(memory: Memory) -> list[str]:
    sizes = (memory.rss, memory.pss, memory.worker_rss, memory.worker_pss)
    return [f"{size / MIB:.1f}" for size in sizes]
