"""The master: it owns the listening sockets and the worker processes.

Theory of operation
===================
The master is Gunicorn's Arbiter with most of its decisions replaced. Gunicorn's ``run()`` is
still the main loop: ``start()``, then again and again ``wait_for_signals()``, the handler of each
signal (HUP calls ``reload``, USR2 ``reexec``, TERM ``halt``, TTIN and TTOU change
``num_workers``), ``murder_workers()`` and ``manage_workers()``. This module overrides what these
call, in the order in which it happens: boot, wait, reconcile, spawn, hear, kill, reap, reload,
upgrade, stop.

The phases of a worker, and what ends each::

    fork --> BOOTING --says READY--> READY --is told to drain, or says so--> DRAINING --> exit
                |                      |                                         |
         boot_timeout            no heartbeat                 graceful_timeout + 2 * CLOSE_GRACE
                |                      |                                         |
                +----------------------+--------> SIGABRT, then SIGKILL <--------+

SIGABRT makes the worker write the stacks of all its threads, which the log then shows; SIGKILL
follows after KILL_DELAY. A worker that is still booting when nobody wants it is killed at once.

The rules, and why:

* Nothing blocks. There is one wait, ``Poller.wait``, on signals and on the workers' channels,
  until the next deadline. A master that waits for one worker neither hears signals nor notices
  that another one died.
* The master never imports the project's code, and a worker's end is never the master's: a broken
  release breaks the one worker that tries it, not the service.
* Workers are started and drained in one place, ``manage_workers``, which takes the steps of
  ``reconcile.next_step`` until nothing is left to do. Signals and deaths only change what is, or
  what is wanted.
* HUP makes a candidate generation. It becomes the current one when its first worker is ready;
  only then do the old workers drain, each once a new one is ready. A candidate that cannot be
  read, does not boot or is late is rejected, and the old workers never notice. Recycling stops
  until the next good reload: a replacement would run the code that has just failed.
* A dead worker is replaced, at once the first time, then after growing pauses. The master gives
  up only if no worker ever became ready: the operator is still watching, and wants the cause.
* The master keeps every listening socket open, and workers get duplicates. So no worker's end
  closes the last reference, which would lose the connections in the accept queue. With
  ``balance: slots`` a ready worker also accepts on the slots of those that are gone.
"""

import math
import os
import signal
import sys
import time
from contextlib import suppress
from typing import NoReturn, Protocol

from gunicorn import __version__ as gunicorn_version
from gunicorn import util
from gunicorn.arbiter import Arbiter as GunicornArbiter
from gunicorn.errors import HaltServer
from gunicorn.pidfile import Pidfile

from api_hour import __version__, metrics, streams
from api_hour.config.generation import Generation
from api_hour.exceptions import ConfigError
from api_hour.logs import setup
from api_hour.master import listeners, reloader, systemd
from api_hour.master.backoff import Backoff
from api_hour.master.poller import Poller
from api_hour.master.reconcile import (
    Drain,
    Phase,
    Spawn,
    Target,
    WorkerState,
    free_slot,
    next_step,
    uncovered,
)
from api_hour.worker.channel import Message
from api_hour.worker.process import CLOSE_GRACE, Worker

HEARTBEAT_CHECK = 1.0  # seconds between two looks at the workers' heartbeats
KILL_DELAY = 2.0  # seconds that a worker has after ABRT, INT or QUIT
ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


class Application(Protocol):
    """What the master needs of the application: it holds the configuration, and reads it again."""

    generation: Generation

    def next_generation(self, current: Generation) -> Generation:
        """Read the configuration again; raises ConfigError."""


class Arbiter(GunicornArbiter):  # type: ignore[misc]
    """Keeps the desired number of ready workers, of the newest good generation."""

    # Gunicorn's attributes that are set here as well.
    proc_name: str
    reexec_pid: int  # of the successor that USR2 started; 0 without one
    master_pid: int  # of the predecessor that started this master; 0 without one

    # Boot

    def __init__(self, app: Application) -> None:
        self._poller = Poller()
        self._backoff = Backoff()
        self._reporter = systemd.Reporter()
        self._current = app.generation
        self._candidate: Generation | None = None
        self._ever_ready = False
        self._recycling_suspended = False
        self._stopping = False
        super().__init__(app)

    def setup(self, app: Application) -> None:
        """Take over the settings of ``app``; Gunicorn calls this before the first worker, too."""
        super().setup(app)
        setup.apply(self._current.logs, self.log)

    def start(self) -> None:
        """Open the listeners, then the pid file, then handle signals; raises ConfigError."""
        self.pid = os.getpid()
        self.log.info("Starting API-Hour %s on Gunicorn %s", __version__, gunicorn_version)
        if "GUNICORN_PID" in os.environ:
            self.master_pid = int(os.environ["GUNICORN_PID"])
            self.proc_name, self.master_name = self.proc_name + ".2", "Master.2"
        slots = self.num_workers if self.cfg.balance == "slots" else 0
        addresses = self._current.addresses
        self.LISTENERS = listeners.open_all(addresses, self.cfg.backlog, slots=slots)
        if self.cfg.pidfile is not None:
            self.pidfile = Pidfile(self.cfg.pidfile + (".2" if self.master_pid else ""))
            self.pidfile.create(self.pid)
        if self.cfg.metrics:
            metrics.open_folder(self.cfg.uid, self.cfg.gid)
        self.cfg.on_starting(self)
        self.init_signals()
        for listener in self.LISTENERS:
            self.log.info("Listening on %s at %s", listener.name, listener)
        if self.cfg.reload:
            reloader.start(self._current)
        self.cfg.when_ready(self)

    def init_signals(self) -> None:
        """Queue every signal, and let it end the master's wait."""
        super().init_signals()
        self._poller.watch_signals()

    # Wait

    def wait_for_signals(self, timeout: float = HEARTBEAT_CHECK) -> list[int]:
        """Wait for a signal, a worker's message or the next deadline; return the signals."""
        self._report()
        streams.drain()
        metrics.sample_master()
        now = time.monotonic()
        deadlines = [worker.state.kill_at for worker in self.WORKERS.values()]
        deadlines += [now + timeout, self._reporter.next, self._backoff.next]
        for worker in self._poller.wait(min(deadlines) - now):
            self._read_channel(worker)
        signals = []
        while not self.SIG_QUEUE.empty():
            signals.append(self.SIG_QUEUE.get_nowait())
        return signals

    def _report(self) -> None:
        """Tell systemd how the service is; healthy while a ready worker is not being killed."""
        ready = self._in_phase(Phase.READY)
        failed = "; the last reload failed, recycling is suspended"
        suffix = failed if self._recycling_suspended else ""
        status = f"{len(ready)} of {self.num_workers} workers ready{suffix}"
        self._reporter.report(status, healthy=any(not worker.state.killed_for for worker in ready))

    def _in_phase(self, phase: Phase) -> list[Worker]:
        return [worker for worker in self.WORKERS.values() if worker.state.phase is phase]

    # Reconcile

    def manage_workers(self) -> None:
        """Take steps until the target is reached, or until the next one has to be waited for."""
        while not self._stopping:
            target = Target(
                count=self.num_workers,
                surge=self.cfg.max_surge,
                current=self._current,
                candidate=self._candidate,
                recycling=not self._recycling_suspended,
            )
            step = next_step(self.WORKERS.values(), target)
            if isinstance(step, Drain):
                self._drain(step.worker)
            elif step and self._may_spawn():
                self._try_to_spawn(step)
            else:
                break
        self._cover_slots()

    def _drain(self, worker: Worker) -> None:
        """Let a worker finish its work and exit; one that is still booting is killed."""
        if worker.state.phase is Phase.BOOTING:
            worker.state.killed_for = "was no longer needed"
            self.kill_worker(worker.pid, signal.SIGKILL)
        worker.channel.send(Message.DRAIN)
        self._expect_exit(worker)

    def _expect_exit(self, worker: Worker) -> None:
        """Give a worker the time of a drain, and of what may follow it: cancelling and closing."""
        worker.state.phase = Phase.DRAINING
        worker.state.kill_at = time.monotonic() + self.cfg.graceful_timeout + 2 * CLOSE_GRACE

    def _may_spawn(self) -> bool:
        given_up = self._backoff.deaths > 0 and not self._ever_ready
        return self._backoff.over() and not given_up

    def _try_to_spawn(self, step: Spawn) -> None:
        try:
            self.spawn_worker(step.generation, step.reason)
        except OSError as error:  # no process, no descriptor or no disk space left
            self._backoff.note()
            self.log.error("Cannot start a worker: %s", error)
            if step.generation is self._candidate:
                self._reject_candidate(f"cannot start a worker: {error}")

    def _cover_slots(self) -> None:
        """Let ready workers accept on the slots of those that are gone."""
        count = max((len(listener.slots) for listener in self.LISTENERS), default=0)
        ready = self._in_phase(Phase.READY)
        if count <= 1 or not ready:
            return
        slotted = [listener for listener in self.LISTENERS if len(listener.slots) > 1]
        names = " ".join(listener.name for listener in slotted)
        for slot in uncovered(self.WORKERS.values(), count):
            worker = min(ready, key=lambda worker: len(worker.state.slots))
            worker.state.slots.add(slot)
            fds = [listener.of_slot(slot).fileno() for listener in slotted]
            worker.channel.send(Message.COVER, names, fds)

    # Spawn

    def spawn_worker(self, generation: Generation, reason: str = "start") -> None:
        """Fork one worker of ``generation``; raises OSError."""
        self.worker_age += 1
        cfg = generation.cfg
        slot = free_slot(self.WORKERS.values(), generation, max(1, self.num_workers))
        if reason == "start" and self._backoff.replaces_a_death():
            reason = "death"
        worker = Worker(
            *(self.worker_age, self.pid, self.LISTENERS, self.app, cfg.timeout / 2, cfg, self.log),
            generation=generation,
            slot=slot,
            started_for=reason,
        )
        deadline = time.monotonic() + cfg.boot_timeout
        worker.state = WorkerState(generation, self.worker_age, kill_at=deadline, slots={slot})
        for listener in self.LISTENERS:
            listener.grow(slot)
        cfg.pre_fork(self, worker)
        pid = os.fork()
        if pid == 0:
            self._run_worker_in_child(worker)
        worker.forked(pid)
        self.WORKERS[pid] = worker
        self._poller.add(worker)

    def _run_worker_in_child(self, worker: Worker) -> NoReturn:
        """Be ``worker`` from here to the end of this process.

        The master's ends of the other workers' channels are closed first: as long as a copy of
        such an end is open, its worker does not see the master die.
        """
        for sibling in self.WORKERS.values():
            sibling.close()
        self._poller.close()
        worker.pid = os.getpid()
        try:
            util._setproctitle(f"worker [{self.proc_name}]")
            self.log.info("Booting worker with pid: %s", worker.pid)
            self.cfg.post_fork(self, worker)
            worker.init_process()
            sys.exit(0)
        finally:
            self.cfg.worker_exit(self, worker)

    # Hear

    def _read_channel(self, worker: Worker) -> None:
        """Take in every message that a worker has sent."""
        for message, text in worker.channel.receive():
            if message is Message.READY and worker.state.phase is Phase.BOOTING:
                self._on_ready(worker)
            elif message is Message.FAILED:
                worker.state.failure = text
            elif message is Message.REPLACE:
                worker.state.replace_for = text
                self.log.info("Worker (pid: %s) asks to be replaced: %s", worker.pid, text)
            elif message is Message.DRAINING:
                self._expect_exit(worker)
        if worker.channel.closed:
            self._poller.remove(worker)

    def _on_ready(self, worker: Worker) -> None:
        worker.state.phase = Phase.READY
        worker.state.kill_at = math.inf
        self._ever_ready = True
        self.log.info("Worker ready (pid: %s)", worker.pid)
        systemd.notify(READY=1, MAINPID=self.pid)
        if self.cfg.check:
            print(f"{self._current.spec}: the configuration is good and a worker became ready")
            raise StopIteration  # as TERM does: run() stops everything
        if worker.generation is self._candidate:
            self._promote_candidate(worker.generation)

    # Kill

    def murder_workers(self) -> None:
        """Abort workers that are blocked or late: ABRT first, for the stacks, then KILL."""
        now = time.monotonic()
        for pid, worker in list(self.WORKERS.items()):
            state, timeout = worker.state, worker.cfg.timeout
            if now >= state.kill_at:
                late = "was not ready" if state.phase is Phase.BOOTING else "did not end"
                self._abort_then_kill(pid, worker, f"{late} in time")
            elif state.phase is not Phase.BOOTING and timeout:
                silence = now - worker.tmp.last_update()
                if silence > timeout:
                    reason = f"is blocked: no heartbeat for {silence:.0f} s"
                    self._abort_then_kill(pid, worker, reason)

    def _abort_then_kill(self, pid: int, worker: Worker, reason: str) -> None:
        """Send ABRT the first time, and KILL when the deadline has passed again."""
        if worker.state.killed_for:
            self.kill_worker(pid, signal.SIGKILL)
            worker.state.kill_at = math.inf
            return
        worker.state.killed_for = reason
        worker.state.kill_at = time.monotonic() + KILL_DELAY
        self.log.warning("Worker (pid: %s) %s", pid, reason)
        self.kill_worker(pid, signal.SIGABRT)

    # Reap

    def reap_workers(self) -> None:
        """Reap every child that ended; orphans too, because the master may be process 1."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                self.reexec_pid = 0 if pid == self.reexec_pid else self.reexec_pid
                if worker := self.WORKERS.pop(pid, None):
                    self._on_exit(worker, status)

    def _on_exit(self, worker: Worker, status: int) -> None:
        self._read_channel(worker)  # its last message may say why it failed
        self._poller.remove(worker)  # without EOF when a child of the worker holds its end
        state = worker.state
        cause = state.failure or worker.crash_report.describe(status, state.killed_for)
        worker.close()
        self.cfg.child_exit(self, worker)
        if state.phase is Phase.DRAINING or self._stopping:
            self.log.info("Worker (pid: %s) left: %s", worker.pid, cause)
        elif worker.generation is self._candidate:
            self._reject_candidate(cause)
        elif self._ever_ready:
            pause = self._backoff.note()
            self.log.error("Worker (pid: %s) died: %s; next in %.1f s", worker.pid, cause, pause)
        else:
            self._backoff.note()
            if not self.WORKERS:
                raise HaltServer(cause, 1)

    # Reload

    def reload(self) -> None:
        """Read a new generation; the old workers go on until one of its workers is ready."""
        self._stats["reloads"] += 1
        systemd.reloading()
        try:
            self._candidate = self.app.next_generation(self._current)
        except ConfigError as error:
            self._reject_candidate(str(error))
            return
        except Exception as error:  # gunicorn.conf.py may raise anything, but never end the master
            self.log.exception("The configuration could not be read")
            self._reject_candidate(f"{type(error).__name__}: {error}")
            return
        self._backoff.reset()
        self.cfg.on_reload(self)

    def _promote_candidate(self, generation: Generation) -> None:
        """Make the candidate, of which a worker is ready, the current generation."""
        self._current, self._candidate = generation, None
        self._recycling_suspended = False
        self.app.cfg = generation.cfg
        self.setup(self.app)
        self.log.reopen_files()
        self.log.info("Reloaded: new workers replace the old ones")

    def _reject_candidate(self, reason: str) -> None:
        self._candidate = None
        self._recycling_suspended = True
        self.log.error("Reload failed, the running workers stay: %s", reason)
        systemd.notify(READY=1)  # ends RELOADING=1

    # Upgrade

    def reexec(self) -> None:
        """Start the program anew beside this master, on the same sockets; USR2 asks for it."""
        if os.getpid() == 1:
            self.log.error("USR2 refused: process 1 cannot be replaced; restart the container")
        elif self.reexec_pid or self.master_pid:
            self.log.error("USR2 refused: an upgrade is under way; stop one of the two masters")
        else:
            self.reexec_pid = os.fork()
            if self.reexec_pid == 0:
                self._exec_successor()

    def _exec_successor(self) -> NoReturn:
        self.cfg.pre_exec(self)
        handed_over = {"GUNICORN_PID": str(os.getppid())}
        handed_over |= listeners.hand_over(self.LISTENERS) | metrics.hand_over()
        environ = {**self.cfg.env_orig, **handed_over}
        os.chdir(self.START_CTX["cwd"])
        command = [sys.executable, "-m", "api_hour", *sys.argv[1:]]
        os.execve(sys.executable, command, environ)  # noqa: S606 - no shell is wanted

    # Stop

    def stop(self, graceful: bool = True) -> None:
        """Drain every worker and wait for its exit; another TERM, INT or QUIT kills them all.

        For ``stop_delay`` seconds the workers are unready and still accept, so that load
        balancers stop sending before the listeners close.
        """
        self._stopping = True
        systemd.notify(STOPPING=1, STATUS="Stopping")
        self._stop_booting()
        if graceful and not self.cfg.reload:
            for worker in self.WORKERS.values():
                worker.channel.send(Message.UNREADY)
            self._run_until(time.monotonic() + self.cfg.stop_delay)
        # During an upgrade the other master still needs the files of the unix sockets.
        unlink = self.reexec_pid == self.master_pid == 0
        for listener in self.LISTENERS:
            listener.close(unlink=unlink)
        self.LISTENERS = []
        for worker in list(self.WORKERS.values()):  # Gunicorn removes one that cannot be killed
            if worker.state.phase is not Phase.DRAINING:
                self._drain(worker)
        if not graceful:
            self._shorten_deadlines(signal.SIGQUIT)
        self._run_until(math.inf)
        if unlink:
            metrics.remove_folder()

    def _stop_booting(self) -> None:
        """Kill workers that are still booting: their copies of the sockets would hold connections.

        Such a worker accepts nothing, but as long as it lives the kernel keeps the sockets open
        and lets clients connect to them.
        """
        booting = self._in_phase(Phase.BOOTING)
        for worker in booting:
            self._drain(worker)
        while any(worker.pid in self.WORKERS for worker in booting):
            self._run_until(time.monotonic() + 0.01)

    def _run_until(self, deadline: float) -> None:
        """Reap and kill until ``deadline`` or the last worker's exit; obey a second signal."""
        while self.WORKERS and (left := deadline - time.monotonic()) > 0:
            if ENDING & set(self.wait_for_signals(min(left, HEARTBEAT_CHECK))):
                self._shorten_deadlines(signal.SIGKILL)
            self.reap_workers()
            self.murder_workers()

    def _shorten_deadlines(self, number: signal.Signals) -> None:
        """Send every worker a signal, and leave it no more than KILL_DELAY."""
        for pid, worker in list(self.WORKERS.items()):
            worker.state.kill_at = min(worker.state.kill_at, time.monotonic() + KILL_DELAY)
            worker.state.killed_for = f"was sent {number.name} by the master"
            self.kill_worker(pid, number)

    def halt(self, reason: str | None = None, exit_status: int = 0) -> NoReturn:
        """Say why, stop the workers, and exit."""
        if reason is not None:
            self.log.critical("%s", reason)
        self.stop()
        self.log.info("Shutting down: %s", self.master_name)
        if self.pidfile is not None:
            self.pidfile.unlink()
        self.cfg.on_exit(self)
        sys.exit(exit_status)
