"""The systemd units of a generated project, checked by systemd's own tools without root."""

import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest
import yaml
from gunicorn.config import Config

import api_hour.config.settings  # noqa: F401 - registers the settings that Config() has
from api_hour.worker.process import CLOSE_GRACE
from testkit.projects import bake

UNITS = Path("etc", "systemd", "system")
EXPOSURE = 20  # tenths: 2.0 of 10, where 10 is an unrestricted service
LISTENERS = {"http": "my_daemon.socket", "admin": "my_daemon-admin.socket"}
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bake a project with units."""
    return bake(tmp_path_factory.mktemp("units") / "out", project_slug="my_daemon")


@pytest.fixture(scope="module")
def units(project: Path) -> Path:
    """Return the folder of the units."""
    return project / UNITS


def section(unit: Path, name: str) -> dict[str, str]:
    """Return one section; of a repeated key, the last value."""
    parser = RawConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return dict(parser[name])


def daemon_settings(project: Path) -> dict[str, object]:
    """Return the runtime's part of main.yaml."""

    class Loader(yaml.SafeLoader):
        """A loader that reads the tag !env as text."""

    Loader.add_constructor("!env", Loader.construct_scalar)  # type: ignore[type-var]
    text = (project / "etc" / "my_daemon" / "main.yaml").read_text()
    found = yaml.load(text, Loader)["api_hour"]  # noqa: S506 - a SafeLoader
    assert isinstance(found, dict)
    return found


@needs_systemd
def test_systemd_verifies_the_units(units: Path, tmp_path: Path) -> None:
    python = tmp_path / "current" / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    for unit in units.iterdir():
        text = unit.read_text().replace("/opt/my_daemon", str(tmp_path))
        (tmp_path / unit.name).write_text(text)
    files = sorted(tmp_path.glob("my_daemon*"))
    assert len(files) == 3
    command = ["systemd-analyze", "verify", "--man=no", *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@needs_systemd
def test_systemd_rates_the_daemon_as_hardly_exposed(units: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}"]
    command.append(str(units / "my_daemon.service"))
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert "Overall exposure level for my_daemon.service: 1." in result.stdout


@pytest.mark.parametrize("name", LISTENERS)
def test_a_socket_is_a_listener_of_the_configuration(project: Path, units: Path, name: str) -> None:
    socket = section(units / LISTENERS[name], "Socket")
    listeners = daemon_settings(project)["listeners"]
    assert isinstance(listeners, dict)
    listener = listeners[name]  # a URL, or a mapping with more about it
    url = listener["url"] if isinstance(listener, dict) else listener
    assert f"tcp://{socket['ListenStream']}" == url
    assert socket["FileDescriptorName"] == name
    assert socket["Service"] == "my_daemon.service"
    assert int(socket["Backlog"]) == Config().settings["backlog"].get()


def test_the_service_gets_every_socket(units: Path) -> None:
    service = section(units / "my_daemon.service", "Service")
    assert service["Sockets"].split() == list(LISTENERS.values())


def test_systemd_waits_longer_than_the_daemon(project: Path, units: Path) -> None:
    service = section(units / "my_daemon.service", "Service")
    settings = {name: setting.get() for name, setting in Config().settings.items()}
    settings |= daemon_settings(project)
    leaving = settings["graceful_timeout"] + settings["stop_delay"] + 2 * CLOSE_GRACE
    assert int(service["TimeoutStopSec"]) > leaving
    assert int(service["TimeoutStartSec"]) > settings["boot_timeout"]
    assert settings["boot_timeout"] < int(service["ExecReload"].rpartition("--timeout ")[2])
    assert int(service["TimeoutStartSec"]) > int(service["ExecReload"].rpartition(" ")[2])
    pidfile = service["ExecStart"].rpartition("--pid ")[2]
    assert pidfile == f"%t/{service['RuntimeDirectory']}/my_daemon.pid"
    assert f" reload {pidfile} " in service["ExecReload"]


def test_without_systemd_no_trace_of_it_is_left(tmp_path: Path) -> None:
    project = bake(tmp_path / "out", systemd="false")
    assert not (project / "etc" / "systemd").exists()
    texts = {path: path.read_text() for path in project.rglob("*") if path.is_file()}
    del texts[project / ".api-hour.json"]  # it records the answer
    assert "README.rst" in {path.name for path in texts}
    assert [path for path, text in texts.items() if "systemd" in text] == []
