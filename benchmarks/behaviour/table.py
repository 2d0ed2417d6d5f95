"""The table of the comparison page, made from the facts.

``python -m benchmarks.behaviour.table`` writes it again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from benchmarks.behaviour.declaration import HERE
from benchmarks.behaviour.facts import Broken, Facts, Full, Hook, Losses, Results, Served, Spin

PAGE = HERE.parents[1] / "docs" / "explanation" / "comparison-table.inc"
NOT_RUN = "not run"
T = TypeVar("T")


def render(results: Results) -> str:
    """Return what the page includes: the run, the table, the command lines."""
    parts = [_about(results), _table(results), *_commands(results), *_not_run(results)]
    return "\n\n".join(parts) + "\n"


def _about(results: Results) -> str:
    machine = results.machine
    return (
        f"Run on {results.date} by ``{results.command}`` on {machine.cores} cores, Linux"
        f" {machine.kernel}, Python {machine.python}: two workers each"
        f" unless stated otherwise, {results.rate:.0f} requests per second from 16 clients that"
        " keep their connections and 4 that open one for each request."
    )


def _table(results: Results) -> str:
    servers = results.servers.values()
    lines = [".. list-table::", "   :header-rows: 1", "   :stub-columns: 1", ""]
    lines += _row(["", *(f"{facts.title} {facts.version}".strip() for facts in servers)])
    for label, cell in ROWS.items():
        lines += _row([label, *(cell(facts) for facts in servers)])
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {' ' if number else '*'} - {cell}".rstrip()


def _commands(results: Results) -> Iterator[str]:
    yield "The command lines:"
    for facts in results.servers.values():
        lines = [f"``{command}``" for command in facts.commands.values()]
        yield f"{facts.title}\n    " + "\n\n    ".join(lines)


def _not_run(results: Results) -> Iterator[str]:
    reasons = [(facts.title, facts.reason) for facts in results.servers.values() if facts.reason]
    if reasons:
        yield "Not run:"
        yield "\n".join(f"* {title}: {' '.join(reason.split())}" for title, reason in reasons)


def _of(pick: Callable[[Facts], T | None], show: Callable[[T], str]) -> Callable[[Facts], str]:
    """Return a function that shows a part of the facts, or that it was not run."""

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
    done = [duration for duration in seconds if duration is not None]
    if len(done) < len(seconds):
        return f"{len(seconds) - len(done)} of {len(seconds)} did not finish"
    return _seconds(max(done), "")


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def _spin(spin: Spin) -> str:
    serves = "keeps serving" if spin.serves else "does not serve"
    if not spin.runs:
        serves = "has exited"
    return f"{spin.starts}; {serves}"


def _options(related: list[str]) -> str:
    names = ", ".join(f"``{option}``" for option in related)
    return f"no option; related: {names}" if related else "no option"


def _protocols(answers: Mapping[str, bool]) -> str:
    return ", ".join(name for name, right in answers.items() if right)


def _of_hook(show: Callable[[Broken], str]) -> Callable[[Facts], str]:
    """Return a function that shows a part of a reload with a hook that raises, if there is one."""

    def cell(hook: Hook) -> str:
        return show(hook.reload) if hook.reload else "no hook"

    return _of(lambda facts: facts.hook, cell)


def _served(served: Served) -> str:
    releases = " and ".join(map(str, served.releases))
    by = f", by release {releases}" if releases else ""
    return f"{served.answered} of {served.asked}{by}"


def _full(full: Full) -> str:
    if full.losses is None:
        return "does not start"
    requests = full.losses.requests
    return f"{requests - sum(full.losses.lost.values())} of {requests}"


def _if_any(true: bool | None, otherwise: str) -> str:
    return otherwise if true is None else _yes(true)


ROWS: dict[str, Callable[[Facts], str]] = {
    "Reload by": lambda facts: f"``{facts.reload_by}``",
    "Reload: requests lost": _of(lambda facts: facts.reload, lambda reload: _lost(reload.losses)),
    "Reload: lost on kept-alive, on new connections": _of(
        lambda facts: facts.reload, lambda reload: f"{reload.losses.kept}, {reload.losses.fresh}"
    ),
    "Reload: longest response time": _of(
        lambda facts: facts.reload, lambda reload: f"{reload.losses.longest * 1000:.0f} ms"
    ),
    "Reload: duration of the slowest": _of(
        lambda facts: facts.reload, lambda reload: _slowest(reload.seconds)
    ),
    "Broken reload: answered 10 s later": _of(
        lambda facts: facts.broken, lambda broken: f"{broken.answered} of {broken.asked}"
    ),
    "Broken reload: workers 10 s later": _of(
        lambda facts: facts.broken, lambda broken: str(broken.workers)
    ),
    "Broken reload: requests lost": _of(
        lambda facts: facts.broken, lambda broken: _lost(broken.losses)
    ),
    "Stop: in-flight requests answered": _of(
        lambda facts: facts.stop, lambda stop: f"{stop.answered} of {stop.flight}"
    ),
    "Stop: other requests lost": _of(lambda facts: facts.stop, lambda stop: _lost(stop.losses)),
    "Stop: duration": _of(lambda facts: facts.stop, lambda stop: _seconds(stop.seconds, "")),
    "Stop: exit code": _of(
        lambda facts: facts.stop, lambda stop: "none" if stop.code is None else str(stop.code)
    ),
    "Crash: a new worker answers after": _of(
        lambda facts: facts.crash,
        lambda crash: _seconds(crash.replaced, "never" if crash.runs else "never: it has exited"),
    ),
    "Crash: requests lost": _of(lambda facts: facts.crash, lambda crash: _lost(crash.losses)),
    "Blocked loop: the worker is ended after": _of(
        lambda facts: facts.blocked,
        lambda blocked: _seconds(blocked.noticed, f"not in {blocked.watched:.0f} s"),
    ),
    "Blocked loop: its stack is in the log": _of(
        lambda facts: facts.blocked, lambda blocked: _yes(blocked.stack)
    ),
    "Blocked loop: requests lost": _of(
        lambda facts: facts.blocked, lambda blocked: _lost(blocked.losses)
    ),
    "Failing start, exception: starts in 10 s": _of(lambda facts: facts.raises, _spin),
    "Failing start, sudden exit: starts in 10 s": _of(lambda facts: facts.dies, _spin),
    "HTTP, TCP and UDP in one daemon: answered": _of(
        lambda facts: facts.several,
        lambda several: _protocols(several.before) if several.before else _options(several.options),
    ),
    "HTTP, TCP and UDP: after a reload": _of(
        lambda facts: facts.several,
        lambda several: _protocols(several.after) if several.before else "not offered",
    ),
    "Prometheus metrics: requests counted": _of(
        lambda facts: facts.metrics,
        lambda metrics: (
            _options(metrics.options)
            if metrics.counted is None
            else f"{metrics.counted:.0f} of {metrics.asked}, of {metrics.workers} workers"
        ),
    ),
    "Raising hook: which": _of(lambda facts: facts.hook, lambda hook: hook.name or "no hook"),
    "Raising hook at a reload: answered 10 s later": _of_hook(
        lambda reload: f"{reload.answered} of {reload.asked}"
    ),
    "Raising hook at a reload: requests lost": _of_hook(lambda reload: _lost(reload.losses)),
    "Removed release: answered 10 s after a reload": _of(
        lambda facts: facts.removed, lambda removed: _served(removed.reloaded)
    ),
    "Removed release: workers then, and 10 s after one was killed": _of(
        lambda facts: facts.removed,
        lambda removed: f"{removed.reloaded.workers}, {removed.killed.workers}",
    ),
    "Removed release: answered 10 s after that": _of(
        lambda facts: facts.removed, lambda removed: _served(removed.killed)
    ),
    "Removed release: requests lost, with those of the kill": _of(
        lambda facts: facts.removed, lambda removed: _lost(removed.losses)
    ),
    "Full disk under the logs: answered": _of(lambda facts: facts.full, _full),
    "SIGSTOP of all processes: workers ended after SIGCONT": _of(
        lambda facts: facts.frozen,
        lambda frozen: f"{frozen.ended} of {frozen.workers * frozen.times}",
    ),
    "SIGSTOP of all processes: requests lost": _of(
        lambda facts: facts.frozen, lambda frozen: _lost(frozen.losses)
    ),
    "Stale pid file of a living process: it starts": _of(
        lambda facts: facts.stale, lambda stale: _if_any(stale.starts, "no pid file")
    ),
    "Stale pid file: its reload command signals the stranger": _of(
        lambda facts: facts.stale, lambda stale: _if_any(stale.signals, "no command")
    ),
}


if __name__ == "__main__":
    PAGE.write_text(render(Results.read(HERE / "results.json")))
