"""A user's mistake gives one line that names the place and the cure, and exit code 1."""

import fcntl
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gunicorn
import pytest

from api_hour import __version__
from api_hour.config.command_line import USAGE
from testkit.processes import API_HOUR

NO_SERVER = """\
import api_hour


class Container(api_hour.Container):
    pass
"""
PLAIN_FUNCTION = """\
from aiohttp import web

import api_hour


def report(request):
    return web.Response()


class Container(api_hour.Container):
    def servers(self):
        app = web.Application()
        app.router.add_get("/", report)
        return {"http": api_hour.HTTPServer(app)}
"""
SETTINGS = """\
import msgspec

import api_hour


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    greeting: str = "hello"
    size: int = 1


class Container(api_hour.Container):
    settings = Settings
"""

MISTAKES = {
    "no container is named": ([], {}, "name one Container: api_hour MODULE:CONTAINER"),
    "the name has no colon": (["hello"], {}, "'hello' names no Container: write MODULE:NAME"),
    "the module does not exist": (["gone:Container"], {}, "No module named 'gone'; run it in the"),
    "the module lacks the Container": (["hello:Nope"], {}, "hello.py has no Nope: define it there"),
    "the Container is of another kind": (
        ["hello:index"],
        {},
        "hello:index is not an api_hour.Cont",
    ),
    "settings that no mapping fits": (
        ["plain:Plain"],
        {
            "plain.py": "import api_hour\n\nclass Plain(api_hour.Container):\n"
            "    settings = int\n    def servers(self):\n        return {}\n"
        },
        "plain:Plain: settings cannot be <class 'int'>: write a class that extends msgspec.Struct",
    ),
    "an import fails": (
        ["broken:Container"],
        {"broken.py": "import api_hour\nimport nothing_like_it\n"},
        "broken.py:2: ModuleNotFoundError: No module named 'nothing_like_it'",
    ),
    "the code has a syntax error": (
        ["broken:Container"],
        {"broken.py": "import api_hour\n\ndef f(:\n"},
        "broken.py:3: SyntaxError: invalid syntax",
    ),
    "the module ends the process": (
        ["broken:Container"],
        {"broken.py": "import sys\nsys.exit('no')\n"},
        "broken.py:2: SystemExit: no",
    ),
    "an endpoint is a plain function": (
        ["plain:Container"],
        {"plain.py": PLAIN_FUNCTION},
        "endpoint report (plain.py:6) is a plain function, which would block every other request: "
        "write async def, or decorate it with @api_hour.threaded",
    ),
    "a listener has no server": (
        ["empty:Container"],
        {"empty.py": NO_SERVER},
        "listener http has no server: name one in empty:Container's servers()",
    ),
    "a server has no listener": (
        ["hello:Container"],
        {"etc/hello/main.yaml": "api_hour:\n  listeners: {}\n"},
        "server http has no listener: add it to api_hour.listeners in etc/hello/main.yaml",
    ),
    "a runtime setting is unknown": (
        ["hello:Container"],
        {"etc/hello/main.yaml": "api_hour:\n  workers: 1\n  worker: 2\n"},
        "etc/hello/main.yaml:3: api_hour.worker is not a setting; did you mean workers?",
    ),
    "a runtime setting has a bad value": (
        ["hello:Container"],
        {"etc/hello/main.yaml": "api_hour:\n  workers: many\n"},
        "etc/hello/main.yaml:2: api_hour.workers must be a whole number up to 1024, or auto, "
        "got 'many'",
    ),
    "a project setting is unknown": (
        ["typed:Container"],
        {"typed.py": SETTINGS, "etc/typed/main.yaml": "greting: x\n"},
        "etc/typed/main.yaml:1: ",
    ),
    "a project setting has the wrong type": (
        ["typed:Container"],
        {"typed.py": SETTINGS, "etc/typed/main.yaml": "greeting: x\nsize: abc\n"},
        "etc/typed/main.yaml:2: size must be an integer, got 'abc'",
    ),
    "an environment variable is missing": (
        ["typed:Container"],
        {"typed.py": SETTINGS, "etc/typed/main.yaml": "greeting: !env NOT_SET_ANYWHERE\n"},
        "etc/typed/main.yaml:1: environment variable NOT_SET_ANYWHERE is not set",
    ),
    "the YAML is broken": (
        ["hello:Container"],
        {"etc/hello/main.yaml": "a: 1\nb: [\n"},
        "etc/hello/main.yaml:",
    ),
    "a listener's address is wrong": (
        ["hello:Container"],
        {"etc/hello/main.yaml": "api_hour:\n  listeners:\n    http: 127.0.0.1:8000\n"},
        "main.yaml:3: listener http: '127.0.0.1:8000' is not an address; write tcp://HOST:PORT",
    ),
    "a listener is not text": (
        ["hello:Container"],
        {"etc/hello/main.yaml": "api_hour:\n  listeners:\n    http: 8000\n"},
        "etc/hello/main.yaml:3: listener http must be a URL, a list of URLs, or a mapping",
    ),
    "the folder of the configuration is missing": (
        ["hello:Container", "--config-dir", "nowhere"],
        {},
        "--config-dir nowhere: there is no such folder",
    ),
    "gunicorn.conf.py ends the process": (
        ["hello:Container"],
        {"etc/hello/gunicorn.conf.py": "import sys\n\nsys.exit(1)\n"},
        "etc/hello/gunicorn.conf.py:3: SystemExit: 1",
    ),
    "gunicorn.conf.py has a syntax error": (
        ["hello:Container"],
        {"etc/hello/gunicorn.conf.py": "workers = = 2\n"},
        "etc/hello/gunicorn.conf.py:1: SyntaxError: invalid syntax",
    ),
    "the application is to be preloaded": (
        ["hello:Container", "--preload"],
        {},
        "--preload cannot be set: the master never imports the project's code",
    ),
    "an option is misspelled": (
        ["hello:Container", "--max_requests", "5"],
        {},
        "--max_requests is not an option; did you mean --max-requests?",
    ),
    "the configuration file is a folder": (
        ["hello:Container", "--config", "etc/hello"],
        {"etc/hello/main.yaml": ""},
        "--config etc/hello is a folder: name a file in it, or give --config-dir etc/hello",
    ),
    "a hook has other arguments": (
        ["hello:Container"],
        {"etc/hello/gunicorn.conf.py": "workers = 1\n\ndef on_exit():\n    pass\n"},
        "etc/hello/gunicorn.conf.py:3: on_exit must be a plain function of (server), "
        "got def on_exit()",
    ),
    "nobody would serve": (
        ["hello:Container", "--workers", "0"],
        {},
        "workers must be above zero, got 0: nobody would serve the listeners",
    ),
    "the folder of the heartbeats cannot be written to": (
        ["hello:Container", "--worker-tmp-dir", "/proc"],
        {},
        "worker_tmp_dir: the files of the heartbeats cannot be made in /proc: No such file or "
        "directory: name a folder that exists and that this user may write to",
    ),
    "the pid file has no folder": (
        ["hello:Container", "--pid", "nowhere/pid"],
        {},
        "nowhere/pid cannot be written: No such file or directory: give --pid a file in a folder "
        "that exists and that this user may write to",
    ),
    "a setting on the command line is bad": (
        ["hello:Container", "--max-surge", "0"],
        {},
        "--max-surge must be a whole number above zero, got '0'",
    ),
}


def api_hour(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command; leave out of its errors that it warns whoever is root."""
    command = [sys.executable, "-m", "api_hour", *arguments]
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    lines = ended.stderr.splitlines(keepends=True)
    ended.stderr = "".join(line for line in lines if "the workers run as root" not in line)
    return ended


def errors(output: str) -> list[str]:
    """Return the lines that are neither information nor the usage."""
    lines = output.replace(USAGE, "").splitlines()
    return [line for line in lines if line and "[INFO]" not in line]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_line_and_no_traceback(mistake: str, project: Path) -> None:
    arguments, files, expected = MISTAKES[mistake]
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    if arguments and "listeners" not in str(files):
        arguments = [*arguments, "--listen", "http=tcp://127.0.0.1:0"]
    ended = api_hour(project, *arguments)
    assert len(errors(ended.stderr)) == 1, ended.stderr
    assert expected in errors(ended.stderr)[0]
    assert "Traceback" not in ended.stderr
    assert ended.returncode == (2 if "usage:" in ended.stderr else 1)


def test_a_start_in_a_folder_that_was_removed_says_so(tmp_path: Path) -> None:
    command = 'mkdir gone && cd gone && rmdir ../gone && "$@"'
    ended = subprocess.run(
        ["sh", "-c", command, "-", *API_HOUR, "hello:Container"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        "api_hour: error: the working directory cannot be found: No such file or directory: it was "
        "removed, or made anew; go to one that exists (cd)\n"
    )


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_in_use_is_named_with_the_cure(project: Path, taken: int) -> None:
    comm = Path("/proc/self/comm").read_text().strip()
    ended = api_hour(project, "hello:Container", "--bind", f"127.0.0.1:{taken}")
    assert ended.returncode == 1
    assert errors(ended.stderr) == [
        f"api_hour: error: listener http: tcp://127.0.0.1:{taken} is in use: stop what listens "
        f"there ({comm}, process {os.getpid()}), or choose another address with --listen http=URL"
    ]


def test_check_boots_a_worker_beside_a_running_service(project: Path, taken: int) -> None:
    ended = api_hour(project, "hello:Container", "--check", "--bind", f"127.0.0.1:{taken}")
    assert ended.returncode == 0
    assert ended.stdout == (
        "hello:Container: the configuration is good and a worker became ready\n"
    )
    assert ended.stderr == ""


def test_check_says_in_one_line_what_is_wrong(project: Path) -> None:
    ended = api_hour(project, "hello:Nope", "--check")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert "hello.py has no Nope" in ended.stderr


@pytest.mark.parametrize("option", ["--check-config", "--print-config"])
def test_gunicorns_own_checks_of_the_configuration_import_nothing(
    option: str, project: Path
) -> None:
    ended = api_hour(project, "hello:Nope", option)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ("boot_timeout " in ended.stdout) == (option == "--print-config")


def test_what_others_wrote_does_not_move_a_terminal(project: Path) -> None:
    path = project / "pid"
    path.write_text("\x1b[2J\n7")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ended = api_hour(project, "hello:Container", "--pid", "pid", "--bind", "127.0.0.1:0")
    assert ended.returncode == 1
    assert r"its master (pid: \x1b[2J\n7) holds" in ended.stderr
    assert "\x1b" not in ended.stderr


def test_what_may_be_a_secret_is_not_printed_with_the_configuration(project: Path) -> None:
    etc = project / "etc" / "hello"
    etc.mkdir(parents=True)
    (etc / "secret").write_text("hunter2\n")
    (etc / "main.yaml").write_text(
        "api_hour:\n  syslog_prefix: !file secret\n  accesslog: !env LOG:hunter2\n"
        "  proc_name: !env LOG:hunter2\n"
    )
    options = "--env", "DATABASE_URL=postgresql://hunter2@db", "--name", "seen", "--print-config"
    ended = api_hour(project, "hello:Container", *options)
    assert ended.returncode == 0
    assert "hunter2" not in ended.stdout + ended.stderr
    found = dict(re.findall(r"^(\w+) += (.*)$", ended.stdout, re.MULTILINE))
    assert found["syslog_prefix"] == "<!file secret>"
    assert found["accesslog"] == "<!env LOG>"
    assert found["proc_name"] == "seen"
    assert found["raw_env"] == "['DATABASE_URL=...']"


def test_the_help_is_one_screen_and_all_of_it_has_no_markup(project: Path) -> None:
    screen = api_hour(project, "--help").stdout
    assert len(screen.splitlines()) <= 40
    assert max(map(len, screen.splitlines())) <= 100
    assert screen.startswith("usage: api_hour [OPTIONS] MODULE:CONTAINER\n")
    everything = api_hour(project, "--help-all").stdout
    assert max(map(len, everything.splitlines())) <= 100
    for mark in (":ref:", "``", "::", "versionadded", "`"):
        assert mark not in everything, mark
    described = re.findall(r"^  (-\S.*)\n((?:      .*\n?)+)", everything, re.MULTILINE)
    assert [spelled for spelled, text in described if not text.rstrip().endswith(".")] == []
    options = [re.findall(r"--[a-z0-9-]+", spelled)[-1] for spelled, _ in described]
    for option in re.findall(r"^  .*?(--[a-z-]+)", screen, re.MULTILINE):
        assert option in [*options, "--help"]
    assert options.index("--max-surge") < options.index("--workers")
    assert not {"--preload", "--certfile", "--http-parser", "--statsd-host"} & {*options}


def test_the_version_names_both(project: Path) -> None:
    said = api_hour(project, "--version").stdout
    assert said == (
        f"api_hour {__version__} (Gunicorn {gunicorn.__version__}, "
        f"Python {platform.python_version()})\n"
    )


def test_without_arguments_the_command_shows_what_is_missing(project: Path) -> None:
    (project / "etc" / "hello").mkdir(parents=True)
    ended = api_hour(project)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"{USAGE}\napi_hour: error: name one Container: api_hour MODULE:CONTAINER, as in "
        "api_hour hello:Container; api_hour --help shows the options\n"
    )


@pytest.mark.parametrize("option", ["--help", "--help-all", "--version", "--print-config"])
def test_a_reader_that_has_read_enough_leaves_no_traceback(option: str, project: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "api_hour", "hello:Container", option]
    with os.fdopen(writing, "wb") as nobody:
        run = subprocess.run(
            command, cwd=project, stdout=nobody, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert run.returncode == 0
    assert b"Traceback" not in run.stderr
