"""A project under load: its source, how a fault breaks and mends it, and its ledger."""

import os
import time
from collections import Counter
from pathlib import Path

SOURCE = Path(__file__).with_name("ledger_app.py").read_text()
BLOCKS = next(n for n, line in enumerate(SOURCE.splitlines(), 1) if "# BLOCKS" in line)

# What a fault appends to the source.
SYNTAX_ERROR = "\ndef broken(:\n"
EXITS = "\nos._exit(3)\n"  # the exit code by which a worker tells Gunicorn to end the whole service
SLOW_IMPORT = "\ntime.sleep(3)\n"
ENGINES = """

class Container(Container):
    @asynccontextmanager
    async def engines(self):
        {first}
        async with super().engines():
            {then}
            yield
"""
FAILS_TO_OPEN = ENGINES.format(first='raise OSError("the engine is away")', then="pass")
NEVER_READY = ENGINES.format(first="await asyncio.Event().wait()", then="pass")
FORKS = ENGINES.format(first="os.fork() or (time.sleep(6), os._exit(0))", then="pass")
DIES_AFTER_BOOT = ENGINES.format(
    first="loop = asyncio.get_running_loop()", then="loop.call_later(0.1, os._exit, 7)"
)


class LedgerProject:
    """The project ``hello`` in ``folder``, whose workers write into the folder ``ledger``."""

    def __init__(self, folder: Path, ledger: Path) -> None:
        self.folder, self.ledger = folder, ledger
        self._written = time.time()
        folder.mkdir(parents=True, exist_ok=True)
        ledger.mkdir(exist_ok=True)
        self.mend()

    def mend(self, release: str = "1") -> None:
        """Write the good source."""
        self._write(SOURCE.replace('RELEASE = "1"', f'RELEASE = "{release}"'))

    def append(self, text: str) -> None:
        """Append ``text`` to the source."""
        self._write((self.folder / "hello.py").read_text() + text)

    def _write(self, source: str) -> None:
        path = self.folder / "hello.py"
        path.write_text(source)
        # Each version is a second newer, or Python would use the bytecode of the previous one.
        self._written += 1
        os.utime(path, (self._written, self._written))

    def configure(self, name: str, text: str) -> None:
        """Write a configuration file."""
        path = self.folder / "etc" / "hello" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def open_gate(self) -> None:
        """Let every request finish that waits for the gate."""
        (self.ledger / "gate").touch()

    def notes(self) -> Counter[str]:
        """Count the lines of the ledger: ``+id`` for begun, ``-id`` for finished."""
        return read_ledger(self.ledger)

    def fate(self, ident: str) -> str:
        """Say how far the daemon got with a request whose response did not arrive."""
        notes = self.notes()
        if notes["-" + ident]:
            return "finished, response lost"
        return "begun" if notes["+" + ident] else "never reached"


def read_ledger(folder: Path) -> Counter[str]:
    """Count the lines that all workers have written."""
    lines: Counter[str] = Counter()
    for file in folder.iterdir():
        lines.update(file.read_text().splitlines())
    return lines
