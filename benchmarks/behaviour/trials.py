"""The trials: each starts a server, does one thing to it under load, and returns the facts."""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.behaviour.declaration import Entrant
from benchmarks.behaviour.facts import Blocked, Broken, Crash, Losses, Reload, Spin, Stop
from benchmarks.behaviour.subject import NotServing, Subject, serving
from testkit.load import Kind, Load, Outcome, Profile, Record
from testkit.waiting import seconds_until

PATIENCE = 60.0  # seconds for what a server should do
SYNTAX_ERROR = "\ndef broken(:\n"
RAISES = '\nraise RuntimeError("this release cannot start")\n'
DIES = "\nos._exit(7)\n"
SHOWN = 400  # characters of a log line


@dataclass(frozen=True)
class Form:
    """The size of the trials; times in seconds, ``calm``: answers to await between two steps."""

    bound: float = 10.0  # after which an answer is late
    rate: float = 200.0  # requests per second
    reloads: int = 3
    calm: int = 300
    flight: int = 20  # requests of two seconds that are in flight when the server is stopped
    watch: float = 10.0
    blocked: float = 45.0  # after which nobody has noticed


@contextmanager
def loaded(subject: Subject, form: Form) -> Iterator[Load]:
    """Yield a load that the server is answering; stop its clients afterwards."""
    load = Load("load", subject.http, Profile(rate=form.rate, timeout=form.bound), PATIENCE)
    load.start()
    try:
        if calm(load, form) is None:
            raise NotServing("the load is not answered")
        yield load
    finally:
        load.stop()


def calm(load: Load, form: Form) -> float | None:
    """Wait for some more answers; return the seconds, None if they did not come."""
    goal = load.answered + form.calm
    return seconds_until(lambda: load.answered >= goal, PATIENCE)


def account(load: Load, *, without: Outcome | None = None) -> Losses:
    """Return what became of all requests of a load that is over, ``without`` counting one kind."""
    good = {Outcome.ANSWERED, without}
    lost = [record for record in load.records if record.outcome not in good]
    kept = sum(record.client < load.profile.keepalive for record in lost)
    return Losses(
        requests=len(load.records),
        lost={
            str(kind): count for kind, count in Counter(record.outcome for record in lost).items()
        },
        kept=kept,
        fresh=len(lost) - kept,
        longest=round(max(record.latency for record in answered(load)), 3),
    )


def answered(load: Load) -> list[Record]:
    """Return the records of the answered requests."""
    return [record for record in load.records if record.outcome is Outcome.ANSWERED]


def reload(entrant: Entrant, form: Form) -> Reload:
    """Reload good code under load, several times."""
    seconds: list[float | None] = []
    with serving(entrant) as subject:
        with loaded(subject, form) as load:
            for release in range(2, form.reloads + 2):
                seconds.append(_rounded(subject.reload_to(release)))
                calm(load, form)
        return Reload(seconds, account(load))


def broken(entrant: Entrant, form: Form) -> Broken:
    """Reload code with a syntax error under load, and check whether it still serves later."""
    with serving(entrant) as subject:
        with loaded(subject, form) as load:
            subject.write(more=SYNTAX_ERROR)
            subject.reload()
            time.sleep(form.watch)
            later = time.monotonic()
            time.sleep(form.watch / 5)
            runs, workers = subject.runs, len(subject.living(1))
        since = [record for record in load.records if record.began > later]
        good = sum(record.outcome is Outcome.ANSWERED for record in since)
        return Broken(runs, workers, len(since), good, account(load))


def stop(entrant: Entrant, form: Form) -> Stop:
    """Send TERM under load, with requests of two seconds in flight."""
    long = Profile(form.flight, 0, form.rate, PATIENCE, (Kind("long", sleep=2.0),), requests=1)
    with serving(entrant) as subject:
        with loaded(subject, form) as load:
            flight = Load("flight", subject.http, long, PATIENCE)
            flight.start()
            if seconds_until(lambda: len(subject.notes("begun")) >= form.flight, PATIENCE) is None:
                raise NotServing("the long requests did not arrive")
            subject.process.send_signal(signal.SIGTERM)
            seconds = seconds_until(lambda: not subject.runs, PATIENCE)
            code = subject.process.poll()
            flight.stop()
        gone = account(load, without=Outcome.REFUSED)
        took = round(PATIENCE if seconds is None else seconds, 2)
        return Stop(code, took, form.flight, flight.answered, gone)


def crash(entrant: Entrant, form: Form) -> Crash:
    """Kill one worker under load, and wait for its successor's first answer."""
    with serving(entrant) as subject:
        with loaded(subject, form) as load:
            old = set(subject.living())
            os.kill(load.records[-1].worker or min(old), signal.SIGKILL)

            def replaced() -> bool:
                return not subject.runs or any(
                    record.worker not in old for record in answered(load)
                )

            took = seconds_until(replaced, PATIENCE / 2)
            runs = subject.runs
            if runs:
                calm(load, form)
        return Crash(_rounded(took) if runs else None, runs, account(load))


def block(entrant: Entrant, form: Form) -> Blocked:
    """Block one worker forever under load, and wait until something ends it."""
    with serving(entrant) as subject:
        with loaded(subject, form) as load:
            mark = subject.mark()
            worker = subject.block()
            noticed = seconds_until(lambda: worker not in subject.living(), form.blocked)
            calm(load, form)
        said = subject.lines[mark:]
        stack = any(
            re.search(r"\bin block\b|\bblock\(\)|app\.py.*\bblock\b", line) for line in said
        )
        telling = [line for line in said if re.search(rf"\b{worker}\b", line)]
        log = [line[:SHOWN].replace(str(subject.folder), "") for line in telling[:3]]
        return Blocked(_rounded(noticed), form.blocked, stack, log, account(load))


def fail(entrant: Entrant, form: Form, fault: str) -> Spin:
    """Kill a worker whose successors all fail to start, and count their starts."""
    with serving(entrant) as subject:
        before, victim = len(subject.notes("starts")), subject.living()[0]
        subject.write(more=fault)
        os.kill(victim, signal.SIGKILL)
        time.sleep(form.watch)
        starts = len(subject.notes("starts")) - before
        return Spin(starts, form.watch, subject.runs, subject.serves())


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
