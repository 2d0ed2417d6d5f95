"""The table of the page, made of the facts: ``python -m benchmarks.behaviour.table``."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from benchmarks.behaviour.declaration import HERE
from benchmarks.behaviour.facts import Facts, Losses, Results, Spin

PAGE = HERE.parents[1] / "docs" / "explanation" / "comparison-table.inc"
NOT_RUN = "not run"
T = TypeVar("T")


def render(results: Results) -> str:
    """Return what the page includes: where it was run, the table, the command lines."""
    parts = [_about(results), _table(results), *_commands(results), *_not_run(results)]
    return "\n\n".join(parts) + "\n"


def _about(results: Results) -> str:
    machine = results.machine
    return (
        f"Run on {results.date} by ``{results.command}`` on {machine.cores} cores, Linux"
        f" {machine.kernel}, Python {machine.python}: two workers each"
        f" where nothing else is said, {results.rate:.0f} requests a second by 16 clients that keep"
        " their connections and 4 that open one for each request."
    )


def _table(results: Results) -> str:
    servers = results.servers.values()
    lines = [".. list-table::", "   :header-rows: 1", "   :stub-columns: 1", ""]
    lines += _row(["", *(f"{one.title} {one.version}".strip() for one in servers)])
    for label, cell in ROWS.items():
        lines += _row([label, *(cell(one) for one in servers)])
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {' ' if number else '*'} - {cell}".rstrip()


def _commands(results: Results) -> Iterator[str]:
    yield "The command lines:"
    for one in results.servers.values():
        lines = [f"``{command}``" for command in one.commands.values()]
        yield f"{one.title}\n    " + "\n\n    ".join(lines)


def _not_run(results: Results) -> Iterator[str]:
    reasons = [(one.title, one.reason) for one in results.servers.values() if one.reason]
    if reasons:
        yield "Not run:"
        yield "\n".join(f"* {title}: {' '.join(reason.split())}" for title, reason in reasons)


def _of(pick: Callable[[Facts], T | None], show: Callable[[T], str]) -> Callable[[Facts], str]:
    """Return what shows a part of the facts, where there is one."""

    def cell(facts: Facts) -> str:
        part = pick(facts)
        return NOT_RUN if part is None else show(part)

    return cell


def _lost(losses: Losses) -> str:
    count = sum(losses.lost.values())
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(losses.lost.items()))
    return f"{count} of {losses.requests}" + (f": {kinds}" if kinds else "")


def _seconds(seconds: float | None, otherwise: str) -> str:
    return otherwise if seconds is None else f"{seconds:.1f} s"


def _slowest(seconds: list[float | None]) -> str:
    done = [one for one in seconds if one is not None]
    if len(done) < len(seconds):
        return f"{len(seconds) - len(done)} of {len(seconds)} did not end"
    return _seconds(max(done), "")


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def _spin(spin: Spin) -> str:
    serves = "serves on" if spin.serves else "does not serve"
    if not spin.runs:
        serves = "has ended"
    return f"{spin.starts}; {serves}"


def _options(found: list[str]) -> str:
    return f"no option; near it {_names(found)}" if found else "no option"


def _names(found: Iterable[str]) -> str:
    return ", ".join(f"``{one}``" for one in found)


def _protocols(answers: Mapping[str, bool]) -> str:
    return ", ".join(name for name, right in answers.items() if right)


ROWS: dict[str, Callable[[Facts], str]] = {
    "Reload by": lambda facts: f"``{facts.reload_by}``",
    "Reload: requests lost": _of(lambda facts: facts.reload, lambda one: _lost(one.losses)),
    "Reload: lost on kept, on fresh connections": _of(
        lambda facts: facts.reload, lambda one: f"{one.losses.kept}, {one.losses.fresh}"
    ),
    "Reload: longest time to an answer": _of(
        lambda facts: facts.reload, lambda one: f"{one.losses.longest * 1000:.0f} ms"
    ),
    "Reload: the slowest one took": _of(
        lambda facts: facts.reload, lambda one: _slowest(one.seconds)
    ),
    "Broken reload: answered 10 s later": _of(
        lambda facts: facts.broken, lambda one: f"{one.answered} of {one.asked}"
    ),
    "Broken reload: workers left then": _of(
        lambda facts: facts.broken, lambda one: str(one.workers)
    ),
    "Broken reload: requests lost": _of(lambda facts: facts.broken, lambda one: _lost(one.losses)),
    "Stop: answered of the work in flight": _of(
        lambda facts: facts.stop, lambda one: f"{one.answered} of {one.flight}"
    ),
    "Stop: other requests lost": _of(lambda facts: facts.stop, lambda one: _lost(one.losses)),
    "Stop: it took": _of(lambda facts: facts.stop, lambda one: _seconds(one.seconds, "")),
    "Stop: exit code": _of(
        lambda facts: facts.stop, lambda one: "none" if one.code is None else str(one.code)
    ),
    "Crash: a new worker answers after": _of(
        lambda facts: facts.crash,
        lambda one: _seconds(one.replaced, "never" if one.runs else "never: it has ended"),
    ),
    "Crash: requests lost": _of(lambda facts: facts.crash, lambda one: _lost(one.losses)),
    "Blocked loop: the worker is ended after": _of(
        lambda facts: facts.blocked,
        lambda one: _seconds(one.noticed, f"not in {one.watched:.0f} s"),
    ),
    "Blocked loop: its stack is in the log": _of(
        lambda facts: facts.blocked, lambda one: _yes(one.stack)
    ),
    "Blocked loop: requests lost": _of(lambda facts: facts.blocked, lambda one: _lost(one.losses)),
    "Start fails, an exception: starts in 10 s": _of(lambda facts: facts.raises, _spin),
    "Start fails, sudden death: starts in 10 s": _of(lambda facts: facts.dies, _spin),
    "HTTP, TCP and UDP in one daemon: answered": _of(
        lambda facts: facts.several,
        lambda one: _protocols(one.before) if one.before else _options(one.options),
    ),
    "HTTP, TCP and UDP: after a reload": _of(
        lambda facts: facts.several,
        lambda one: _protocols(one.after) if one.before else "not offered",
    ),
    "Prometheus metrics: requests counted": _of(
        lambda facts: facts.metrics,
        lambda one: (
            _options(one.options)
            if one.counted is None
            else f"{one.counted:.0f} of {one.asked}, of {one.workers} workers"
        ),
    ),
}


if __name__ == "__main__":
    PAGE.write_text(render(Results.read(HERE / "results.json")))
