"""A release is a folder: it may be replaced and removed below a running daemon."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testkit.processes import API_HOUR, Daemon
from testkit.waiting import until

LISTEN = ("--listen", "http=tcp://127.0.0.1:0")


class Site:
    """Releases in folders 1, 2, ... and the link ``current`` to one of them."""

    def __init__(self, folder: Path, code: str) -> None:
        self.folder, self._code = folder, code
        self.current = folder / "current"

    def release(self, name: str) -> None:
        """Make a release that answers its name, and let the link name it."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "hello.py").write_text(self._code.replace('"first"', f'"{name}"'))
        self.current.unlink(missing_ok=True)
        self.current.symlink_to(name)

    def remove(self, name: str) -> None:
        folder = self.folder / name
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()


@pytest.fixture
def site(project: Path) -> Site:
    (project / "site").mkdir()
    site = Site(project / "site", (project / "hello.py").read_text())
    site.release("1")
    return site


def by_option(site: Site) -> Daemon:
    return Daemon(site.folder, "hello:Container", *LISTEN, "--chdir", str(site.current))


def by_shell(site: Site) -> Daemon:
    """Start it as a script does: from a folder that the shell entered by the link."""
    command = ("sh", "-c", 'cd "$0" && exec "$@"', str(site.current))
    return Daemon(site.folder, "hello:Container", *LISTEN, command=(*command, *API_HOUR))


@pytest.fixture(params=[by_option, by_shell])
def daemon(request: pytest.FixtureRequest, site: Site) -> Iterator[Daemon]:
    start: Callable[[Site], Daemon] = request.param
    with start(site) as daemon:
        yield daemon.ready()


def test_a_removed_release_stops_neither_reload_nor_respawn(site: Site, daemon: Daemon) -> None:
    site.release("2")
    site.remove("1")
    mark = daemon.mark()
    daemon.send(signal.SIGHUP)
    daemon.wait_for("Reloaded: ", after=mark)
    until(lambda: len(daemon.workers()) == 1, "the old worker stayed")
    assert daemon.get()[1]["message"] == "2"

    site.release("3")
    site.remove("2")
    mark = daemon.mark()
    os.kill(daemon.workers()[0], signal.SIGKILL)
    daemon.wait_for(r"The release \S*/2 is gone: reading the configuration again", after=mark)
    daemon.ready(after=mark)
    assert daemon.get()[1]["message"] == "3"

    site.remove("3")  # the link leads nowhere
    mark = daemon.mark()
    daemon.send(signal.SIGHUP)
    daemon.wait_for("Reload failed, the running workers stay: .*/current", after=mark)
    assert daemon.get()[1]["message"] == "3"
    os.kill(daemon.workers()[0], signal.SIGKILL)
    daemon.wait_for("Reload failed: .*/current", after=mark)
    site.release("4")
    daemon.ready(after=mark)
    assert len([line for line in daemon.lines[mark:] if "The release" in line]) == 1
    assert daemon.get()[1]["message"] == "4"
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.output


def test_a_reload_does_not_need_the_folder_of_the_start(site: Site, tmp_path: Path) -> None:
    somewhere = tmp_path / "somewhere"
    somewhere.mkdir()
    arguments = ("hello:Container", *LISTEN, "--chdir", str(site.current))
    with Daemon(somewhere, *arguments) as daemon:
        daemon.ready()
        somewhere.rmdir()
        site.release("2")
        mark = daemon.mark()
        daemon.send(signal.SIGHUP)
        daemon.wait_for("Reloaded: ", after=mark)
        until(lambda: daemon.get()[1]["message"] == "2", "the new release does not serve")
        assert daemon.stop() == 0
