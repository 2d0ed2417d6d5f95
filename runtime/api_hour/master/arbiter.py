"""The master: it owns the listening sockets and the worker processes.

Theory of operation
===================
The master is Gunicorn's Arbiter with most of its decisions replaced. ``run()`` boots and then takes
turns: ``wait_for_signals()``, the handler of each signal (HUP calls ``reload``, USR2 ``reexec``,
TERM ``halt``, TTIN and TTOU change ``num_workers``), ``murder_workers()`` and ``manage_workers()``.
This module has them in the order in which they happen: boot, wait, reconcile, spawn, hear, kill,
reap, reload, upgrade, stop.

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
* A child is a child from its first instruction. ``Worker.live`` never returns: whatever is raised
  between the fork and READY ends in FAILED over the channel and ``os._exit``. So no child can come
  back into the frames below it, which are the master's.
* A hook of ``gunicorn.conf.py`` may raise anything, and TERM ends one that hangs (``long_calls``).
  One that prepares a worker fails that worker:
  ``pre_fork`` counts as a start that failed. One that only tells is logged, and nothing else.
  The same holds for the log, the pid file and systemd. What is left, an error that nobody has
  thought of, costs one turn.
* Workers are started and drained in one place, ``manage_workers``, which takes the steps of
  ``reconcile.next_step`` until nothing is left to do. Signals and deaths only change what is, or
  what is wanted.
* HUP makes a candidate generation. It becomes the current one when its first worker is ready;
  only then do the old workers drain, each once a new one is ready. A candidate that cannot be
  read, does not boot or is late is rejected, and the old workers never notice. Recycling stops
  until the next good reload: a replacement would run the code that has just failed.
* HUP resolves the folder of the start anew, so a symbolic link may have moved. When the folder of
  the current generation is gone at a respawn, the configuration is read again as by HUP.
* A reload is over when as many workers of its generation are ready as are wanted. Then the log,
  systemd and whoever asked by ``api_hour reload`` are told.
* A worker that was ready and died is replaced at once, or within MAX_GAP: it proves that workers
  can boot. Boots and forks that fail are repeated after growing pauses, until a worker is ready.
  The master gives up only if no worker ever became ready: the operator is still watching, and wants
  the cause. In development it waits for the next change.
* TERM to a worker is a request for a replacement: it drains when its successor is ready. A TERM to
  the whole process group thus reaches workers that go on until the master, which stops, drains
  them.
* Time in which the master itself did not run (SIGSTOP, a paused machine) is nobody's fault: no
  deadline and no missing heartbeat counts it.
* At most ``max_draining`` workers drain at once. The oldest beyond that are told to hurry, which
  cancels their remaining work as the drain's deadline would; but each has ``drain_idle`` first, so
  that a storm of reloads cuts long work only.
* The master keeps every listening socket open, and workers get duplicates. So no worker's end
  closes the last reference, which would lose the connections in the accept queue. With
  ``balance: slots`` a ready worker also accepts on the slots of those that are gone.
"""

import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from signal import Signals
from typing import Any, NoReturn, Protocol

from gunicorn import __version__ as gunicorn_version
from gunicorn import util
from gunicorn.arbiter import Arbiter as GunicornArbiter
from gunicorn.errors import HaltServer

from api_hour import __version__, metrics
from api_hour.config.generation import Generation
from api_hour.config.settings import MAX_WORKERS
from api_hour.exceptions import ConfigError
from api_hour.logs import observers, setup, streams
from api_hour.master import listeners, reloader, systemd
from api_hour.master.backoff import MAX_GAP, MAX_PAUSE, Backoff
from api_hour.master.long_calls import Interrupted, LongCalls
from api_hour.master.pidfile import PidFile
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
from api_hour.master.reload_requests import ReloadRequests
from api_hour.master.starter import READY, Starter
from api_hour.worker import hooks
from api_hour.worker.channel import Message
from api_hour.worker.crash_report import in_words
from api_hour.worker.hooks import HookError
from api_hour.worker.process import CLOSE_GRACE, Worker

HEARTBEAT_CHECK = 1.0  # seconds between two looks at the workers' heartbeats
KILL_DELAY = 2.0  # seconds that a worker has after ABRT, INT or QUIT
MAX_TURN = 2.0  # seconds between two turns; after more, this process has not run
ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
SAME_STOP = 1.0  # seconds in which TERM again is the same stop, sent to the group and to the master
HANGUP = 5.0  # seconds from the end of the terminal to the HUP that comes of it, at most
log = logging.getLogger("api_hour.master")


class Application(Protocol):
    """What the master needs of the application: it holds the configuration, and reads it again."""

    generation: Generation
    starter: Starter | None

    def enter_start_folder(self) -> str:
        """Go where the daemon was started, or to the root if that is gone; return where."""

    def next_generation(self, current: Generation) -> Generation:
        """Read the configuration again; raises ConfigError."""


class Arbiter(GunicornArbiter):  # type: ignore[misc]
    """Keeps the desired number of ready workers, of the newest good generation."""

    # Gunicorn's attributes that are set here as well.
    proc_name: str
    _num_workers: int | None
    pidfile: PidFile | None
    reexec_pid: int  # of the successor that USR2 started; 0 without one
    master_pid: int  # of the predecessor that started this master; 0 without one

    # Boot

    def __init__(self, app: Application) -> None:
        self._poller = Poller()
        self._backoff = Backoff(MAX_PAUSE)  # for boots that fail
        self._crashes = Backoff(MAX_GAP)  # of workers that were ready
        self._recycling = Backoff(MAX_GAP)  # a limit may be below what every worker needs
        self._calls = LongCalls()
        self._ended_at: dict[int, float] = {}  # by a signal's number and time.monotonic()
        self._terminal_seen = -math.inf  # by time.monotonic()
        self._reporter = systemd.Reporter()
        self._current = app.generation
        self._candidate: Generation | None = None
        self._ever_ready = False
        self._recycling_suspended = False
        self._stopping = False
        self._reload_began: float | None = None  # by time.monotonic(); None while none goes on
        self._lost: Generation | None = None  # whose folder was found gone
        self._has_let_go = False  # true in a child
        self._hands_over = False  # true while a worker or a successor is forked
        self._last_turn = time.monotonic()
        self._resumed_at = 0.0  # when this process ran again after a stop, by time.monotonic()
        self._reload_requests: ReloadRequests | None = None
        self._reloader: subprocess.Popen[bytes] | None = None  # ends when this end of its pipe does
        self._reloader_ended_at = 0.0  # by time.time(); 0 while it runs
        self._reloader_backoff = Backoff(MAX_PAUSE)
        with setup.opening(app.generation.veiled):
            super().__init__(app)
        self._pid_path = os.path.abspath(self.cfg.pidfile) if self.cfg.pidfile else ""

    def _set_num_workers(self, value: int) -> None:
        old: int | None = self._num_workers
        self._num_workers = value
        self._tell("nworkers_changed", self, value, old)

    num_workers = property(GunicornArbiter._get_num_workers, _set_num_workers)

    def setup(self, app: Application) -> None:
        """Take over the settings of ``app``; Gunicorn calls this before the first worker, too.

        Not raw_env, which Gunicorn sets here: what the next generation is read from, and its
        workers, would have the variables of this one.
        """
        environment = dict(os.environ)
        super().setup(app)
        os.environ.clear()
        os.environ.update(environment)
        setup.apply(self._current.logs, self.log)

    def run(self) -> NoReturn:
        """Boot, then take turns until a signal ends the daemon, or no worker can be had."""
        self.start()
        util._setproctitle(f"master [{self.proc_name}]")
        reason, status = None, 0
        try:
            self.manage_workers()
            while True:
                self._take_turn()
        except StopIteration:
            pass
        except HaltServer as halt:
            reason, status = halt.reason, halt.exit_status
        self.halt(reason, status)

    def start(self) -> None:
        """Lock the pid file, open the listeners, then handle signals; raises ConfigError."""
        self.pid = os.getpid()
        _refuse_unusable(self._current)
        log.info("Starting API-Hour %s on Gunicorn %s", __version__, gunicorn_version)
        log.info("Configuration: %s", self._current.origin)
        systemd.notify(STATUS="Starting")
        if "GUNICORN_PID" in os.environ:
            self.master_pid = int(os.environ["GUNICORN_PID"])
            self.proc_name, self.master_name = self.proc_name + ".2", "Master.2"
        if self._pid_path and not self.cfg.check:  # which runs beside a daemon
            self._take_pidfile(self._pid_path + (".2" if self.master_pid else ""))
        os.register_at_fork(after_in_child=self._let_go)
        try:
            slots = self.num_workers if self.cfg.balance == "slots" else 0
            wanted = self._current.listeners
            self.LISTENERS = listeners.open_all(
                wanted, self.cfg.backlog, slots=slots, trusted=self._current.trusted
            )
            _open_metrics(self._current)
            self._tell("on_starting", self, may_exit=True)
            self.init_signals()
            self._log_listeners()
            if self.cfg.reload:
                self._reloader = reloader.start(self._current, time.time())
            self._tell("when_ready", self, may_exit=True)
        except BaseException:
            self._close_listeners(unlink=not self.master_pid)
            self._remove_pidfile()
            raise

    def _take_pidfile(self, path: str) -> None:
        """Lock the pid file, and listen beside it for reloads; raises ConfigError."""
        trusted = self._current.trusted
        self.pidfile = PidFile(path, self.pid, trusted)
        self._reload_requests = None
        try:
            self._reload_requests = ReloadRequests(path, trusted)
        except (OSError, ConfigError) as error:
            cause = getattr(error, "strerror", None) or error
            log.error("`api_hour reload` cannot be answered: %s.sock: %s", path, cause)
            return
        self._poller.watch(self._reload_requests, self._accept_reload_requests)

    def _remove_pidfile(self) -> None:
        if self._reload_requests is not None:
            self._poller.forget(self._reload_requests)
            self._reload_requests.remove()
            self._reload_requests = None
        if self.pidfile is not None:
            self.pidfile.remove()
            self.pidfile = None

    def _log_listeners(self) -> None:
        for listener in self.LISTENERS:
            origin = self._current.listeners[listener.name].origin
            for url in listener.urls():
                log.info("Listening on %s at %s%s", listener.name, url, origin)
            if self.cfg.balance == "slots" and not listener.shares:
                log.warning(
                    "balance: slots has no effect on listener %s: only tcp and udp addresses that "
                    "the daemon opens itself have slots",
                    listener.name,
                )
        self._log_warnings(self._current)

    def _log_warnings(self, generation: Generation) -> None:
        for warning in generation.warnings:
            if self.cfg.check:  # which logs nothing
                print(f"api_hour: warning: {warning}", file=sys.stderr)
            log.warning("%s", warning)

    def init_signals(self) -> None:
        """Queue every signal, and let it end the master's wait."""
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _has_terminal():  # no nohup
            self._terminal_seen = time.monotonic()
        super().init_signals()
        self._poller.watch_signals()

    def signal(self, number: int, frame: object) -> None:
        """Queue a signal, from its handler; one that ends the daemon ends what takes long, too."""
        if number not in ENDING:
            super().signal(number, frame)
        elif time.monotonic() > self._ended_at.get(number, -math.inf) + SAME_STOP:
            self._ended_at[number] = time.monotonic()
            super().signal(number, frame)
            self._calls.end()

    def _tell(self, name: str, *arguments: object, cfg: Any = None, may_exit: bool = False) -> None:
        """Call a hook that only tells; what it raises is logged.

        A hook of the start may end it by SystemExit: then nothing serves yet.
        """
        try:
            self._call_hook(cfg or self.cfg, name, *arguments)
        except HookError as error:
            if may_exit and isinstance(error.__cause__, SystemExit):
                raise
            log.error("%s", error)

    def _call_hook(self, cfg: Any, name: str, *arguments: object) -> None:
        with self._calls.watched(f"The hook {name}"):
            hooks.call(cfg, name, *arguments)

    # Wait

    def _take_turn(self) -> None:
        """Wait for what happens, and do what follows from it."""
        if self._terminal_seen > -math.inf and _has_terminal():
            self._terminal_seen = time.monotonic()
        try:
            self.maybe_promote_master()
            for number in self.wait_for_signals():
                self._handle(number)
            self.murder_workers()
            self.manage_workers()
            if self._reloader_ended_at and self._reloader_backoff.over():
                self._restart_reloader()
        except (StopIteration, HaltServer, SystemExit):
            raise
        except (Exception, Interrupted):  # whatever it is: somebody has to watch the workers
            log.exception("The master could not finish a turn; it goes on")
            time.sleep(HEARTBEAT_CHECK)

    def _handle(self, number: int) -> None:
        name = self.SIG_NAMES[number]
        level = logging.DEBUG if number == signal.SIGCHLD else logging.INFO  # CHLD comes often
        log.log(level, "Handling signal: %s", name)
        getattr(self, f"handle_{name}")()

    def handle_hup(self) -> None:
        """Reload; end if HUP comes of a terminal that was closed, as every program does."""
        if time.monotonic() < self._terminal_seen + HANGUP and not _has_terminal():
            log.info("The terminal is gone: the daemon ends")
            raise StopIteration
        self.reload()

    def handle_ttin(self) -> None:
        """Run one worker more."""
        if self.num_workers == MAX_WORKERS:
            log.error("TTIN refused: there may be at most %d workers", MAX_WORKERS)
        else:
            super().handle_ttin()

    def handle_usr1(self) -> None:
        """Open the files of the logs again, in the workers as well."""
        self.log.reopen_files()
        self.kill_workers(signal.SIGUSR1)

    def maybe_promote_master(self) -> None:
        """Take over the pid file's name once the master that USR2 replaced is gone."""
        if self.master_pid == 0 or self.master_pid == os.getppid():
            return
        log.info("The old master is gone: this one takes its place")
        self.master_name, self.master_pid, self.proc_name = "Master", 0, self.cfg.proc_name
        os.environ.pop("GUNICORN_PID", None)
        util._setproctitle(f"master [{self.proc_name}]")
        if self.pidfile is not None:
            successor, requests = self.pidfile, self._reload_requests
            try:
                self._take_pidfile(self._pid_path)
            except ConfigError as error:
                log.error("The pid file stays %s: %s", successor.path, error)
                return
            if requests is not None:
                self._poller.forget(requests)
                requests.remove()
            successor.remove()

    def wait_for_signals(self, timeout: float = HEARTBEAT_CHECK) -> Iterator[int]:
        """Wait for a signal, a worker's message or the next deadline; return the signals."""
        self._report()
        streams.drain()
        metrics.sample_master()
        now = time.monotonic()
        deadlines = [worker.state.kill_at for worker in self.WORKERS.values()]
        deadlines += [backoff.next for backoff in (self._backoff, self._crashes, self._recycling)]
        deadlines += [now + timeout, self._reporter.next]
        for take_in in self._poller.wait(min(deadlines) - now):
            take_in()
        return self._take_signals()

    def _take_signals(self) -> Iterator[int]:
        """Yield the queued signals; one that raises keeps those behind it in the queue."""
        while not self.SIG_QUEUE.empty():
            number = self.SIG_QUEUE.get_nowait()
            if number in ENDING:
                self._calls.asked_to_end = False
            yield number

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
            elif not (step and self._may_spawn(step) and self._try_to_spawn(step)):
                break
            if not self.SIG_QUEUE.empty():  # which the next turn handles; then this goes on
                break
        self._cover_slots()
        self._hurry_the_oldest()
        self._end_reload()

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
        worker.state.drains_since = time.monotonic()
        worker.state.kill_at = time.monotonic() + worker.cfg.graceful_timeout + 2 * CLOSE_GRACE

    def _may_spawn(self, step: Spawn) -> bool:
        given_up = self._backoff.deaths > 0 and not self._ever_ready
        paused = step.reason == "recycling" and not self._recycling.over()
        return self._backoff.over() and self._crashes.over() and not (given_up or paused)

    def _try_to_spawn(self, step: Spawn) -> bool:
        """Take the step; return False if it has to wait for the candidate."""
        generation = step.generation
        if (
            self._ever_ready
            and generation is self._current
            and not os.path.isdir(generation.folder)
        ):
            return self._replace_lost_release(generation)
        try:
            self.spawn_worker(generation, step.reason)
        except Exception as error:  # no process or descriptor left, a hook that raises
            known = isinstance(error, ConfigError | OSError)
            cause = str(error) if known else observers.describe(error)
            self._on_loss(generation, f"cannot start a worker: {cause}", self._backoff)
        return True

    def _replace_lost_release(self, generation: Generation) -> bool:
        """Read the configuration again, because the folder of the current release is gone."""
        if self._candidate is not None:
            return False
        if self._lost is not generation:
            self._lost = generation
            log.warning(
                "The release %s is gone: reading the configuration again, as at a reload",
                generation.folder,
            )
        if not self._read_candidate():
            self._backoff.note()
        return True

    def _on_loss(self, generation: Generation, cause: str, backoff: Backoff) -> None:
        """Go on after a worker that could not start, or died: back off, or give up."""
        told = generation is self._candidate
        if told:
            self._reject_candidate(cause)
            if self._ever_ready and self._current is not self._lost:
                return  # the workers of the current generation go on
        pause = backoff.note()
        if pause and generation is self._current and self._candidate is None:
            text = f"not every new worker becomes ready, which goes on being tried: {cause}"
            self._answer_reload_requests(text, ok=False)
        if not (self._ever_ready or self.cfg.reload or self.WORKERS):
            raise HaltServer(cause, 1)
        if not told and self._ever_ready:
            log.error("%s; next in %.1f s", cause, pause)
        elif not told and self.cfg.reload:
            log.error("%s; waiting for a change", cause)

    def _hurry_the_oldest(self) -> None:
        """Let no more than ``max_draining`` workers take more than their window for idle peers."""
        now = time.monotonic()
        limit = self.cfg.max_draining or 2 * self.num_workers
        draining = sorted(self._in_phase(Phase.DRAINING), key=lambda worker: worker.state.age)
        for worker in draining[: max(0, len(draining) - limit)]:
            fair = now - worker.state.drains_since >= worker.cfg.drain_idle
            if fair and not worker.state.hurried:
                log.warning(
                    "Worker (pid: %s) is told to hurry: %d drain, and max_draining is %d",
                    *(worker.pid, len(draining), limit),
                )
                worker.state.hurried = True
                worker.channel.send(Message.HURRY)
                deadline = time.monotonic() + 2 * CLOSE_GRACE
                worker.state.kill_at = min(worker.state.kill_at, deadline)

    def _cover_slots(self) -> None:
        """Let ready workers accept on the slots of those that are gone."""
        count = max((listener.slot_count for listener in self.LISTENERS), default=0)
        ready = self._in_phase(Phase.READY)
        if count <= 1 or not ready:
            return
        for slot in uncovered(self.WORKERS.values(), count):
            worker = min(ready, key=lambda worker: len(worker.state.slots))
            worker.state.slots.add(slot)
            for listener in self.LISTENERS:
                fds = [sock.fileno() for sock in listener.beside(slot)]
                if fds:
                    worker.channel.send(Message.COVER, " ".join([listener.name] * len(fds)), fds)

    # Spawn

    def spawn_worker(self, generation: Generation, reason: str = "start") -> None:
        """Fork one worker of ``generation``; what this raises has left nothing behind."""
        self.worker_age += 1
        cfg = generation.cfg
        slot = free_slot(self.WORKERS.values(), generation, max(1, self.num_workers))
        if reason == "start" and self._backoff.replaces_a_death():
            reason = "death"
        worker: Worker = cfg.worker_class(
            *(self.worker_age, self.pid, self.LISTENERS, self.app, cfg.timeout / 2, cfg, self.log),
            generation=generation,
            slot=slot,
            started_for=reason,
        )
        # A developer may stand in a debugger while the project is imported.
        limit = (not cfg.reload and cfg.boot_timeout) or math.inf
        deadline = time.monotonic() + limit
        worker.state = WorkerState(generation, self.worker_age, kill_at=deadline, slots={slot})
        try:
            for listener in self.LISTENERS:
                listener.grow(slot)
            self._call_hook(cfg, "pre_fork", self, worker)
            pid = self._fork(worker)
        except BaseException:
            worker.discard()
            raise
        worker.forked(pid)
        if reason == "recycling":
            self._recycling.note()
        self.WORKERS[pid] = worker
        self._poller.watch(worker.channel, lambda: self._read_channel(worker))

    def _fork(self, worker: Worker) -> int:
        """Return the child's pid; in the child, be the worker.

        Signals wait meanwhile, so that none meets the master's handlers in the child.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = self._fork_with_listeners()
            if pid == 0:
                worker.live(self, mask)
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _fork_with_listeners(self) -> int:
        self._hands_over = True
        try:
            return os.fork()
        finally:
            self._hands_over = False

    def _let_go(self) -> None:
        """Close what only the master needs, in a child: a worker, or one that a hook has forked.

        As long as a copy of the master's end of a channel is open, its worker does not see the
        master die; a copy of the pid file would keep its lock, and one of a listener its port.
        """
        if self._has_let_go:  # a worker's child inherits this hook
            return
        self._has_let_go = True
        if not self._hands_over:
            self._close_listeners(unlink=False)
        signal.set_wakeup_fd(-1)
        for number in (*self.SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for sibling in self.WORKERS.values():
            sibling.close()
        self._poller.close()
        for held in (self.pidfile, self._reload_requests, self.app.starter):
            if held is not None:
                held.close()

    # Hear

    def _read_channel(self, worker: Worker) -> None:
        """Take in every message that a worker has sent."""
        for message, text in worker.channel.receive():
            if message is Message.READY and worker.state.phase is Phase.BOOTING:
                self._on_ready(worker)
            elif message is Message.BOOTS:
                worker.state.doing = text
            elif message is Message.FAILED:
                worker.state.failure = text
                deadline = time.monotonic() + 2 * CLOSE_GRACE  # its threads may hang
                worker.state.kill_at = min(worker.state.kill_at, deadline)
            elif message in (Message.REPLACE, Message.TOLD):
                self._on_request(worker, text, told=message is Message.TOLD)
            elif message is Message.DRAINING and worker.state.phase is Phase.READY:
                self._crashes.note()  # it serves no more, as if it had died
                self._expect_exit(worker)
        if worker.channel.closed:
            self._poller.forget(worker.channel)
        if worker.channel.broken and worker.pid in self.WORKERS and not worker.state.killed_for:
            worker.state.killed_for = f"{worker.channel.broken}, and was killed"
            self.kill_worker(worker.pid, signal.SIGKILL)

    def _on_request(self, worker: Worker, reason: str, *, told: bool) -> None:
        """Note that a worker asks to be replaced: its first wish, and that it was told to leave."""
        state = worker.state
        if not state.replace_for or told > state.told:
            state.replace_for, state.told = reason or "it does not say why", told
            log.info("Worker (pid: %s) asks to be replaced: %s", worker.pid, state.replace_for)

    def _on_ready(self, worker: Worker) -> None:
        worker.state.phase = Phase.READY
        worker.state.kill_at = math.inf
        self._ever_ready = True
        self._backoff.reset()
        log.info("Worker ready (pid: %s)", worker.pid)
        if self._reload_began is None:  # its end is told when it is over
            systemd.notify(READY=1, MAINPID=self.pid)
        if self.app.starter is not None:
            self.app.starter.tell(READY)
        if self.cfg.check:
            worker.checked()
            raise StopIteration  # as TERM does: run() stops everything
        if worker.generation is self._candidate:
            self._promote_candidate(worker.generation)

    # Kill

    def murder_workers(self) -> None:
        """Abort workers that are blocked or late: ABRT first, for the stacks, then KILL."""
        now = time.monotonic()
        self._forgive_a_stop(now)
        for pid, worker in list(self.WORKERS.items()):
            state, cfg = worker.state, worker.cfg
            if now >= state.kill_at:
                late = "did not end in time"
                if state.phase is Phase.BOOTING:
                    late = f"was not ready in time (boot_timeout: {cfg.boot_timeout:g} s)"
                    late += f" while {state.doing}" if state.doing else ""
                self._abort_then_kill(pid, worker, late)
            elif state.phase is not Phase.BOOTING and cfg.timeout and not cfg.reload:
                silence = now - max(worker.tmp.last_update(), self._resumed_at)
                if silence > cfg.timeout:
                    reason = f"is blocked: no heartbeat for {silence:.0f} s"
                    self._abort_then_kill(pid, worker, reason)

    def _forgive_a_stop(self, now: float) -> None:
        """Give the workers the time back in which this process, and perhaps they, did not run."""
        pause, self._last_turn = now - self._last_turn, now
        if pause > MAX_TURN:
            self._resumed_at = now
            for worker in self.WORKERS.values():
                worker.state.kill_at += pause

    def kill_worker(self, pid: int, number: Signals) -> None:
        """Send a signal to a worker; one that is gone will be reaped."""
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def _abort_then_kill(self, pid: int, worker: Worker, reason: str) -> None:
        """Send ABRT the first time, and KILL when the deadline has passed again."""
        if worker.state.killed_for:
            self.kill_worker(pid, signal.SIGKILL)
            worker.state.kill_at = math.inf
            return
        worker.state.killed_for = reason
        worker.state.kill_at = time.monotonic() + KILL_DELAY
        log.warning("Worker (pid: %s) %s", pid, reason)
        self.kill_worker(pid, signal.SIGABRT)

    # Reap

    def reap_workers(self) -> None:
        """Reap every child that ended; orphans too, because the master may be process 1."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                if pid == self.reexec_pid:
                    self.reexec_pid = 0
                    log.warning("The new master (pid: %s) is gone; this one goes on", pid)
                    self._reporter.report("The new master is gone", healthy=True)  # to install.sh
                if self._reloader is not None and pid == self._reloader.pid:
                    self._on_reloader_exit(in_words(status))
                if worker := self.WORKERS.pop(pid, None):
                    self._on_exit(worker, status)

    def _on_exit(self, worker: Worker, status: int) -> None:
        self._read_channel(worker)  # its last message may say why it failed
        self._poller.forget(worker.channel)  # without EOF if a child of the worker holds its end
        state = worker.state
        ended = worker.crash_report.describe(status, state.killed_for, worker.generation.folder)
        cause = state.failure or ended
        if state.doing and cause == ended and state.phase is Phase.BOOTING and not state.killed_for:
            cause = f"it ended while {state.doing}: {ended}"
        worker.close()
        self._tell("child_exit", self, worker, cfg=worker.cfg)
        if state.phase is Phase.DRAINING or self._stopping:
            log.info("Worker (pid: %s) left: %s", worker.pid, cause)
            return
        self._backoff.to_replace += worker.generation is self._current
        if self._ever_ready and worker.generation is not self._candidate:
            cause = f"Worker (pid: {worker.pid}) died: {cause}"
        backoff = self._crashes if state.phase is Phase.READY else self._backoff
        self._on_loss(worker.generation, cause, backoff)

    def _on_reloader_exit(self, cause: str) -> None:
        if self._reloader is not None:
            self._reloader.communicate()  # closes its pipe
        self._reloader_ended_at = time.time()
        pause = self._reloader_backoff.note()
        log.error("Live reload has ended (%s) and starts again in %.1f s", cause, pause)

    def _restart_reloader(self) -> None:
        try:
            self._reloader = reloader.start(self._current, self._reloader_ended_at)
            self._reloader_ended_at = 0.0
        except OSError as error:  # no process is left
            self._on_reloader_exit(str(error))

    # Reload

    def reload(self) -> None:
        """Read a new generation; the old workers go on until one of its workers is ready."""
        self._stats["reloads"] += 1
        self._reload_began = time.monotonic()
        systemd.reloading()
        if self._read_candidate():
            self._backoff.reset()
            self._tell("on_reload", self, cfg=self._candidate.cfg if self._candidate else None)

    def _accept_reload_requests(self) -> None:
        if self._reload_requests is None or not self._reload_requests.accept():
            return
        if self._stopping:
            self._answer_reload_requests("the daemon is stopping", ok=False)
            return
        log.info("Reloading: `api_hour reload` asks for it")
        self.reload()

    def _read_candidate(self) -> bool:
        """Read the configuration, where the daemon was started, into a candidate."""
        try:
            with self._calls.watched("Reading the configuration"):
                candidate = self.app.next_generation(self._current)
            _refuse_unusable(candidate)
            _open_metrics(candidate)
            self._candidate = candidate
        except (ConfigError, Interrupted) as error:
            self._reject_candidate(str(error))
        except (Exception, SystemExit) as error:  # gunicorn.conf.py may raise anything
            log.exception("The configuration could not be read")
            self._reject_candidate(observers.describe(error))
        return self._candidate is not None

    def _promote_candidate(self, generation: Generation) -> None:
        """Make the candidate, of which a worker is ready, the current generation."""
        self._current, self._candidate = generation, None
        self._recycling_suspended = False
        self.app.cfg = generation.cfg
        self.setup(self.app)
        self.log.reopen_files()
        self._log_warnings(generation)
        if self.num_workers > 1:
            log.info("Reloading: the first new worker is ready, %d to go", self.num_workers - 1)

    def _reject_candidate(self, reason: str) -> None:
        self._candidate = None
        self._reload_began = None
        self._recycling_suspended = True
        kept = ", the running workers stay" if self._in_phase(Phase.READY) else ""
        log.error("Reload failed%s: %s", kept, reason)
        self._answer_reload_requests(reason, ok=False)
        systemd.notify(READY=1)  # ends RELOADING=1

    def _end_reload(self) -> None:
        """Tell that the reload is over if it is: all wanted workers are new, and ready."""
        if self._reload_began is None or self._candidate is not None:
            return
        ready = self._in_phase(Phase.READY)
        new = sum(worker.generation is self._current for worker in ready)
        if new < self.num_workers or new < len(ready):
            return
        seconds, self._reload_began = time.monotonic() - self._reload_began, None
        draining = len(self._in_phase(Phase.DRAINING))
        workers = "worker is" if new == 1 else "workers are"
        text = f"Reloaded: {new} new {workers} ready after {seconds:.1f} s; draining: {draining}"
        log.info("%s", text)
        self._answer_reload_requests(text, ok=True)
        systemd.notify(READY=1, MAINPID=self.pid)

    def _answer_reload_requests(self, text: str, *, ok: bool) -> None:
        if self._reload_requests is not None:
            self._reload_requests.answer(text, ok=ok)

    # Upgrade

    def reexec(self) -> None:
        """Start the program anew beside this master, on the same sockets; USR2 asks for it."""
        if os.getpid() == 1:
            log.error("USR2 refused: process 1 cannot be replaced; restart the container")
        elif self.reexec_pid or self.master_pid:
            log.error("USR2 refused: an upgrade is under way; stop one of the two masters")
        else:
            try:
                self.reexec_pid = self._fork_with_listeners()
            except OSError as error:
                log.error("USR2 failed: no process can be started: %s", error.strerror)
                return
            if self.reexec_pid == 0:
                self._exec_successor()

    def _exec_successor(self) -> NoReturn:
        """Become the new program, or end: this process is a copy of the master, and never one."""
        try:
            hooks.call(self.cfg, "pre_exec", self)
            handed_over = {"GUNICORN_PID": str(os.getppid())}
            handed_over |= listeners.hand_over(self.LISTENERS) | metrics.hand_over()
            # The watchdog is meant for the process of this number, which becomes the successor.
            environ = {**self.cfg.env_orig, **handed_over, "WATCHDOG_PID": str(os.getpid())}
            self.app.enter_start_folder()
            # -P keeps the project's modules from taking the place of Python's in the master.
            command = [sys.executable, "-P", "-m", "api_hour", *sys.argv[1:]]
            os.execve(sys.executable, command, environ)  # noqa: S606 - no shell is wanted
        except BaseException as error:
            log.error("USR2 failed: %s", error if isinstance(error, HookError) else repr(error))
        finally:
            os._exit(1)

    # Stop

    def stop(self, graceful: bool = True) -> None:
        """Drain every worker and wait for its exit; another TERM, INT or QUIT kills them all.

        One of the same kind within SAME_STOP is not another one.

        For ``stop_delay`` seconds the workers are unready and still accept, so that load
        balancers stop sending before the listeners close.
        """
        self._stopping = True
        self._answer_reload_requests("the daemon is stopping", ok=False)
        if self.reexec_pid:  # systemd believes the main process, and follows to the next one
            systemd.notify(MAINPID=self.reexec_pid)
        elif not self.master_pid:
            systemd.notify(STOPPING=1, STATUS="Stopping")
        self._stop_booting()
        if graceful and not self.cfg.reload:
            for worker in self.WORKERS.values():
                worker.channel.send(Message.UNREADY)
            self._run_until(time.monotonic() + self.cfg.stop_delay)
        # During an upgrade the other master still needs the files of the unix sockets.
        unlink = self.reexec_pid == self.master_pid == 0
        self._close_listeners(unlink=unlink)
        for worker in list(self.WORKERS.values()):
            if worker.state.phase is not Phase.DRAINING:
                self._drain(worker)
        if not graceful:
            self._shorten_deadlines(signal.SIGQUIT)
        self._run_until(math.inf)
        if unlink:
            metrics.remove_folder()

    def _close_listeners(self, *, unlink: bool) -> None:
        for listener in self.LISTENERS:
            try:
                listener.close(unlink=unlink, trusted=self._current.trusted)
            except (OSError, ConfigError) as error:
                cause = getattr(error, "strerror", None) or error
                log.error("The file of listener %s stays: %s", listener.name, cause)
        self.LISTENERS = []

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
            if again := ENDING & set(self.wait_for_signals(min(left, HEARTBEAT_CHECK))):
                log.warning(
                    "Handling signal: %s, again: what is left is killed", self.SIG_NAMES[min(again)]
                )
                self._shorten_deadlines(signal.SIGKILL)
            self.reap_workers()
            self.murder_workers()

    def _shorten_deadlines(self, number: Signals) -> None:
        """Send every worker a signal, and leave it no more than KILL_DELAY."""
        for pid, worker in list(self.WORKERS.items()):
            worker.state.kill_at = min(worker.state.kill_at, time.monotonic() + KILL_DELAY)
            worker.state.killed_for = f"was sent {number.name} by the master"
            self.kill_worker(pid, number)

    def halt(self, reason: str | None = None, exit_status: int = 0) -> NoReturn:
        """Say why, stop the workers, and exit."""
        if reason is not None:
            log.critical("%s", reason)
            if self.app.starter is not None:
                self.app.starter.tell(reason)
        self.stop()
        log.info("Shutting down: %s", self.master_name)
        self._remove_pidfile()
        self._tell("on_exit", self)
        sys.exit(exit_status)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _refuse_unusable(generation: Generation) -> None:
    """Raise ConfigError for settings with which no worker could start."""
    cfg = generation.cfg
    if cfg.workers < 1:
        raise ConfigError("workers must be above zero, got 0: nobody would serve the listeners")
    try:
        tempfile.TemporaryFile(dir=cfg.worker_tmp_dir).close()
    except OSError as error:
        folder = generation.veiled.get("worker_tmp_dir") or cfg.worker_tmp_dir
        raise ConfigError(
            "worker_tmp_dir: the files of the heartbeats cannot be made in "
            f"{folder or 'the folder of temporary files'}: {error.strerror}: name a "
            "folder that exists and that this user may write to, for example /dev/shm"
        ) from None


def _open_metrics(generation: Generation) -> None:
    """Make the folder of the metrics unless it is there, before a worker needs it."""
    if generation.cfg.metrics:
        metrics.open_folder(generation.cfg.uid, generation.cfg.gid)
