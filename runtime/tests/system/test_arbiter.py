"""The master on real processes: ready before drain, a reload that cannot break, a clean stop."""

import contextlib
import http.client
import os
import pty
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from api_hour.master.arbiter import SAME_STOP
from testkit.processes import Daemon, tcp_sockets
from testkit.waiting import TIMEOUT, until

Run = Callable[..., Daemon]


def in_flight(daemon: Daemon, seconds: float) -> "threading.Thread":
    """Send a request that takes ``seconds``; its outcome is the thread's ``answer``."""

    def request() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port(), timeout=TIMEOUT)
        with contextlib.closing(connection):
            connection.request("GET", f"/slow?seconds={seconds}")
            sent.set()
            response = connection.getresponse()
            thread.answer = response.status, response.getheader("Connection")  # type: ignore[attr-defined]

    sent = threading.Event()
    thread = threading.Thread(target=request)
    thread.start()
    assert sent.wait(TIMEOUT)
    return thread


def test_a_reload_serves_new_code_and_the_old_workers_leave(run: Run, project: Path) -> None:
    daemon = run("hello:Container", "--workers", "2").ready(2)
    old = set(daemon.workers())
    code = (project / "hello.py").read_text()
    (project / "hello.py").write_text(code.replace('"first"', '"second"'))
    mark = daemon.mark()
    daemon.send(signal.SIGHUP)
    daemon.ready(2, after=mark)
    until(lambda: not old & set(daemon.workers()), "an old worker stayed")
    assert daemon.get()[1]["message"] == "second"
    assert daemon.stop() == 0


def test_an_old_worker_drains_only_after_a_new_one_is_ready(run: Run) -> None:
    daemon = run().ready()
    mark = daemon.mark()
    daemon.send(signal.SIGHUP)
    daemon.wait_for(r"left: exit code 0", after=mark)
    log = "\n".join(daemon.lines[mark:])
    assert log.index("Worker ready") < log.index("left: exit code 0")


def test_broken_code_and_broken_settings_keep_the_old_workers(run: Run, project: Path) -> None:
    daemon = run().ready()
    code = (project / "hello.py").read_text()
    etc = project / "etc" / "hello"
    etc.mkdir(parents=True)
    breakages = {
        "hello.py": (code + "\ndef f(:\n", r"hello.py:\d+: SyntaxError"),
        "etc/hello/main.yaml": ("api_hour:\n  nonsense: 1\n", r"main.yaml:2: api_hour.nonsense"),
        "etc/hello/gunicorn.conf.py": (
            "import sys\nsys.exit(9)\n",
            r"gunicorn.conf.py:2: SystemExit",
        ),
    }
    for name, (text, violation) in breakages.items():
        mark = daemon.mark()
        (project / name).write_text(text)
        daemon.send(signal.SIGHUP)
        daemon.wait_for(rf"\[ERROR\] \[api_hour\.master\] Reload failed.*{violation}", after=mark)
        assert daemon.get()[1]["message"] == "first"
        (project / name).write_text(code if name == "hello.py" else "")
    mark = daemon.mark()
    (project / "hello.py").write_text(code.replace('"first"', '"mended"'))
    daemon.send(signal.SIGHUP)
    daemon.ready(after=mark)
    until(lambda: daemon.get()[1]["message"] == "mended", "the mended code does not serve")
    assert len(re.findall(r"\[ERROR\]", daemon.output)) == len(breakages)


def test_listeners_cannot_change_at_a_reload(run: Run, project: Path) -> None:
    daemon = run().ready()
    etc = project / "etc" / "hello"
    etc.mkdir(parents=True)
    (etc / "main.yaml").write_text("api_hour:\n  listeners:\n    more: tcp://127.0.0.1:0\n")
    daemon.send(signal.SIGHUP)
    daemon.wait_for("Reload failed.*listener more cannot change at a reload, from nothing to ")
    assert daemon.get()[0] == 200


def test_a_request_in_flight_at_term_is_answered_and_its_connection_closed(run: Run) -> None:
    daemon = run().ready()
    request = in_flight(daemon, 5.0)
    until(lambda: daemon.get()[0] == 200, "no answer")
    assert daemon.stop() == 0
    request.join(TIMEOUT)
    assert request.answer == (200, "close")  # type: ignore[attr-defined]


def test_int_ends_the_daemon_without_waiting_for_requests(run: Run) -> None:
    daemon = run().ready()
    request = unanswered(daemon, "/slow?seconds=50")
    until(lambda: daemon.get()[0] == 200, "no answer")
    assert daemon.stop(signal.SIGINT) == 0
    request.join(TIMEOUT)
    assert not request.is_alive()


def unanswered(daemon: Daemon, path: str) -> "threading.Thread":
    """Send a request that never gets an answer."""

    def request() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port(), timeout=TIMEOUT)
        with contextlib.closing(connection):
            connection.request("GET", path)
            sent.set()
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                connection.getresponse().read()

    sent = threading.Event()
    thread = threading.Thread(target=request)
    thread.start()
    assert sent.wait(TIMEOUT)
    return thread


def test_a_killed_worker_is_replaced_and_the_others_serve(run: Run) -> None:
    daemon = run("hello:Container", "--workers", "2").ready(2)
    victim = daemon.workers()[0]
    mark = daemon.mark()
    os.kill(victim, signal.SIGKILL)
    daemon.ready(after=mark)
    assert victim not in daemon.workers()
    assert daemon.get()[0] == 200
    assert daemon.stop() == 0


def test_workers_that_crash_while_they_serve_never_wait_for_more_than_a_second(run: Run) -> None:
    daemon = run().ready()
    for _ in range(5):
        mark = daemon.mark()
        os.kill(daemon.workers()[0], signal.SIGKILL)
        pause = daemon.wait_for(r"died: signal SIGKILL.*next in (\S+) s", after=mark)[1]
        assert float(pause) <= 1
        daemon.ready(after=mark)
    assert float(pause) == 1  # bounded, too
    assert daemon.get()[0] == 200


def test_signals_are_handled_between_two_forks(run: Run, project: Path) -> None:
    (project / "gunicorn.conf.py").write_text(
        "import os, signal\nworkers = 60\n"
        "def pre_fork(master, worker):\n"
        "    if worker.age == 3:\n        os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    daemon = run()
    assert daemon.wait() == 0
    assert daemon.output.count("Booting worker") <= 4


def test_ttin_and_ttou_change_the_number_of_workers(run: Run, project: Path) -> None:
    (project / "gunicorn.conf.py").write_text(
        "from api_hour.master import arbiter\narbiter.MAX_WORKERS = 2\nboot_timeout = 0\n"
    )
    daemon = run().ready()
    daemon.send(signal.SIGTTIN)
    until(lambda: len(daemon.workers()) == 2, "no second worker")
    daemon.ready(2)
    daemon.send(signal.SIGTTIN)
    daemon.wait_for("TTIN refused: there may be at most 2 workers")
    daemon.send(signal.SIGTTOU)
    until(lambda: len(daemon.workers()) == 1, "the second worker stayed")
    assert daemon.stop() == 0


def test_a_blocked_worker_is_aborted_and_the_log_shows_its_stack(run: Run) -> None:
    daemon = run("hello:Container", "--timeout", "5").ready()
    mark = daemon.mark()
    client = unanswered(daemon, "/block")
    daemon.wait_for(r"is blocked: no heartbeat", after=mark)
    daemon.wait_for(r'hello.py", line \d+ in block', after=mark)
    daemon.ready(after=mark)
    client.join(TIMEOUT)


def test_usr1_and_winch_interrupt_nothing(run: Run, project: Path) -> None:
    log = project / "daemon.log"
    daemon = run("hello:Container", "--log-file", str(log))
    until(lambda: log.exists() and "Worker ready" in log.read_text(), "no worker became ready")
    port = int(re.findall(r"Listening on http at tcp://.*:(\d+)", log.read_text())[0])
    log.rename(project / "rotated.log")
    for number in (signal.SIGWINCH, signal.SIGUSR1):
        daemon.send(number)
    until(lambda: log.exists() and "usr1" not in log.read_text(), "the log was not opened again")
    daemon.send(signal.SIGHUP)
    until(lambda: "Worker ready" in log.read_text(), "the reload is not in the new log")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    connection.close()
    assert daemon.stop() == 0


def test_term_to_the_whole_group_stops_as_term_to_the_master_does(run: Run) -> None:
    daemon = run("hello:Container", "--workers", "2", "--stop-delay", "600").ready(2)
    os.killpg(daemon.pid, signal.SIGTERM)
    sent = time.monotonic()
    daemon.wait_for("asks to be replaced: it was sent TERM", count=2)
    for _ in range(4):  # the workers accept until the delay is over
        assert daemon.get()[0] == 200
    until(lambda: time.monotonic() > sent + 2 * SAME_STOP, "time stands still")
    assert daemon.stop() == 0  # a second TERM shortens the delay
    assert "died" not in daemon.output


def test_term_to_the_group_and_to_the_master_is_one_stop(run: Run) -> None:
    daemon = run().ready()
    request = in_flight(daemon, 2.0)
    accepts_no_more(daemon)
    os.killpg(daemon.pid, signal.SIGTERM)
    for _ in range(10):
        daemon.send(signal.SIGTERM)
        time.sleep(0.01)  # the kernel makes one of two that wait
    assert daemon.wait() == 0
    request.join(TIMEOUT)
    assert request.answer == (200, "close")  # type: ignore[attr-defined]


IN_A_TERMINAL = """\
import fcntl, os, signal, sys, termios
fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
if sys.argv[2] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "api_hour", *sys.argv[3:]])
"""


@pytest.mark.parametrize("nohup", ["", "nohup"])
def test_a_daemon_ends_with_its_terminal_unless_it_was_started_by_nohup(
    project: Path, nohup: str
) -> None:
    ours, its = pty.openpty()
    command = (sys.executable, "-c", IN_A_TERMINAL, str(its), nohup)
    listen = ("--listen", "http=tcp://127.0.0.1:0")
    with Daemon(project, "hello:Container", *listen, command=command, pass_fds=[its]) as daemon:
        os.close(its)
        daemon.ready()
        mark = daemon.mark()
        daemon.send(signal.SIGHUP)
        daemon.wait_for("Reloaded", after=mark)
        mark = daemon.mark()
        os.close(ours)
        if nohup:
            daemon.wait_for("Reloaded", after=mark)
            daemon.send(signal.SIGTERM)
        else:
            daemon.wait_for("The terminal is gone: the daemon ends", after=mark)
        assert daemon.wait() == 0


def test_a_stop_of_all_processes_is_forgiven(run: Run) -> None:
    daemon = run("hello:Container", "--workers", "2", "--timeout", "4").ready(2)
    workers = daemon.workers()
    request = in_flight(daemon, 1.0)
    until(lambda: daemon.get()[0] == 200, "no answer")
    daemon.send_all(signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: time.monotonic() > stopped + 6, "time stands still")
    daemon.send_all(signal.SIGCONT)
    request.join(TIMEOUT)
    assert request.answer[0] == 200  # type: ignore[attr-defined]
    mark = daemon.mark()
    daemon.send(signal.SIGTTIN)  # some turns later
    daemon.ready(after=mark)
    assert daemon.workers()[:2] == workers
    assert "is blocked" not in daemon.output


def test_draining_workers_are_bounded_and_the_oldest_ends_first(run: Run) -> None:
    daemon = run("hello:Container", "--max-draining", "1").ready()
    requests: list[threading.Thread] = []
    workers: list[int] = []

    def none_accepts() -> bool:
        return not any(map(listens, workers))

    for _ in range(2):
        until(none_accepts, "an old worker accepts")
        workers += [pid for pid in daemon.workers() if pid not in workers]
        mark = daemon.mark()
        requests.append(unanswered(daemon, "/slow?seconds=600"))
        until(lambda: daemon.get()[0] == 200, "no answer")
        daemon.send(signal.SIGHUP)
        daemon.ready(after=mark)
    oldest, second = workers
    daemon.wait_for(rf"\(pid: {oldest}\) is told to hurry: 2 drain, and max_draining is 1")
    daemon.wait_for(rf"Worker \(pid: {oldest}\) left: exit code 0")
    requests[0].join(TIMEOUT)
    assert second in daemon.workers()
    assert daemon.stop(signal.SIGINT) == 0
    requests[1].join(TIMEOUT)


CLINGING = """\
import gc

from api_hour.worker.channel import Channel, Message


async def cling(request):
    [to_master] = [
        channel
        for channel in gc.get_objects()
        if isinstance(channel, Channel) and not channel.closed
    ]
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(600)
    while True:
        to_master.send(Message.DRAINING)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.1)


def stand():
    time.sleep(600)


async def hang(request):
    await asyncio.to_thread(stand)


class Container(Hello):
    def servers(self):
        app = web.Application()
        app.router.add_get("/slow", slow)
        app.router.add_get("/cling", cling)
        app.router.add_get("/hang", hang)
        return {"http": api_hour.HTTPServer(app)}
"""


def test_a_drain_has_the_length_of_its_own_generation(run: Run, project: Path) -> None:
    code = (project / "hello.py").read_text().replace("class Container(", "class Hello(")
    (project / "hello.py").write_text(f"import contextlib\n{code}{CLINGING}")
    settings = project / "gunicorn.conf.py"
    settings.write_text("graceful_timeout = 60\ndrain_idle = 0\nmax_draining = 9\n")
    daemon = run().ready()

    def reload() -> int:
        """Return the pid of the worker that drains now."""
        mark, [old] = daemon.mark(), set(daemon.workers()) - set(draining)
        daemon.send(signal.SIGHUP)
        daemon.wait_for("Reloaded: 1 new worker", after=mark)
        until(lambda: not tcp_sockets(old, state="0A"), "the old worker still accepts")
        draining.append(old)
        return old

    draining: list[int] = []
    request = in_flight(daemon, 6.0)  # longer than all that the next generations grant
    accepts_no_more(daemon)
    settings.write_text("graceful_timeout = 0\ndrain_idle = 0\nmax_draining = 9\n")
    patient = reload()
    unanswered(daemon, "/cling")
    accepts_no_more(daemon)
    clinging = reload()
    unanswered(daemon, "/hang")
    accepts_no_more(daemon)
    hanging = reload()
    for pid in (clinging, hanging):
        daemon.wait_for(rf"Worker \(pid: {pid}\) did not end in time")
    daemon.wait_for(r"hello.py., line \d+ in stand")  # the log shows the thread that hangs
    request.join(TIMEOUT)
    assert request.answer == (200, "close")  # type: ignore[attr-defined]
    daemon.wait_for(rf"Worker \(pid: {patient}\) left: exit code 0")
    assert daemon.stop() == 0


def accepts_no_more(daemon: Daemon) -> None:
    """Wait until what was sent before has been accepted."""
    until(lambda: daemon.get("/slow?seconds=0")[0] == 200, "no answer")


def test_a_signal_behind_one_that_cannot_be_handled_is_not_lost(run: Run, project: Path) -> None:
    (project / "gunicorn.conf.py").write_text(
        "def when_ready(master):\n    master.handle_hup = lambda: 1 / 0\n"
    )
    daemon = run().ready()
    daemon.send(signal.SIGSTOP)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
        daemon.send(number)
    daemon.wait_for("The master could not finish a turn; it goes on")
    assert daemon.wait() == 0


def listens(pid: int) -> bool:
    return bool(tcp_sockets(pid, state="0A"))


def test_a_real_time_signal_to_a_worker_costs_one_worker(run: Run) -> None:
    daemon = run("hello:Container", "--workers", "2").ready(2)
    mark = daemon.mark()
    os.kill(daemon.workers()[0], signal.SIGRTMIN + 5)
    daemon.wait_for(r"died: signal \d+; next in", after=mark)
    daemon.ready(after=mark)
    assert daemon.get()[0] == 200
    assert "Traceback" not in daemon.output


BABBLER = """\
import gc

from api_hour.worker.channel import Channel


class Container(Hello):
    def servers(self):
        for channel in gc.get_objects():
            if isinstance(channel, Channel) and not channel.closed:
                channel._sock.send(b"garbage\\n")
        return super().servers()
"""


def test_a_worker_that_babbles_is_killed_and_the_others_serve(run: Run, project: Path) -> None:
    daemon = run().ready()
    code = (project / "hello.py").read_text()
    (project / "hello.py").write_text(code.replace("class Container(", "class Hello(") + BABBLER)
    mark = daemon.mark()
    daemon.send(signal.SIGHUP)
    daemon.wait_for(
        "Reload failed, the running workers stay: it sent what is not a message: b'garbage', and "
        "was killed",
        after=mark,
    )
    assert daemon.get()[0] == 200
    assert daemon.stop() == 0


OBSTINATE = """
import threading
import time

from api_hour.worker.channel import Message


def post_fork(master, worker):
    def fail():
        while True:
            worker._to_master.send(Message.DRAINING)
            worker._to_master.send(Message.FAILED, "a reason")
            time.sleep(0.2)

    if worker.age > 1:
        threading.Thread(target=fail).start()
        time.sleep(600)
"""


def test_no_message_of_a_worker_puts_off_its_end(run: Run, project: Path) -> None:
    (project / "gunicorn.conf.py").write_text(OBSTINATE)
    daemon = run().ready()
    mark = daemon.mark()
    daemon.send(signal.SIGHUP)
    daemon.wait_for("Reload failed, the running workers stay: a reason", after=mark)
    assert daemon.get()[0] == 200
    assert daemon.stop() == 0


WANTING_TO_LEAVE = """
import os

from api_hour.worker.channel import Message


def post_fork(master, worker):
    worker._to_master.send(Message.READY)
    for name in {names} * 10:
        worker._to_master.send(Message(name))
    if "draining" in {names}:
        os._exit(0)
"""


@pytest.mark.parametrize("names", [["draining"], ["replace", "told"]], ids=" ".join)
def test_workers_that_want_to_leave_are_replaced_once_a_second(
    run: Run, project: Path, names: list[str]
) -> None:
    (project / "gunicorn.conf.py").write_text(WANTING_TO_LEAVE.format(names=names))
    daemon = run()
    daemon.wait_for("Booting worker", count=6)
    boots = [line[12:24] for line in daemon.lines if "Booting worker" in line]
    first, sixth = (datetime.strptime(boots[index], "%H:%M:%S.%f") for index in (0, 5))
    assert (sixth - first) % timedelta(days=1) > timedelta(seconds=1.5)
    assert daemon.output.count("asks to be replaced") <= 2 * len(boots)
    assert daemon.stop() == 0
