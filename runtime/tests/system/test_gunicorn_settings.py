"""Settings of Gunicorn that act here as they do there, on real daemons; many in each."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from testkit.ports import accepts, free_port
from testkit.processes import API_HOUR, Daemon
from testkit.waiting import TIMEOUT, until

FREE = ("--listen", "http=tcp://127.0.0.1:0")


def configure(project: Path, python: str) -> None:
    (project / "gunicorn.conf.py").write_text(python)


def open_files(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield os.readlink(link)


def test_settings_of_the_master_act(project: Path) -> None:
    port = free_port()
    (project / "own.py").write_text(
        "import gunicorn.glogging\n\n\nclass Logger(gunicorn.glogging.Logger):\n"
        "    def setup(self, cfg):\n        super().setup(cfg)\n        print('own logger')\n"
    )
    (project / "hello.py").write_text((project / "hello.py").read_text() + "print('imported')\n")
    configure(
        project,
        "pidfile = 'pid'\nerrorlog = 'log'\nloglevel = 'WARNING'\ncapture_output = True\n"
        "logger_class = 'own.Logger'\nproc_name = 'named'\nbacklog = 7\nsyslog = False\n"
        "control_socket_disable = True\n\n"
        "def when_ready(server):\n"
        "    import socket, struct\n"
        "    sock = next(iter(server.LISTENERS[0]))\n"
        "    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)\n"
        "    backlog = struct.unpack('8B24I', info)[13]  # of a listening socket\n"
        "    server.log.warning('backlog %s, proc_name %s', backlog, server.proc_name)\n",
    )
    log = project / "log"
    options = ["--listen", f"http=tcp://127.0.0.1:{port}"]
    home = {"HOME": str(project)}
    with Daemon(project, "hello:Container", *options, variables=home) as daemon:
        until(lambda: accepts(port), "it does not listen")
        until(lambda: "imported" in log.read_text(), "the output is not captured")
        assert "backlog 7, proc_name named" in log.read_text()
        assert "own logger" in daemon.output + log.read_text()
        assert "INFO" not in daemon.output + log.read_text()
        assert int((project / "pid").read_text()) == daemon.pid
        assert not list(project.rglob("*.ctl"))
        assert daemon.stop() == 0
    configure(project, "spew = True\n")
    # Every line is traced, so this one is small: it has no server for its listener.
    (project / "tiny.py").write_text("from api_hour import Container\n")
    with Daemon(project, "tiny:Container", *FREE) as daemon:
        assert daemon.wait() == 1
        daemon.wait_for(r"^api_hour\.master\.arbiter:\d+: ")


def test_settings_of_the_workers_act(project: Path) -> None:
    (project / "more").mkdir()
    (project / "tmp").mkdir()
    (project / "more" / "extra.py").write_text("import os\n\nCOLOR = os.environ['COLOR']\n")
    text = (project / "hello.py").read_text()
    (project / "hello.py").write_text(
        "import extra\n" + text.replace('MESSAGE = "first"', "MESSAGE = extra.COLOR")
    )
    options = ["--pythonpath", "more", "--env", "COLOR=red", "--access-logfile", "access"]
    with Daemon(project, "hello:Container", *FREE, *options, "--worker-tmp-dir", "tmp") as daemon:
        daemon.ready()
        assert daemon.get()[1]["message"] == "red"
        access = project / "access"
        until(lambda: '"GET / HTTP/1.1" 200' in access.read_text(), "accesslog is empty")
        [worker] = daemon.workers()
        heartbeat = str(project / "tmp" / "")
        assert any(file.startswith(heartbeat) for file in open_files(worker))
        assert daemon.stop() == 0


def test_raw_env_holds_for_the_workers_of_its_generation_only(project: Path) -> None:
    hello = (project / "hello.py").read_text()
    (project / "hello.py").write_text(
        hello.replace('"first"', '[os.environ.get("COLOR"), os.environ.get("HOME")]')
        + "\n    settings = dict\n"
        "\n    def __init__(self, config):\n        super().__init__(config)\n"
        "        MESSAGE.append(config['color'])\n"
    )
    etc = project / "etc" / "hello"
    etc.mkdir(parents=True)
    (etc / "main.yaml").write_text("color: !env COLOR:none\n")
    hook = (
        "import os\n\ndef post_fork(master, worker):\n"
        "    worker.log.info('%s in post_fork', os.environ.get('COLOR'))\n"
    )
    configure(project, "raw_env = ['COLOR=red', 'HOME=/nowhere']\n" + hook)
    with Daemon(project, "hello:Container", *FREE, variables={"HOME": "/"}) as daemon:
        daemon.ready()
        assert daemon.get()[1]["message"] == ["red", "/nowhere", "none"]
        daemon.wait_for("red in post_fork")
        for python, message in {
            "raw_env = ['COLOR=blue']\n": ["blue", "/", "none"],
            "": [None, "/", "none"],
        }.items():
            configure(project, python + hook)
            mark = daemon.mark()
            daemon.send(signal.SIGHUP)
            daemon.wait_for("Reloaded: ", after=mark)
            daemon.wait_for("left: exit code 0", after=mark)
            assert daemon.get()[1]["message"] == message
        configure(project, "user = 'nobody'\n")
        daemon.send(signal.SIGHUP)
        daemon.wait_for("Reload failed.*: user cannot change at a reload: restart the daemon to")
        assert daemon.stop() == 0


def test_a_worker_is_replaced_after_max_requests(project: Path) -> None:
    hook = "def post_fork(server, worker):\n    worker.log.info('limit %s', worker.max_requests)\n"
    hook = "drain_idle = 0\n" + hook
    configure(project, "max_requests = 2\n" + hook)
    with Daemon(project, "hello:Container", *FREE) as daemon:
        daemon.ready()
        daemon.wait_for("limit 2$")
        for _ in range(2):
            daemon.get()
        daemon.wait_for("asks to be replaced")
        daemon.ready(2)
        mark = daemon.mark()
        configure(project, "max_requests = 2\nmax_requests_jitter = 10**9\n" + hook)
        daemon.send(signal.SIGHUP)
        assert int(daemon.wait_for(r"limit (\d+)", after=mark)[1]) > 2
        daemon.ready(after=mark)
        configure(project, "graceful_timeout = 1\n" + hook)
        mark = daemon.mark()
        daemon.send(signal.SIGHUP)
        daemon.ready(after=mark)
        with socket.create_connection(("127.0.0.1", daemon.port()), TIMEOUT) as client:
            client.sendall(b"GET /slow?seconds=3600 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert daemon.get()[0] == 200  # so the other request has been accepted
            assert daemon.stop() == 0
            assert client.recv(1) == b""


@pytest.mark.parametrize(
    "options",
    [
        ("--logger-class", "nosuch.Logger"),
        ("--log-syslog", "--log-syslog-to", "udp://nosuch.invalid:514"),
        ("--capture-output", "--error-logfile", "/nonexistent/log"),
    ],
)
def test_a_log_that_cannot_be_opened_is_one_line(project: Path, options: tuple[str, ...]) -> None:
    with Daemon(project, "hello:Container", *FREE, *options) as daemon:
        assert daemon.wait() == 1
        assert "api_hour: error: the log cannot be opened (errorlog" in daemon.output
        assert "Traceback" not in daemon.output


def test_logs_that_change_at_a_reload_get_every_line_or_refuse_it(project: Path) -> None:
    with Daemon(project, "hello:Container", *FREE) as daemon:
        daemon.ready()
        for python, outcome in (
            ("accesslog = 'access'\nloglevel = 'debug'\n", "Reloaded: 1 new worker"),
            ("errorlog = 'nosuch/error'\n", "Reload failed.*the log cannot be opened"),
        ):
            mark = daemon.mark()
            configure(project, python)
            daemon.send(signal.SIGHUP)
            daemon.wait_for(outcome, after=mark)
            daemon.wait_for("left: ")  # the first worker, which has no access log
            for _ in range(5):
                daemon.get()
        access = project / "access"
        until(lambda: len(access.read_text().splitlines()) == 10, "a line is missing")
        assert daemon.stop() == 0


HOSTILE_HOOK = """
import os


def post_fork(master, worker):
    if master.cfg.default_proc_name == "hostile:Container":
        worker._to_master.send("failed", "a text \\x1b[2J of its own")
        os._exit(0)
"""


def test_a_daemon_that_does_not_start_fails_with_the_reason_and_logs_it(project: Path) -> None:
    (project / "broken.py").write_text("import nothing_of_this_name\n")
    (project / "gunicorn.conf.py").write_text(HOSTILE_HOOK)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        for spec, listen, reason in (
            ("hello:Container", ("--bind", bind), "is in use"),
            ("broken:Container", FREE, "No module named 'nothing_of_this_name'"),
            ("hostile:Container", FREE, "a text \\x1b[2J of its own"),
        ):
            (project / "log").unlink(missing_ok=True)
            options = ["--daemon", "--error-logfile", "log", *listen]
            command = [*API_HOUR, spec, *options]
            ended = subprocess.run(command, cwd=project, timeout=TIMEOUT, capture_output=True)
            assert ended.returncode == 1
            assert ended.stdout == b""
            assert ended.stderr.startswith(b"api_hour: error: the daemon has not started: ")
            assert reason in ended.stderr.decode()
            assert reason in (project / "log").read_text()


def test_a_daemon_goes_to_the_background(project: Path) -> None:
    options = ["--daemon", "--pid", "pid", "--error-logfile", "log", "-R"]
    with (project / "output").open("w") as output:
        started = subprocess.run(
            [*API_HOUR, "hello:Container", *FREE, *options],
            cwd=project,
            stdout=output,
            stderr=output,
            timeout=TIMEOUT,
            check=False,
        )
    pid_file = project / "pid"
    pid = int(pid_file.read_text())
    try:
        assert "Worker ready" in (project / "log").read_text()
        assert started.returncode == 0
        assert os.getsid(pid) not in (os.getsid(0), pid)  # forked once more, as daemons do
        # enable_stdio_inheritance
        assert os.readlink(f"/proc/{pid}/fd/1") == str(project / "output")
        log = project / "log"
        os.kill(pid, signal.SIGUSR2)
        until(lambda: log.read_text().count("Worker ready") == 2, "no successor is ready")
        os.kill(pid, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{pid}").exists(), "the old master does not end")
        until(lambda: pid_file.exists() and pid_file.read_text(), "no successor takes over")
        pid = int(pid_file.read_text())
        warned = [line for line in log.read_text().splitlines() if "[WARNING]" in line]
        assert all("run as root" in line for line in warned)
    finally:
        os.kill(pid, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{pid}").exists(), "it does not end")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_workers_run_as_the_user_and_groups(project: Path) -> None:
    hook = (
        "def post_worker_init(worker):\n    import os\n"
        "    ids = *os.getresuid(), *os.getresgid(), *os.getgroups()\n"
        "    worker.log.info('ids %s', ' '.join(map(str, ids)))\n"
    )
    for more in ("", "initgroups = True\n"):
        configure(project, "user = 'nobody'\ngroup = 65533\n" + more + hook)
        with Daemon(project, "hello:Container", *FREE) as daemon:
            # The user may not read this project, so it comes no further.
            ids = [*map(int, daemon.wait_for(r"ids ([\d ]+)")[1].split())]
        assert ids[:3] == [65534] * 3
        if more:
            assert ids[6:] == os.getgrouplist("nobody", 65533)
        else:
            assert ids[3:6] == [65533] * 3


def test_records_go_to_syslog(project: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(TIMEOUT)
        port = server.getsockname()[1]
        configure(
            project,
            f"syslog = True\nsyslog_addr = 'udp://127.0.0.1:{port}'\nsyslog_prefix = 'mine'\n"
            "syslog_facility = 'local3'\n",
        )
        with Daemon(project, "hello:Container", *FREE) as daemon:
            daemon.ready()
            daemon.get()
            records = [server.recv(4096)]
            while b"GET / HTTP/1.1" not in records[-1]:
                records.append(server.recv(4096))
            informative = b"<%d>" % (19 * 8 + 6)  # local3, info
            others = [record for record in records if b"run as root" not in record]
            assert {record.partition(b":")[0] for record in others} == {
                informative + b"gunicorn.mine.error",
                informative + b"gunicorn.mine.access",
            }
            configure(
                project,
                (project / "gunicorn.conf.py").read_text()
                + "disable_redirect_access_to_syslog = True\n",
            )
            mark = daemon.mark()
            daemon.send(signal.SIGHUP)
            daemon.wait_for("left: exit code 0", after=mark)
            daemon.get()
            daemon.send(signal.SIGTTIN)
            records = [b""]
            while b"Handling signal: ttin" not in records[-1]:
                records.append(server.recv(4096))
            assert not any(b"mine.access" in record for record in records)
            assert daemon.stop() == 0


HOOKS = {
    "on_starting": 1,
    "on_reload": 1,
    "when_ready": 1,
    "pre_fork": 2,
    "post_fork": 2,
    "post_worker_init": 1,
    "child_exit": 2,
    "worker_exit": 2,
    "nworkers_changed": 3,
    "on_exit": 1,
    "pre_exec": 1,
}


def test_every_hook_is_called(project: Path) -> None:
    def define(name: str, count: int) -> str:
        arguments = ", ".join("abc"[:count])
        body = (
            f"    with open({str(project / 'called')!r}, 'a') as f:\n        f.write('{name} ')\n"
        )
        # The successor of an upgrade is not wanted here.
        end = "    import os\n    os._exit(0)\n" if name == "pre_exec" else ""
        return f"def {name}({arguments}):\n{body}{end}\n"

    configure(project, "\n".join(define(name, count) for name, count in HOOKS.items()))
    called = project / "called"
    with Daemon(project, "hello:Container", *FREE, "--graceful-timeout", "1") as daemon:
        daemon.ready()
        daemon.send(signal.SIGTTIN)
        daemon.ready(2)
        daemon.send(signal.SIGUSR2)
        until(lambda: "pre_exec" in called.read_text(), "pre_exec was not called")
        mark = daemon.mark()
        daemon.send(signal.SIGHUP)
        daemon.wait_for("left: exit code 0", after=mark)
        assert daemon.stop() == 0
    names = called.read_text().split()
    assert set(names) == {*HOOKS}
    assert [names[0], names[-1]] == ["nworkers_changed", "on_exit"]
    assert names.index("on_starting") < names.index("when_ready") < names.index("pre_fork")
    assert names.count("post_fork") == names.count("worker_exit") == names.count("child_exit")
