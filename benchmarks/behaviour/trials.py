"""The trials: each starts a server, does one thing to it under load, and returns the facts."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.behaviour.declaration import Entrant
from benchmarks.behaviour.facts import (
    Blocked,
    Broken,
    Crash,
    Frozen,
    Full,
    Hook,
    Losses,
    Reload,
    Removed,
    Served,
    Spin,
    Stale,
    Stop,
)
from benchmarks.behaviour.subject import NotServing, Subject, serving
from testkit.load import Kind, Load, Outcome, Profile, Record
from testkit.processes import stranger
from testkit.waiting import seconds_until

PATIENCE = 60.0  # seconds for what a server should do
ANSWERED = 1.0  # seconds after which what was asked is answered: the slow requests take 0.2
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
    frozen: float = 15.0  # longer than any server lets a worker be silent
    freezes: int = 3


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
    return _reload_broken(entrant, form, "app.py", SYNTAX_ERROR)


def hook(entrant: Entrant, form: Form) -> Hook:
    """Reload with a callback that raises when a worker starts, and check as ``broken`` does."""
    declared = entrant.declaration.hook
    if declared is None:
        return Hook("", None)
    return Hook(declared.name, _reload_broken(entrant, form, declared.file, declared.text))


def _reload_broken(entrant: Entrant, form: Form, file: str, fault: str) -> Broken:
    with serving(entrant) as subject:
        with loaded(subject, form) as load:
            subject.append(file, fault)
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


def remove(entrant: Entrant, form: Form) -> Removed:
    """Replace and remove the release that runs, reload under load; then kill a worker."""
    with serving(entrant, entrant.declaration.linked, linked=True) as subject:
        with loaded(subject, form) as load:
            subject.replace_release()
            subject.reload()
            seconds_until(lambda: not subject.runs or not subject.living(1), PATIENCE)
            time.sleep(form.watch)
            reloaded = _observe(subject, form)
            for pid in subject.living()[:1]:
                os.kill(pid, signal.SIGKILL)
            time.sleep(form.watch)
            killed = _observe(subject, form)
        return Removed(reloaded(load), killed(load), account(load))


def _observe(subject: Subject, form: Form) -> Callable[[Load], Served]:
    """Watch the server for a while; return a function that tells how it served, for later.

    The load's record of a late request is there only when the load is over.
    """
    start = time.monotonic()
    time.sleep(form.watch / 5)
    end, workers = time.monotonic(), len(subject.living())
    time.sleep(ANSWERED)
    release_of = {int(pid): int(which) for pid, which in map(str.split, subject.notes("starts"))}

    def served(load: Load) -> Served:
        asked = [record for record in load.records if start < record.began < end]
        good = [record for record in asked if record.outcome is Outcome.ANSWERED]
        releases = sorted({release_of[record.worker] for record in good})
        return Served(len(asked), len(good), releases, workers)

    return served


def fill(entrant: Entrant, form: Form) -> Full:
    """Start a server whose logs are on a full disk, and load it."""
    try:
        with serving(entrant, entrant.declaration.logged) as subject:
            with loaded(subject, form) as load:
                calm(load, form)
            return Full(account(load))
    except NotServing:
        return Full(None)


def freeze(entrant: Entrant, form: Form) -> Frozen:
    """Stop every process for longer than workers may be silent, and let them go on."""
    patient = replace(form, bound=PATIENCE)  # what the stop itself delays is not lost
    ended = 0
    with serving(entrant) as subject:
        with loaded(subject, patient) as load:
            for _ in range(form.freezes):
                workers = set(subject.living())
                subject.send_all(signal.SIGSTOP)
                time.sleep(form.frozen)
                subject.send_all(signal.SIGCONT)
                time.sleep(form.watch / 2)
                calm(load, form)
                ended += len(workers - set(subject.living()))
        return Frozen(form.freezes, form.frozen, subject.wanted, ended, account(load))


def leave_pid_file(entrant: Entrant, _: Form) -> Stale:
    """Reload by a pid file that names a living stranger, then start a server over it."""
    declared = entrant.declaration
    if not declared.pid:
        return Stale(None, None)
    with tempfile.TemporaryDirectory(prefix="behaviour-") as folder:
        path = Path(folder, "pid")

        def filled(words: Iterable[str]) -> list[str]:
            return [word.replace("{pid}", str(path)) for word in words]

        signals = None
        if declared.reload_by_pid:
            with stranger(path) as process:
                command = entrant.installation.fill()(filled(declared.reload_by_pid))
                subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE)  # noqa: S603
                signals = seconds_until(lambda: process.has_ended, 1.0) is not None
        with stranger(path):
            return Stale(_starts(entrant, [*declared.command, *filled(declared.pid)]), signals)


def _starts(entrant: Entrant, command: list[str]) -> bool:
    try:
        with serving(entrant, command):
            return True
    except NotServing:
        return False


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
