"""COMMAND as a job of the terminal, and the signals for it."""

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

from api_hour.plugins.embedded.host import die_with_parent

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
PASSED_ON = (*STOPPING, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)
TWICE = 0.1  # seconds in which a second TERM is the same one: make passes on what its group got


class SignalQueue:
    """Hold signals, children's ends and hang-ups until asked for, so that none is lost."""

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in PASSED_ON:
            if signal.getsignal(number) != signal.SIG_IGN:  # by nohup: for COMMAND, too
                signal.signal(number, lambda *_: None)

    def watch(self, descriptor: int) -> None:
        """Count the hang-up of a terminal or a pipe as TERM."""
        self._poll.register(descriptor, 0)

    def wait(self, seconds: float | None) -> list[int]:
        """Return the signals that came, as soon as there is news, or after ``seconds``."""
        numbers: list[int] = []
        for descriptor, _ in self._poll.poll(None if seconds is None else seconds * 1000):
            if descriptor == self._reader:
                numbers += os.read(descriptor, 4096)
            else:
                self._poll.unregister(descriptor)
                numbers.append(signal.SIGTERM)
        return [number for number in numbers if number in PASSED_ON]

    def pause(self, seconds: float) -> None:
        """Wait during the start; exit when a signal asks for the end."""
        if asked := set(STOPPING) & set(self.wait(seconds)):
            sys.exit(128 + asked.pop())


class ForegroundJob:
    """COMMAND in a process group of its own, which holds the terminal while it runs."""

    def __init__(
        self, command: list[str], environment: dict[str, str], signals: SignalQueue
    ) -> None:
        self._parent = os.getpid()
        self._last: dict[int, float] = {}
        self._terminal: int | None = None
        with suppress(OSError):  # without a terminal
            self._terminal = os.open("/dev/tty", os.O_RDWR)
        if self._terminal is not None and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signals.watch(self._terminal)  # but not under nohup
        self._child = subprocess.Popen(  # noqa: S603
            command, env=environment, process_group=0, preexec_fn=self._enter
        )

    def _enter(self) -> None:
        """Prepare the child: the terminal is given before it can read from it."""
        self._hand_over(os.getpgid(self._parent), os.getpid())
        die_with_parent(signal.SIGTERM, self._parent)

    def _hand_over(self, holder: int, heir: int) -> None:
        """Give the terminal from one process group to another, if the first one has it."""
        if self._terminal is None:
            return
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        with suppress(OSError):  # it has hung up
            if os.tcgetpgrp(self._terminal) == holder:
                os.tcsetpgrp(self._terminal, heir)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def pass_on(self, number: int) -> None:
        """Send COMMAND a signal, once."""
        now = time.monotonic()
        last, self._last[number] = self._last.get(number, -TWICE), now
        if number not in STOPPING or now - last >= TWICE:
            os.kill(self._child.pid, number)

    def exit_code(self) -> int | None:
        """Return COMMAND's exit code, 128 and the signal that killed it; None while it runs."""
        pid, status = os.waitpid(self._child.pid, os.WNOHANG | os.WUNTRACED)
        if pid and os.WIFSTOPPED(status):
            self._sleep()
        elif pid:
            self._hand_over(pid, os.getpgrp())
            with suppress(OSError):  # a shell, say, leaves its children behind
                os.killpg(pid, signal.SIGTERM)
            code = self._child.returncode = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        return None

    def _sleep(self) -> None:
        """Stop with COMMAND, as the shell expects after Ctrl-Z; carry on when it says so."""
        if self._terminal is not None:
            self._hand_over(self._child.pid, os.getpgrp())
            os.killpg(0, signal.SIGTSTP)
            self._hand_over(os.getpgrp(), self._child.pid)
            os.killpg(self._child.pid, signal.SIGCONT)
