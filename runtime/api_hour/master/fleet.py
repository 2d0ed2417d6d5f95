"""The workers as the master sees them: one life is spawn, hear, end, bury.

Nothing here blocks: one wait for signals and channels, then steps until all is as wanted.
"""

import math
import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

from gunicorn import util
from gunicorn.arbiter import Arbiter as GunicornArbiter
from gunicorn.errors import HaltServer

from api_hour.config.generation import Generation
from api_hour.logs import setup
from api_hour.master import systemd
from api_hour.master.backoff import Backoff
from api_hour.master.poller import Mailbox
from api_hour.master.reconcile import (
    Dismiss,
    Spawn,
    Standing,
    State,
    Wanted,
    free_slot,
    next_step,
    uncovered,
)
from api_hour.worker.channel import Message
from api_hour.worker.process import CLOSING, Worker

TICK = 1.0  # seconds between two looks at heartbeats
QUICK = 2.0  # seconds a worker has after INT, QUIT or ABRT


class Fleet(GunicornArbiter):  # type: ignore[misc]
    """Keep the wanted number of ready workers of the newest good generation."""

    proc_name: str
    reexec_pid: int

    def __init__(self, app: Any) -> None:
        self._mailbox = Mailbox()
        self._backoff = Backoff()
        self._generation: Generation = app.generation
        self._candidate: Generation | None = None
        self._reporter = systemd.Reporter()
        self._ever_ready = self._stopping = self._suspended = False
        super().__init__(app)

    def setup(self, app: Any) -> None:
        """Take over the settings; a log that nobody reads must not stop the master."""
        super().setup(app)
        setup.apply(self._generation.logs, self.log)

    def wait_for_signals(self, timeout: float = TICK) -> list[int]:
        """Wait for a signal, a worker's word or the next deadline; return the signals."""
        self._report()
        now = time.monotonic()
        deadlines = [one.standing.kill_at for one in self.WORKERS.values()]
        deadlines += [now + timeout, self._reporter.next, self._backoff.next]
        for worker in self._mailbox.wait(min(deadlines) - now):
            self._hear(worker)
        signals = []
        while not self.SIG_QUEUE.empty():
            signals.append(self.SIG_QUEUE.get_nowait())
        return signals

    def _report(self) -> None:
        well = [one for one in self.WORKERS.values() if one.standing.state is State.READY]
        failed = "; the last reload failed, recycling is suspended" if self._suspended else ""
        status = f"{len(well)} of {self.num_workers} workers ready{failed}"
        self._reporter.report(status, well=any(not one.standing.killed_for for one in well))

    def manage_workers(self) -> None:
        """Take steps until what is equals what is wanted, or must be waited for."""
        while not self._stopping:
            wanted = Wanted(
                count=self.num_workers,
                surge=self.cfg.max_surge,
                current=self._generation,
                candidate=self._candidate,
                recycling=not self._suspended,
            )
            step = next_step(self.WORKERS.values(), wanted)
            if isinstance(step, Dismiss):
                self._dismiss(step.worker)
            elif step and self._may_spawn():
                self._try_to_spawn(step)
            else:
                break
        self._cover()

    def _try_to_spawn(self, step: Spawn) -> None:
        generation = step.generation
        try:
            self.spawn_worker(generation, step.reason)
        except OSError as error:  # no process, no descriptor or no disk left
            self._backoff.note()
            self.log.error("Cannot start a worker: %s", error)
            if generation is self._candidate:
                self._give_up(f"cannot start a worker: {error}")

    def _cover(self) -> None:
        """Let a ready worker accept on the slots of those that are gone."""
        count = max((len(listener.slots) for listener in self.LISTENERS), default=0)
        ready = [one for one in self.WORKERS.values() if one.standing.state is State.READY]
        for slot in uncovered(self.WORKERS.values(), count) if count > 1 and ready else ():
            helper = min(ready, key=lambda one: len(one.standing.slots))
            helper.standing.slots.add(slot)
            slotted = [listener for listener in self.LISTENERS if len(listener.slots) > 1]
            fds = [listener.of_slot(slot).fileno() for listener in slotted]
            helper.channel.send(Message.COVER, " ".join(one.name for one in slotted), fds)

    def _may_spawn(self) -> bool:
        given_up = self._backoff.deaths > 0 and not self._ever_ready
        return self._backoff.over() and not given_up

    def _dismiss(self, worker: Any) -> None:
        """Let a worker finish its work and leave; one that still boots is ended at once."""
        if worker.standing.state is State.BOOTING:
            worker.standing.killed_for = "was not wanted any more"
            self.kill_worker(worker.pid, signal.SIGKILL)
        worker.channel.send(Message.DRAIN)
        self._expect_end(worker, self.cfg.graceful_timeout + 2 * CLOSING)

    def _expect_end(self, worker: Worker, patience: float) -> None:
        worker.standing.state = State.DRAINING
        worker.standing.kill_at = time.monotonic() + patience

    def spawn_worker(self, generation: Generation, reason: str = "start") -> None:
        """Fork one worker of ``generation``."""
        self.worker_age += 1
        cfg = generation.cfg
        places = (self.worker_age, self.pid, self.LISTENERS, self.app, cfg.timeout / 2, cfg)
        slot = free_slot(self.WORKERS.values(), generation, max(1, self.num_workers))
        dead = reason == "start" and self._backoff.repay()
        why = "death" if dead else reason
        worker = Worker(*places, self.log, generation=generation, slot=slot, started_for=why)
        deadline = time.monotonic() + cfg.boot_timeout
        worker.standing = Standing(generation, self.worker_age, kill_at=deadline, slots={slot})
        for listener in self.LISTENERS:
            listener.grow(slot)
        cfg.pre_fork(self, worker)
        pid = os.fork()
        if pid == 0:
            self._become(worker)
        worker.forked(pid)
        self.WORKERS[pid] = worker
        self._mailbox.add(worker)

    def _become(self, worker: Worker) -> NoReturn:
        """Live as ``worker`` from here to the end of this process."""
        for sibling in self.WORKERS.values():
            sibling.close()
        self._mailbox.close()
        worker.pid = os.getpid()
        try:
            util._setproctitle(f"worker [{self.proc_name}]")
            self.log.info("Booting worker with pid: %s", worker.pid)
            self.cfg.post_fork(self, worker)
            worker.init_process()
            sys.exit(0)
        finally:
            self.cfg.worker_exit(self, worker)

    def _hear(self, worker: Worker) -> None:
        """Take in what a worker says."""
        for message, text in worker.channel.receive():
            if message is Message.READY and worker.standing.state is State.BOOTING:
                self._welcome(worker)
            elif message is Message.FAILED:
                worker.standing.failure = text
            elif message is Message.REPLACE:
                worker.standing.replace = text
                self.log.info("Worker (pid: %s) asks to be replaced: %s", worker.pid, text)
            elif message is Message.DRAINING:
                self._expect_end(worker, self.cfg.graceful_timeout + 2 * CLOSING)
        if worker.channel.closed:
            self._mailbox.remove(worker)

    def _welcome(self, worker: Worker) -> None:
        worker.standing.state = State.READY
        worker.standing.kill_at = math.inf
        self._ever_ready = True
        self.log.info("Worker ready (pid: %s)", worker.pid)
        systemd.notify(READY=1, MAINPID=self.pid)
        if self.cfg.check:
            print(f"{self._generation.spec}: the configuration is good and a worker became ready")
            raise StopIteration
        if worker.generation is self._candidate:
            self._adopt(worker.generation)

    def murder_workers(self) -> None:
        """End workers that are blocked or late: ABRT first, for the stacks, then KILL."""
        now = time.monotonic()
        for pid, worker in list(self.WORKERS.items()):
            standing, timeout = worker.standing, worker.cfg.timeout
            if now >= standing.kill_at:
                late = "was not ready" if standing.state is State.BOOTING else "did not end"
                self._end(pid, worker, f"{late} in time")
            elif standing.state is not State.BOOTING and timeout:
                silence = now - worker.tmp.last_update()
                if silence > timeout:
                    self._end(pid, worker, f"is blocked: no heartbeat for {silence:.0f} s")

    def _end(self, pid: int, worker: Worker, why: str) -> None:
        if worker.standing.killed_for:
            self.kill_worker(pid, signal.SIGKILL)
            worker.standing.kill_at = math.inf
            return
        worker.standing.killed_for = why
        worker.standing.kill_at = time.monotonic() + QUICK
        self.log.warning("Worker (pid: %s) %s", pid, why)
        self.kill_worker(pid, signal.SIGABRT)

    def reap_workers(self) -> None:
        """Bury the children that ended; orphans too, for the master may be process 1."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                self.reexec_pid = 0 if pid == self.reexec_pid else self.reexec_pid
                if worker := self.WORKERS.pop(pid, None):
                    self._bury(worker, status)

    def _bury(self, worker: Worker, status: int) -> None:
        self._hear(worker)
        self._mailbox.remove(worker)  # no EOF came if a child of the worker holds its end
        standing = worker.standing
        cause = standing.failure or worker.evidence.describe(status, standing.killed_for)
        worker.close()
        self.cfg.child_exit(self, worker)
        if standing.state is State.DRAINING or self._stopping:
            self.log.info("Worker (pid: %s) left: %s", worker.pid, cause)
        elif worker.generation is self._candidate:
            self._give_up(cause)
        elif self._ever_ready:
            pause = self._backoff.note()
            self.log.error("Worker (pid: %s) died: %s; next in %.1f s", worker.pid, cause, pause)
        else:
            self._backoff.note()
            if not self.WORKERS:
                raise HaltServer(cause, 1)

    def _adopt(self, generation: Generation) -> None:
        """Make a proved candidate the generation that is wanted."""
        self._generation, self._candidate, self._suspended = generation, None, False
        self.app.cfg = generation.cfg
        self.setup(self.app)
        self.log.reopen_files()
        self.log.info("Reloaded: new workers replace the old ones")

    def _give_up(self, reason: str) -> None:
        self._candidate, self._suspended = None, True
        self.log.error("Reload failed, the workers that run go on: %s", reason)
        systemd.notify(READY=1)
