"""A reader who does what a page says: writes its files, types its commands, compares what comes.

Every command is a bash of its own, in a session of its own; a shell hands its folder and its
exported variables from one to the next. What the second and the third shell run goes on, until
``^C`` or the end of the page.
"""

import difflib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from docs.tests.pages import INTERRUPT, MAIN, Block, Step, agrees, is_all, steps
from testkit.projects import MARK, marked

TIMEOUT = 120.0  # seconds for a command: some install
LEAVING = 20.0  # seconds for what was started to end
KEEPING = 'trap \'export -p > "$0/exported"; pwd > "$0/folder"\' EXIT\n'
TYPED = 'if [[ -e $0/exported ]]; then . "$0/exported"; fi\n' + KEEPING + 'eval "$1"'


@dataclass
class Running:
    """Hold a command that was typed, and how much of what it said the page has shown."""

    command: str
    process: "subprocess.Popen[bytes]"
    log: Path
    seen: int = 0

    def said(self) -> str:
        """Return what it said so far."""
        text = self.log.read_text(errors="replace").replace("\r\n", "\n")
        return text if text.endswith("\n") or not text else text + "\n"

    def ends(self) -> int:
        """Wait for its end; return its status."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(TIMEOUT)
        self.must(self.process.returncode is not None, "does not end")
        return self.process.returncode

    def shows(self, shown: str) -> None:
        """Wait until it has said what the page shows, after what it showed before."""
        deadline = time.monotonic() + TIMEOUT
        while (end := agrees(shown, self.said(), self.seen)) is None:
            # What it says last is said before it ends.
            self.must(time.monotonic() < deadline, f"does not say\n{shown}")
            ended = self.process.poll() is not None
            self.must(not ended or agrees(shown, self.said(), self.seen), f"never says\n{shown}")
            time.sleep(0.05)
        self.seen = end

    def must(self, holds: object, what: str) -> None:
        """Fail with the command and all that it said, unless ``holds``."""
        assert holds, f"$ {self.command}\n{what}\n-- it said:\n{self.said()}"


@dataclass
class Shell:
    """Hold one terminal of the reader."""

    notes: Path
    folder: Path
    environment: dict[str, str]
    inside: list[str]  # a command that runs another one in the reader's network
    commands: list[Running] = field(default_factory=list)

    def here(self) -> Path:
        """Return the folder that it stands in."""
        note = self.notes / "folder"
        return Path(note.read_text().removesuffix("\n")) if note.exists() else self.folder

    def types(self, command: str) -> Running:
        """Start a command."""
        self.notes.mkdir(parents=True, exist_ok=True)
        log = self.notes / f"log.{len(self.commands)}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self.inside, "bash", "-c", TYPED, str(self.notes), command],
                cwd=self.here(),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.commands.append(Running(command, process, log))
        return self.commands[-1]

    def interrupts(self) -> Running:
        """Press Ctrl-C."""
        os.killpg(self.commands[-1].process.pid, signal.SIGINT)
        return self.commands[-1]


class Reader:
    """Follow a page in a folder."""

    def __init__(
        self, folder: Path, notes: Path, environment: dict[str, str], inside: list[str]
    ) -> None:
        self._mark = uuid.uuid4().hex
        self._folder, self._notes, self._inside = folder, notes, inside
        self._environment = environment | {MARK: self._mark}
        self._shells: dict[str, Shell] = {}

    def does(self, block: Block) -> None:
        """Do what one block says."""
        if block.target:
            self._writes(block)
        elif block.shell == MAIN:
            for step in steps(block.text):
                self._runs(step, fails="fails" in block.classes)
        elif block.shell:
            shell = self._shell(block.shell)
            *first, last = steps(block.text)
            for step in first:
                self._goes_by(shell, step, to_its_end=bool(step.command))
            self._goes_by(shell, last, to_its_end=last.command == INTERRUPT)

    def _shell(self, name: str) -> Shell:
        if name not in self._shells:
            here = self._folder if name == MAIN else self._shell(MAIN).here()
            notes = self._notes / name
            self._shells[name] = Shell(notes, here, self._environment, self._inside)
        return self._shells[name]

    def _writes(self, block: Block) -> None:
        """Write the whole file of which the page shows all that the reader has not yet."""
        assert block.source
        target = self._shell(MAIN).here() / str(block.target)
        new = block.source.read_text()
        old = target.read_text() if target.exists() else ""
        assert is_edit(block, old, new), f"{block.target} is not what the page makes of\n{old}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(block.source, target)

    def _runs(self, step: Step, *, fails: bool) -> None:
        """Type a command into the main shell, and wait for its end."""
        assert step.command, f"nothing was typed that would say {step.shown!r}"
        running = self._shell(MAIN).types(step.command)
        status = running.ends()
        said = running.said()
        assert (status != 0) == fails, f"$ {step.command}\nended with {status}:\n{said}"
        assert not step.shown or is_all(step.shown, said), (
            f"$ {step.command}\n-- the page shows:\n{step.shown}\n-- it said:\n{said}"
        )

    def _goes_by(self, shell: Shell, step: Step, *, to_its_end: bool) -> None:
        """Type a command, if there is one, and wait for its end or for what it says."""
        running = self._begins(shell, step)
        if to_its_end:
            status = running.ends()
            running.must(status == 0 or step.command == INTERRUPT, f"ended with {status}")
        elif step.command:
            running.must(step.shown, "shows nothing that tells the reader that it is at work")
        if step.shown:
            running.shows(step.shown)
        if step.command and not to_its_end:
            running.must(running.process.poll() is None, "does not go on")

    def _begins(self, shell: Shell, step: Step) -> Running:
        if step.command == INTERRUPT:
            return shell.interrupts()
        if step.command:
            return shell.types(step.command)
        return shell.commands[-1]

    def ends(self) -> None:
        """Close every shell, and all that was started in it."""
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            left = marked(self._mark)
            for process in left:
                with suppress(psutil.NoSuchProcess):  # it has just ended by itself
                    process.send_signal(signal_number)
            psutil.wait_procs(left, timeout=LEAVING)
        for shell in self._shells.values():
            for running in shell.commands:
                running.process.wait()


def is_edit(block: Block, old: str, new: str) -> bool:
    """Say whether the reader, who sees ``block`` only, makes ``new`` of ``old``."""
    if block.language == "udiff":
        diff = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="")
        return block.text.splitlines()[2:] == list(diff)[2:]
    before, excerpt, after = new.partition(block.text)
    return bool(excerpt) and old.startswith(before) and (after == "\n" or old.endswith(after))


@contextmanager
def reading(folder: Path, notes: Path, environment: dict[str, str]) -> Iterator[Reader]:
    """Give a reader a network of its own, so that every port is free; without root, in turn."""
    with _network() as inside:
        reader = Reader(folder, notes, environment, inside)
        try:
            yield reader
        finally:
            reader.ends()


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Wait until no other process holds ``file``, and hold it."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _network() -> Iterator[list[str]]:
    """Hold a network namespace; yield the command that enters it."""
    if os.geteuid() != 0:
        with alone(Path(tempfile.gettempdir(), "api_hour-docs.lock")):
            yield []
        return
    up = "ip link set lo up && echo up && exec cat"
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", up], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"up\n"
        yield ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        holder.terminate()
