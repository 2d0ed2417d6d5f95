"""A substitute for systemd: it opens the sockets of a project's units and runs its service.

``systemctl`` is a small program that asks this process; it has only the verbs of the installer.
"""

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
from configparser import RawConfigParser
from pathlib import Path
from typing import Self

from testkit.processes import Program
from testkit.systemd import activated, descriptors

SYSTEMCTL = """#!{python}
import json, socket, sys
with socket.socket(socket.AF_UNIX) as asked, asked.makefile("rw") as line:
    asked.connect({address!r})
    print(json.dumps(sys.argv[1:]), file=line, flush=True)
    code, text = json.loads(line.readline())
print(text)
sys.exit(code)
"""


class Supervisor:
    """One service, run by the units in ``prefix``/current; ``bin`` goes in front of PATH."""

    def __init__(self, name: str, prefix: Path, folder: Path) -> None:
        self.bin = folder / "bin"
        self.restarts = 0
        self._state = "inactive"
        self._name, self._units = name, prefix / "current" / "etc" / "systemd" / "system"
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(folder / "notify"))
        self._asked = socket.socket(socket.AF_UNIX)
        self._asked.bind(str(folder / "asked"))
        self._asked.listen()
        self._runs: list[Program] = []
        self._run = folder / "run"
        (self._run / name).mkdir(parents=True)

    def __enter__(self) -> Self:
        names = _unit(self._units / f"{self._name}.service", "Service")["Sockets"].split()
        units = [_unit(self._units / name, "Socket") for name in names]
        self._sockets = {
            unit["FileDescriptorName"]: _listen(unit["ListenStream"]) for unit in units
        }
        self.bin.mkdir()
        program = SYSTEMCTL.format(python=sys.executable, address=self._asked.getsockname())
        (self.bin / "systemctl").write_text(program)
        (self.bin / "systemctl").chmod(0o755)
        threading.Thread(target=self._answer, daemon=True).start()
        assert self.start() == 0, self.log_text()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            for run in self._runs:
                run.kill()
            for held in (*self._sockets.values(), self._asked, self._notified):
                held.close()

    def start(self) -> int:
        """Start the service; return 0 once it is ready, and 1 if it ended before that."""
        self._state = "active"  # systemd retries a failed start
        service = _unit(self._units / f"{self._name}.service", "Service")
        program = Program(
            *activated(
                self._sockets, shlex.split(service["ExecStart"].replace("%t", str(self._run)))
            ),
            folder=Path(service["WorkingDirectory"]),
            environment=self._environment(Path(service["EnvironmentFile"].removeprefix("-"))),
            pass_fds=descriptors(self._sockets),
        )
        self._runs.append(program)
        self._notified.settimeout(0.1)
        ready = f"READY=1\nMAINPID={program.pid}".encode()
        while not program.has_ended:
            try:
                if self._notified.recv(4096) == ready:
                    return 0
            except TimeoutError:
                continue
        return 1

    def reload(self) -> "subprocess.CompletedProcess[str]":
        """Reload the service as its unit does; return the end of that command."""
        service = _unit(self._units / f"{self._name}.service", "Service")
        return subprocess.run(
            shlex.split(service["ExecReload"].replace("%t", str(self._run))),
            cwd=service["WorkingDirectory"],
            capture_output=True,
            text=True,
            check=False,
        )

    def stop(self) -> None:
        """End the service as its unit does, by TERM to the master."""
        self._state = "inactive"
        if self._runs:
            self._runs[-1].stop()

    def log_text(self) -> str:
        """Return the output of the service."""
        return "\n".join(run.output for run in self._runs)

    def _environment(self, file: Path) -> dict[str, str]:
        lines = [line.partition("=") for line in file.read_text().splitlines()]
        own = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": self._notified.getsockname()}
        return own | {name: value for name, _, value in lines}

    def _answer(self) -> None:
        while True:
            try:
                asking, _ = self._asked.accept()
            except OSError:  # it was closed
                return
            with asking, asking.makefile("rw") as line:
                print(json.dumps(self._obey(*json.loads(line.readline()))), file=line, flush=True)

    def _obey(self, verb: str, *arguments: str) -> tuple[int, str]:
        if verb == "show":
            place = _unit(self._units / f"{self._name}.service", "Service")["WorkingDirectory"]
            return 0, f"ActiveState={self._state}\nWorkingDirectory={place}"
        if verb == "restart":
            self.restarts += 1
            self.stop()
            return self.start(), ""
        return 0 if verb == "daemon-reload" else 1, ""


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_server((host, int(port)), backlog=2048)


def _unit(file: Path, name: str) -> dict[str, str]:
    """Return one section; of a repeated key, the last value."""
    parser = RawConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(file)
    return dict(parser[name])
