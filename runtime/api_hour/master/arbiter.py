"""The master: it owns the sockets; start, reload, upgrade and stop, in this order.

It never imports the project's code and never blocks.
"""

import math
import os
import signal
import sys
import time
from typing import NoReturn

from gunicorn import __version__ as gunicorn_version
from gunicorn.pidfile import Pidfile

from api_hour import __version__, metrics
from api_hour.exceptions import ConfigError
from api_hour.master import listeners, reloader, systemd
from api_hour.master.fleet import QUICK, TICK, Fleet
from api_hour.master.reconcile import State
from api_hour.worker.channel import Message

ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


class Arbiter(Fleet):
    """Run the service from its first worker to its last."""

    def start(self) -> None:
        """Open the listeners, then the pid file and the signals; raises ConfigError."""
        self.pid = os.getpid()
        self.log.info("Starting API-Hour %s on Gunicorn %s", __version__, gunicorn_version)
        if "GUNICORN_PID" in os.environ:
            self.master_pid = int(os.environ["GUNICORN_PID"])
            self.proc_name, self.master_name = self.proc_name + ".2", "Master.2"
        slots = self.num_workers if self.cfg.balance == "slots" else 0
        addresses = self._generation.addresses
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
            reloader.start(self._generation)
        self.cfg.when_ready(self)

    def init_signals(self) -> None:
        """Queue every signal, and let it end the master's wait."""
        super().init_signals()
        self._mailbox.hear_signals()

    def reload(self) -> None:
        """Open a new generation; what runs goes on until one of its workers is ready."""
        self._stats["reloads"] += 1
        systemd.reloading()
        try:
            self._candidate = self.app.next_generation(self._generation)
        except ConfigError as error:
            self._give_up(str(error))
            return
        except Exception as error:  # a bad deploy must never end the master
            self.log.exception("The configuration could not be read")
            self._give_up(f"{type(error).__name__}: {error}")
            return
        self._backoff.reset()
        self.cfg.on_reload(self)

    def reexec(self) -> None:
        """Start the program anew beside this one, on the same sockets; USR2 asks for it."""
        if os.getpid() == 1:
            self.log.error("USR2 refused: process 1 cannot be replaced; restart the container")
        elif self.reexec_pid or self.master_pid:
            self.log.error("USR2 refused: an upgrade is under way; end one of the two masters")
        else:
            self.reexec_pid = os.fork()
            if self.reexec_pid == 0:
                self._become_successor()

    def _become_successor(self) -> NoReturn:
        self.cfg.pre_exec(self)
        mine = {"GUNICORN_PID": str(os.getppid())}
        mine |= listeners.hand_over(self.LISTENERS) | metrics.hand_over()
        environ = {**self.cfg.env_orig, **mine}
        os.chdir(self.START_CTX["cwd"])
        command = [sys.executable, "-m", "api_hour", *sys.argv[1:]]
        os.execve(sys.executable, command, environ)  # noqa: S606 - no shell is wanted

    def stop(self, graceful: bool = True) -> None:
        """Drain every worker and wait for its end; a second TERM, INT or QUIT ends all at once."""
        self._stopping = True
        systemd.notify(STOPPING=1, STATUS="Stopping")
        self._end_booting()
        if graceful and not self.cfg.reload:
            self._send(Message.UNREADY)
            self._pass(time.monotonic() + self.cfg.stop_delay)
        unlink = self.reexec_pid == self.master_pid == 0
        for listener in self.LISTENERS:
            listener.close(unlink=unlink)
        self.LISTENERS = []
        for worker in list(self.WORKERS.values()):
            if worker.standing.state is not State.DRAINING:
                self._dismiss(worker)
        if not graceful:
            self._hurry(signal.SIGQUIT)
        self._pass(math.inf)
        if unlink:
            metrics.remove_folder()

    def _end_booting(self) -> None:
        """End workers that still boot: their copies of the sockets would hold connections."""
        booting = [one for one in self.WORKERS.values() if one.standing.state is State.BOOTING]
        for worker in booting:
            self._dismiss(worker)
        while any(one.pid in self.WORKERS for one in booting):
            self._pass(time.monotonic() + 0.01)

    def _send(self, message: Message) -> None:
        for worker in self.WORKERS.values():
            worker.channel.send(message)

    def _pass(self, until: float) -> None:
        """Do the chores until ``until`` or the last worker's end, and obey a second signal."""
        while self.WORKERS and (left := until - time.monotonic()) > 0:
            if ENDING & set(self.wait_for_signals(min(left, TICK))):
                self._hurry(signal.SIGKILL)
            self.reap_workers()
            self.murder_workers()

    def _hurry(self, number: signal.Signals) -> None:
        for pid, worker in list(self.WORKERS.items()):
            worker.standing.kill_at = min(worker.standing.kill_at, time.monotonic() + QUICK)
            worker.standing.killed_for = f"was sent {number.name} by the master"
            self.kill_worker(pid, number)

    def halt(self, reason: str | None = None, exit_status: int = 0) -> NoReturn:
        """Say why, stop the workers, and leave."""
        if reason is not None:
            self.log.critical("%s", reason)
        self.stop()
        self.log.info("Shutting down: %s", self.master_name)
        if self.pidfile is not None:
            self.pidfile.unlink()
        self.cfg.on_exit(self)
        sys.exit(exit_status)
