"""The figures of the other measures as reStructuredText: CPU, requests, latency and memory."""

from collections.abc import Iterator

from benchmarks.case import CASES
from benchmarks.figures import Load, Memory
from benchmarks.report.table import NONE, heading, table
from benchmarks.results import Results

OLD_RIVAL = "flask"  # what ratios of requests refer to
MIB = 1 << 20


def loads(results: Results) -> Iterator[str]:
    """Say what CPU each contender took, a table for each case and load."""
    groups: dict[tuple[str, int], list[Load]] = {}
    for load in results.loads:
        groups.setdefault((load.case, load.connections), []).append(load)
    if not groups:
        return
    rounds = max(len(load.rounds) for load in results.loads)
    yield heading("CPU")
    yield (
        "Microseconds of CPU a request, of all processes of a server: the best and the middle one"
        f" of {rounds} round{'' if rounds == 1 else 's'}; requests in all of them, and how many"
        f" times those of {results.title(OLD_RIVAL)} they are; the 99th percentile of the time to"
        " an answer, in milliseconds; requests without an answer."
    )
    for (case, connections), loads in groups.items():
        title = CASES[case].title
        yield f"{title[0].upper()}{title[1:]}, {connections} connections:"
        yield _load_table(results, loads)


def _load_table(results: Results, loads: list[Load]) -> str:
    rival = next((one.requests for one in loads if one.contender == OLD_RIVAL), None)
    rows = [
        [
            results.title(one.contender),
            f"{one.least * 1e6:.1f}",
            f"{one.median * 1e6:.1f}",
            str(one.requests),
            f"{one.requests / rival:.1f}" if rival else NONE,
            f"{one.p99 * 1e3:.1f}",
            str(sum(each.unanswered for each in one.rounds)),
        ]
        for one in sorted(loads, key=lambda one: one.least)
    ]
    return table(["Contender", "least", "median", "requests", "times", "p99", "lost"], rows)


def memory(results: Results) -> Iterator[str]:
    """Say what memory each contender had at the end of the load."""
    most: dict[str, Load] = {}
    for load in results.loads:
        if load.contender not in most or load.connections >= most[load.contender].connections:
            most[load.contender] = load
    if not most:
        return
    yield heading("Memory")
    yield "MiB after the last round, of all processes and of the worker."
    ordered = sorted(most.values(), key=lambda load: load.memory.worker_pss)
    rows = [[results.title(one.contender), *_mib(one.memory)] for one in ordered]
    yield table(["Contender", "RSS", "PSS", "worker RSS", "worker PSS"], rows)


def idle(results: Results) -> Iterator[str]:
    """Say what silent connections cost."""
    if not results.idle:
        return
    yield heading("Idle connections")
    yield (
        "Open after one request each: MiB of the worker before them and with them, and how much"
        " more PSS that is, in kB a connection."
    )
    rows = []
    for one in results.idle:
        before, after = one.before, one.after
        sizes = (before.worker_rss, before.worker_pss, after.worker_rss, after.worker_pss)
        more = (after.worker_pss - before.worker_pss) / 1024
        each = f"{more / one.connections:.1f}" if one.connections else NONE
        mib = (f"{size / MIB:.1f}" for size in sizes)
        rows.append([results.title(one.contender), str(one.connections), *mib, each])
    head = ["Contender", "connections", "RSS before", "PSS before", "RSS with", "PSS with", "each"]
    yield table(head, rows)


def _mib(memory: Memory) -> list[str]:
    sizes = (memory.rss, memory.pss, memory.worker_rss, memory.worker_pss)
    return [f"{size / MIB:.1f}" for size in sizes]
