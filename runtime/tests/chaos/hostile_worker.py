"""A worker that belongs to an attacker: whatever it sends to the master, the others serve.

One worker of three, whose place the kernel gives away by a lock, never serves. It attacks what it
shares with the master: the channel, the file of heartbeats, the crash report. Each life is another
attack, and ends by the master's kill or by its own exit; then the next worker gets the lock, and at
a reload if there is none to come. So no request may be lost at all. What a worker can do to its
siblings, which run as the same user, is not tried: it may kill them.
"""

import os
import re
import signal
import time
from pathlib import Path

from runtime.tests.chaos.exhaustion import cpu_seconds
from runtime.tests.chaos.harness import Harness
from testkit.waiting import until

WORKERS = 3
OPTIONS = ("--workers", str(WORKERS), "--graceful-timeout", "1")
LINES = 10  # of the log, for each life: its boot, its end, and what it asks for once
PATIENCE = 3.0  # seconds without a new attack
MIB = 1 << 20
GROWTH = 8 * MIB  # bytes of the master's memory

ATTACKS = r"""

import fcntl, gc, random, signal, socket, threading

from api_hour.worker.channel import MAX_LINE, Channel, Message
from api_hour.worker.crash_report import CrashReport
from api_hour.config.gunicorn_files import Heartbeats

PLACE = os.path.dirname(os.environ["CHAOS_LEDGER"])


def of(kind):
    held = [held for held in gc.get_objects() if isinstance(held, kind)]
    return next(each for each in held if not getattr(each, "closed", False))


def line(kind, text=""):
    return f'["{kind}", "{text}"]\n'.encode()


def flood(sock):
    sock.send(line("ready"))
    while True:
        sock.send(line("boots") * random.randrange(1, 100))


def drip(sock):
    sock.send(line("ready"))
    for byte in line("boots", "z" * 20_000):
        sock.send(bytes([byte]))


def descriptors(sock):
    read, write = os.pipe()
    sock.send(line("ready"))
    for _ in range(200):
        socket.send_fds(sock, [line("boots")], [read, write] * 60)
        time.sleep(0.01)


def flood_of_requests(sock):
    sock.send(line("ready"))
    while True:
        sock.send(line("replace", "y" * 4000) + line("told") + line("replace"))


def garbage(sock):
    while True:
        sock.send(random.randbytes(random.randrange(1, 5000)))


def ready_and_any_message(sock):
    sock.send(line("ready"))
    any_message(sock)


def endless_line(sock):
    while True:
        sock.send(b"[" * 50_000)


def odd_heartbeats(sock):
    file = of(Heartbeats).fileno()
    sock.send(line("ready"))
    for when in (-(2**40), 2**40, 0):
        os.utime(file, (when, when))
        os.ftruncate(file, 2**40)
        os.fchmod(file, 0)
        time.sleep(0.2)


def forged_crash_report(sock):
    file = of(CrashReport)._file
    os.ftruncate(file.fileno(), 2**40)
    frame = b'File "/etc/passwd", line 1 in x'
    os.pwrite(file.fileno(), b"Current thread \x1b[2J" * 9000 + frame, 0)
    os.lseek(file.fileno(), 2**39, os.SEEK_SET)
    sock.send(line("ready"))
    os.kill(os.getpid(), signal.SIGABRT)


def odd_values(sock):
    odd = '{"a":1}', '[' * 9000 + ']' * 9000, '["ready", ' + "9" * 20_000 + "]", '["ready", NaN]'
    sock.send(f"{random.choice(odd)}\n".encode())


def half_a_line_and_the_end(sock):
    sock.send(line("ready")[:7])
    sock.shutdown(socket.SHUT_RDWR)
    time.sleep(1)


def ready_and_exit(sock):
    sock.send(line("ready"))


def ready_and_drain(sock):
    sock.send(line("draining") + line("ready") + line("draining") * 3)
    time.sleep(60)


def long_lines(sock):
    while True:
        sock.send(line("failed", "\\u1234" * 3999))
        time.sleep(0.2)


def fail_for_ever(sock):
    while True:
        sock.send(line("failed", "for ever"))
        time.sleep(0.11)


def any_message(sock):
    while True:
        kinds = [kind for kind in Message if kind != "ready"]
        sock.send(line(random.choice(kinds), "x" * random.randrange(4000)))
        time.sleep(0.11)


ALL = [attack for attack in list(globals().values()) if getattr(attack, "__code__", None)
       and attack.__code__.co_varnames[:1] == ("sock",)]


def attack():
    with open(f"{PLACE}/lives", "a+") as lives:
        lives.seek(0)
        name = ALL[len(lives.readlines()) % len(ALL)].__name__
        lives.write(f"{name}\n")
    sock = of(Channel)._sock
    sock.setblocking(True)
    signal.setitimer(signal.ITIMER_REAL, 1.5)  # then comes another attack
    try:
        globals()[name](sock)
    finally:
        os._exit(5)


class Container(Container):
    @asynccontextmanager
    async def engines(self):
        self.lock = os.open(f"{PLACE}/lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            if not os.path.exists(f"{PLACE}/quiet"):
                threading.Thread(target=attack, daemon=True).start()
                while not os.path.exists(f"{PLACE}/quiet"):
                    await asyncio.sleep(0.1)
                os._exit(6)
        async with super().engines():
            yield
"""


def prepare(harness: Harness) -> None:
    """Let one worker of each generation be the attacker's."""
    harness.project.append(ATTACKS)


def attack(harness: Harness) -> None:
    """Serve beside the attacker; then the master is as it was, and reloads."""
    daemon, lives = harness.daemon, harness.folder / "lives"
    until(lambda: _count(lives) >= 2, "nobody attacks")
    before, used = _figures(daemon.pid), cpu_seconds([daemon.pid])
    began = changed = time.monotonic()
    seen = 0
    while time.monotonic() < began + harness.form.attack:
        harness.calm()
        if _count(lives) > seen:
            seen, changed = _count(lives), time.monotonic()
        elif time.monotonic() > changed + PATIENCE:  # honest workers have taken all places
            daemon.send(signal.SIGHUP)
            changed = time.monotonic()
    share = (cpu_seconds([daemon.pid])[daemon.pid] - used[daemon.pid]) / (time.monotonic() - began)
    (harness.folder / "quiet").touch()
    mark, ended = daemon.mark(), _count(lives)
    daemon.send(signal.SIGHUP)
    daemon.wait_for(f"Reloaded: {WORKERS} new workers are ready", after=mark)
    until(lambda: len(daemon.workers()) == WORKERS, "an old worker stays")
    after = _figures(daemon.pid)
    kinds = len(set(lives.read_text().split()))
    harness.note(f"{ended} lives, {kinds} attacks, master: {share:.0%} of a CPU")
    harness.note(
        f"descriptors {before[0]} -> {after[0]}, MiB {before[1] / MIB:.1f} -> {after[1] / MIB:.1f}"
    )
    assert share < 0.5, f"the master spins: {share:.0%} of a CPU"
    assert after[0] <= before[0] + 1, "the master has kept descriptors"
    assert after[1] < before[1] + GROWTH, "the master has grown"
    odd = [line for line in daemon.lines if re.search(r"Traceback|not finish|[\x00\x1b]", line)]
    assert not odd, odd[:3]
    boots = len(re.findall("Booting worker", daemon.output))
    assert len(daemon.lines) < LINES * boots + 500, "the attacker fills the log"


def _count(lives: Path) -> int:
    return len(lives.read_text().splitlines()) if lives.exists() else 0


def _figures(pid: int) -> tuple[int, int]:
    """Return the number of descriptors, and the bytes of resident memory, of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return len(os.listdir(f"/proc/{pid}/fd")), pages * os.sysconf("SC_PAGE_SIZE")
