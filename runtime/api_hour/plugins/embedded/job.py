"""COMMAND as the terminal's foreground job, and the queue of signals meant for it."""

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

from api_hour.plugins.embedded.host import die_with_parent

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
FORWARDED = (*STOP_SIGNALS, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)
# Seconds in which a second TERM is the same one: `kill` of a process group reaches the supervisor,
# and make, which then sends it another.
REPEAT_WINDOW = 0.1


class SignalQueue:
    """Queues signals, exits of children and hang-ups until they are asked for; loses none.

    The handlers do nothing: Python writes each signal's number to a pipe (set_wakeup_fd), which can
    be polled together with descriptors, and with a timeout.
    """

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in FORWARDED:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup's choice is COMMAND's, too
                signal.signal(number, lambda *_: None)

    def watch_hang_up(self, descriptor: int) -> None:
        """Count the hang-up of a terminal or a pipe as a TERM."""
        self._poll.register(descriptor, 0)  # no event asked for: errors and hang-ups always come

    def wait(self, seconds: float | None) -> list[int]:
        """Return the signals to forward after any news, or after ``seconds``; None: no limit."""
        numbers: list[int] = []
        for descriptor, _ in self._poll.poll(None if seconds is None else seconds * 1000):
            if descriptor == self._reader:
                numbers += os.read(descriptor, 4096)  # one byte a signal
            else:
                self._poll.unregister(descriptor)
                numbers.append(signal.SIGTERM)
        return [number for number in numbers if number in FORWARDED]

    def pause(self, seconds: float) -> None:
        """Wait while the server starts; exit the process when a signal asks for that."""
        if stop_signals := set(STOP_SIGNALS) & set(self.wait(seconds)):
            sys.exit(128 + stop_signals.pop())


class ForegroundJob:
    """COMMAND in a process group of its own, which has the terminal while it runs."""

    def __init__(
        self, command: list[str], environment: dict[str, str], signals: SignalQueue
    ) -> None:
        self._parent = os.getpid()
        self._forwarded_at: dict[int, float] = {}
        self._terminal: int | None = None
        with suppress(OSError):  # there is no terminal
            self._terminal = os.open("/dev/tty", os.O_RDWR)
        if self._terminal is not None and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signals.watch_hang_up(self._terminal)  # but not under nohup
        self._child = subprocess.Popen(  # noqa: S603
            command, env=environment, process_group=0, preexec_fn=self._prepare_child
        )

    def _prepare_child(self) -> None:
        """Run in the child, before exec: it must have the terminal before COMMAND reads from it."""
        self._pass_terminal(os.getpgid(self._parent), os.getpid())
        die_with_parent(signal.SIGTERM, self._parent)

    def _pass_terminal(self, holder: int, successor: int) -> None:
        """Make ``successor`` the terminal's foreground group, if ``holder`` is that now."""
        if self._terminal is None:
            return
        # tcsetpgrp() from a background group would stop the caller by TTOU.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        with suppress(OSError):  # the terminal has hung up
            if os.tcgetpgrp(self._terminal) == holder:
                os.tcsetpgrp(self._terminal, successor)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def forward(self, number: int) -> None:
        """Send COMMAND a signal, unless it is a repetition of the last one."""
        now = time.monotonic()
        last = self._forwarded_at.get(number, -REPEAT_WINDOW)
        self._forwarded_at[number] = now
        if number not in STOP_SIGNALS or now - last >= REPEAT_WINDOW:
            os.kill(self._child.pid, number)

    def exit_code(self) -> int | None:
        """Return COMMAND's exit code, or 128 plus the signal that killed it; None while it runs."""
        pid, status = os.waitpid(self._child.pid, os.WNOHANG | os.WUNTRACED)
        if pid and os.WIFSTOPPED(status):
            self._stop_with_child()
        elif pid:
            self._pass_terminal(pid, os.getpgrp())
            with suppress(OSError):  # usually nothing is left of its group
                os.killpg(pid, signal.SIGTERM)
            code = self._child.returncode = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        return None

    def _stop_with_child(self) -> None:
        """Stop after Ctrl-Z has stopped COMMAND, and continue both when the shell says so."""
        if self._terminal is not None:
            self._pass_terminal(self._child.pid, os.getpgrp())
            os.killpg(0, signal.SIGTSTP)  # returns after the shell's `fg` or `bg`
            self._pass_terminal(os.getpgrp(), self._child.pid)
            os.killpg(self._child.pid, signal.SIGCONT)
