"""A reader who follows a page: writes its files, types its commands, compares the output.

Every command runs in a bash and a session of its own; a shell hands its working directory and its
exported variables from one to the next. The commands of a second and a third shell run until ``^C``
or the end of the page.
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

from docs.tests.pages import INTERRUPT, MAIN, Block, Step, end_of_match, is_whole_output, steps
from testkit.projects import MARK, marked

TIMEOUT = 120.0  # seconds for a command: some install
LEAVING = 20.0  # seconds for processes to end
KEEPING = 'trap \'export -p > "$0/exported"; pwd > "$0/folder"\' EXIT\n'
TYPED = 'if [[ -e $0/exported ]]; then . "$0/exported"; fi\n' + KEEPING + 'eval "$1"'


@dataclass
class Running:
    """A typed command, and how much of its output the page has shown."""

    command: str
    process: "subprocess.Popen[bytes]"
    log: Path
    seen: int = 0

    def output(self) -> str:
        """Return its output so far, as an ordinary user sees it, for whom the pages are."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "".join(f"{line}\n" for line in lines if "the workers run as root" not in line)

    def wait(self) -> int:
        """Wait for its end; return its exit status."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(TIMEOUT)
        self.must(self.process.returncode is not None, "does not end")
        return self.process.returncode

    def wait_for(self, shown: str) -> None:
        """Wait until its output has what the page shows, after what it showed before."""
        deadline = time.monotonic() + TIMEOUT
        while (end := end_of_match(shown, self.output(), self.seen)) is None:
            # Its last output may arrive between the two checks.
            self.must(time.monotonic() < deadline, f"does not say\n{shown}")
            ended = self.process.poll() is not None
            self.must(
                not ended or end_of_match(shown, self.output(), self.seen), f"never says\n{shown}"
            )
            time.sleep(0.05)
        self.seen = end

    def must(self, holds: object, what: str) -> None:
        """Fail with the command and its whole output, unless ``holds``."""
        assert holds, f"$ {self.command}\n{what}\n-- its output:\n{self.output()}"


@dataclass
class Shell:
    """A terminal of the reader."""

    notes: Path
    folder: Path
    environment: dict[str, str]
    inside: list[str]  # a command that runs another one in the reader's network
    commands: list[Running] = field(default_factory=list)

    def working_directory(self) -> Path:
        """Return its working directory."""
        note = self.notes / "folder"
        return Path(note.read_text().removesuffix("\n")) if note.exists() else self.folder

    def type(self, command: str) -> Running:
        """Start a command."""
        self.notes.mkdir(parents=True, exist_ok=True)
        log = self.notes / f"log.{len(self.commands)}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self.inside, "bash", "-c", TYPED, str(self.notes), command],
                cwd=self.working_directory(),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.commands.append(Running(command, process, log))
        return self.commands[-1]

    def interrupt(self) -> Running:
        """Press Ctrl-C."""
        os.killpg(self.commands[-1].process.pid, signal.SIGINT)
        return self.commands[-1]


class Reader:
    """A reader who follows a page in a folder."""

    def __init__(
        self, folder: Path, notes: Path, environment: dict[str, str], inside: list[str]
    ) -> None:
        self._mark = uuid.uuid4().hex
        self._folder, self._notes, self._inside = folder, notes, inside
        self._environment = environment | {MARK: self._mark}
        self._shells: dict[str, Shell] = {}

    def do(self, block: Block) -> None:
        """Do what a block says."""
        if block.target:
            self._write(block)
        elif block.shell == MAIN:
            for step in steps(block.text):
                self._run(step, fails="fails" in block.classes)
        elif block.shell:
            shell = self._shell(block.shell)
            *first, last = steps(block.text)
            for step in first:
                self._follow(shell, step, to_its_end=bool(step.command))
            self._follow(shell, last, to_its_end=last.command == INTERRUPT)

    def _shell(self, name: str) -> Shell:
        if name not in self._shells:
            here = self._folder if name == MAIN else self._shell(MAIN).working_directory()
            notes = self._notes / name
            self._shells[name] = Shell(notes, here, self._environment, self._inside)
        return self._shells[name]

    def _write(self, block: Block) -> None:
        """Write the whole file, of which the page shows everything that is new to the reader."""
        assert block.source
        target = self._shell(MAIN).working_directory() / str(block.target)
        new = block.source.read_text()
        old = target.read_text() if target.exists() else ""
        assert is_edit(block, old, new), f"{block.target} is not what the page makes of\n{old}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(block.source, target)

    def _run(self, step: Step, *, fails: bool) -> None:
        """Type a command into the main shell, and wait for its end."""
        assert step.command, f"nothing was typed that would say {step.shown!r}"
        running = self._shell(MAIN).type(step.command)
        status = running.wait()
        said = running.output()
        assert (status != 0) == fails, f"$ {step.command}\nended with {status}:\n{said}"
        assert not step.shown or is_whole_output(step.shown, said), (
            f"$ {step.command}\n-- the page shows:\n{step.shown}\n-- it said:\n{said}"
        )

    def _follow(self, shell: Shell, step: Step, *, to_its_end: bool) -> None:
        """Type the command of a step, if any, and wait for its end or for its output."""
        running = self._begin(shell, step)
        if to_its_end:
            status = running.wait()
            running.must(status == 0 or step.command == INTERRUPT, f"ended with {status}")
        elif step.command:
            running.must(step.shown, "shows nothing that tells the reader that it is at work")
        if step.shown:
            running.wait_for(step.shown)
        if step.command and not to_its_end:
            running.must(running.process.poll() is None, "does not go on")

    def _begin(self, shell: Shell, step: Step) -> Running:
        if step.command == INTERRUPT:
            return shell.interrupt()
        if step.command:
            return shell.type(step.command)
        return shell.commands[-1]

    def close(self) -> None:
        """Stop everything that was started in the shells."""
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            left = marked(self._mark)
            for process in left:
                with suppress(psutil.NoSuchProcess):  # it has just ended
                    process.send_signal(signal_number)
            psutil.wait_procs(left, timeout=LEAVING)
        for shell in self._shells.values():
            for running in shell.commands:
                running.process.wait()


def is_edit(block: Block, old: str, new: str) -> bool:
    """Tell whether a reader who sees only ``block`` turns ``old`` into ``new``."""
    if block.language == "udiff":
        diff = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="")
        return block.text.splitlines()[2:] == list(diff)[2:]
    before, excerpt, after = new.partition(block.text)
    return bool(excerpt) and old.startswith(before) and (after == "\n" or old.endswith(after))


@contextmanager
def reading(folder: Path, notes: Path, environment: dict[str, str]) -> Iterator[Reader]:
    """Yield a reader with a network of its own, so that every port is free.

    Without root there is no such network, so readers take turns.
    """
    with _network() as inside:
        reader = Reader(folder, notes, environment, inside)
        try:
            yield reader
        finally:
            reader.close()


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock on ``file``, once no other process does."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _network() -> Iterator[list[str]]:
    """Make a network namespace; yield the command that enters it."""
    if os.geteuid() != 0:
        with locked(Path(tempfile.gettempdir(), "api_hour-docs.lock")):
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
