"""Every scenario as data: its name, its fault, its load, and what it may cost."""

import math
from functools import partial

from runtime.tests.chaos import broken, deaths, ends, planned, scarcity
from runtime.tests.chaos.account import Loss
from runtime.tests.chaos.play import Scenario
from testkit.ledger import EXITS, FAILS_TO_OPEN, NEVER_READY, SYNTAX_ERROR
from testkit.load import Kind, Outcome, Profile

CUT = (Outcome.RESET, Outcome.UNREAD, Outcome.TRUNCATED)


def _deaths(count: int) -> Loss:
    """Return what deaths may cost: a client has one request under way at a time."""
    return Loss(dict.fromkeys(CUT, 20 * count), total=20 * count, drops=True)


IN_HAND = _deaths(1)
CUT_SHORT = Loss(dict.fromkeys((*CUT, Outcome.REFUSED), 20))
# A connection that is complete between the last accept() and the close() that follows is reset.
REFUSED = Loss({Outcome.REFUSED: math.inf, Outcome.RESET: 4}, kept=False)
RUSHED = Loss({Outcome.REFUSED: math.inf, Outcome.RESET: 20}, kept=False)
PATIENT = Profile(timeout=60.0)  # a restart takes as long as a boot
RUSH = Profile(keepalive=0, fresh=60, rate=2000, kinds=(Kind("quick"),))
SLOTS = ("--balance", "slots")  # a socket of its own for each worker
KEPT = Profile(fresh=0)

SCENARIOS = [
    Scenario("HUP three times", planned.reload_thrice),
    Scenario("HUP, TTIN, TTOU and TERM to workers, all at once", planned.overlap, load=PATIENT),
    Scenario("HUP with an import of 3 s", planned.reload_slow_import, slow=True),
    Scenario(
        "HUP under an answer longer than the window",
        planned.outlast_window,
        window=8.0,
        slow=True,
    ),
    Scenario("HUP beside idle connections", planned.close_idle),
    Scenario("TTIN twice, TTOU twice", planned.scale),
    Scenario(
        "TTOU under requests longer than timeout",
        planned.shrink_under_long_requests,
        options=("--timeout", "7"),
    ),
    Scenario("TERM to one worker", planned.retire_one, window=15.0),
    Scenario("USR2, then TERM to the old master", planned.upgrade),
    Scenario("USR2 rolled back", planned.roll_back),
    Scenario(
        "recycling by requests",
        planned.recycle,
        options=("--max-requests", "150", "--max-requests-jitter", "50"),
        needs=("max_worker_age",),
    ),
    Scenario(
        "recycling by age",
        planned.recycle,
        options=("--max-worker-age", "2"),
        needs=("max_worker_age",),
    ),
    Scenario(
        "recycling by memory",
        planned.recycle_memory,
        options=("--max-worker-rss", "250M"),
        needs=("max_worker_rss",),
    ),
    Scenario(
        "TERM and restart behind a held socket",
        planned.restart_held,
        load=PATIENT,
        held=True,
        needs=("api_hour.master.systemd",),
    ),
    Scenario(
        "HUP with a syntax error",
        partial(broken.code, text=SYNTAX_ERROR, error=r"hello\.py:\d+: SyntaxError"),
    ),
    Scenario(
        "HUP with code that leaves",
        partial(broken.code, text=EXITS, error="exit code 3"),
    ),
    Scenario(
        "HUP with broken YAML",
        partial(
            broken.configuration,
            name="main.yaml",
            text="api_hour:\n  listeners: [\n",
            good="{}\n",
            error=r"etc/hello/main\.yaml:\d+",
        ),
    ),
    Scenario(
        "HUP with a gunicorn.conf.py that leaves",
        partial(
            broken.configuration,
            name="gunicorn.conf.py",
            text="raise SystemExit(3)\n",
            good="threads = 1\n",
            error=r"etc/hello/gunicorn\.conf\.py:1: SystemExit: 3",
        ),
    ),
    Scenario(
        "HUP with engines that fail to open",
        partial(broken.code, text=FAILS_TO_OPEN, error="OSError: the engine is away"),
    ),
    Scenario(
        "HUP with a worker that is never ready",
        partial(broken.code, text=NEVER_READY, error="not ready in time"),
        options=("--boot-timeout", "12"),
    ),
    Scenario("USR2 with a syntax error", broken.upgrade),
    Scenario("TERM while a reload hangs", broken.stop_hanging, loss=REFUSED),
    Scenario("kill -9 of a worker after a failed HUP", broken.lose_one_after, loss=IN_HAND),
    Scenario(
        "kill -9 of a worker after a release that failed",
        broken.keep_release,
        loss=IN_HAND,
        prepare=broken.prepare_releases,
    ),
    Scenario("kill -9 of a worker", deaths.kill_worker, loss=IN_HAND),
    Scenario(
        "kill -9 of workers that have forked",
        deaths.kill_forked,
        loss=_deaths(3),
        prepare=deaths.prepare_forks,
    ),
    Scenario("kill -9 of the master", deaths.kill_master, load=None),
    Scenario("kill -9 of the master while a reload hangs", deaths.kill_reloading_master, load=None),
    Scenario(
        "kill -9 of the master behind a held socket",
        deaths.kill_held_master,
        load=PATIENT,
        held=True,
        needs=("api_hour.master.systemd",),
    ),
    Scenario(
        "workers that crash right after boot",
        deaths.crash_after_boot,
        loss=_deaths(deaths.STARTS),
        slow=True,
    ),
    Scenario("a project that never boots", deaths.never_boot, load=None, boots=False),
    Scenario(
        "time.sleep(60) in an endpoint",
        deaths.block_loop,
        options=("--timeout", "6"),
        load=PATIENT,
        loss=IN_HAND,
    ),
    Scenario(
        "SIGSTOP of a worker",
        deaths.freeze,
        options=("--timeout", "6"),
        load=PATIENT,
        loss=IN_HAND,
    ),
    Scenario("TERM under load", ends.stop, loss=REFUSED),
    Scenario("TERM under a rush of new connections", ends.stop, load=RUSH, loss=RUSHED),
    Scenario(
        "TERM with a delay",
        ends.stop_late,
        options=("--stop-delay", f"{ends.DELAY:.0f}"),
        loss=REFUSED,
        needs=("stop_delay",),
    ),
    Scenario("TERM with 1,000 requests in flight", ends.stop_full_hands, load=None),
    Scenario("TERM twice", ends.stop_twice, load=None, loss=CUT_SHORT),
    Scenario("no descriptors left", scarcity.run_out_of_descriptors, load=KEPT),
    Scenario("no descriptors left for the master", scarcity.starve_master, loss=IN_HAND),
    Scenario(
        "the log's disk is full",
        scarcity.fill_disk,
        options=("--access-logfile", "/dev/full", "--error-logfile", "/dev/full"),
        load=None,
        held=True,
        boots=False,
    ),
    Scenario(
        "the log's pipe is blocked",
        scarcity.block_log,
        options=("--access-logfile", "-"),
    ),
    Scenario(
        "the log's reader has gone",
        scarcity.lose_log_reader,
        options=("--access-logfile", "-"),
    ),
    Scenario("400 connections, spread and at once", scarcity.share_out, load=None),
    Scenario(
        "400 connections with slots",
        scarcity.share_out,
        options=SLOTS,
        load=None,
        needs=("balance",),
    ),
    Scenario(
        "HUP three times with slots", planned.reload_thrice, options=SLOTS, needs=("balance",)
    ),
    Scenario("TTIN twice, TTOU twice with slots", planned.scale, options=SLOTS, needs=("balance",)),
]
