"""Every scenario as data: its name, fault and load, and what it may cost."""

import math
from functools import partial

from runtime.tests.chaos import (
    broken_reloads,
    crashes,
    exhaustion,
    hostile_worker,
    observers,
    planned_events,
    releases,
    shutdown,
    starts,
)
from runtime.tests.chaos.account import Allowance
from runtime.tests.chaos.harness import WORKERS
from runtime.tests.chaos.runner import Scenario
from testkit.ledger import EXITS, FAILS_TO_OPEN, NEVER_READY, SYNTAX_ERROR
from testkit.load import Kind, Outcome, Profile

CUT = (Outcome.RESET, Outcome.UNREAD, Outcome.TRUNCATED)


def _after_deaths(count: int) -> Allowance:
    """Allow what the deaths of workers cost: a client has one request in flight at a time."""
    return Allowance(dict.fromkeys(CUT, 20 * count), total=20 * count, drops=True)


IN_FLIGHT = _after_deaths(1)
CUT_SHORT = Allowance(dict.fromkeys((*CUT, Outcome.REFUSED), 20))
# The kernel resets a connection that completes between the last accept() and close().
REFUSED = Allowance({Outcome.REFUSED: math.inf, Outcome.RESET: 4}, kept=False)
RUSHED = Allowance({Outcome.REFUSED: math.inf, Outcome.RESET: 20}, kept=False)
PATIENT = Profile(timeout=60.0)  # of clients that may have to wait for a boot
RUSH = Profile(keepalive=0, fresh=60, rate=2000, kinds=(Kind("quick"),))
SLOTS = ("--balance", "slots")  # each worker has a socket of its own
KEEPALIVE = Profile(fresh=0)

SCENARIOS = [
    Scenario("HUP three times", planned_events.reload_thrice),
    Scenario(
        "HUP, TTIN, TTOU and TERM to workers, all at once", planned_events.overlap, load=PATIENT
    ),
    Scenario("HUP with an import of 3 s", planned_events.reload_slow_import, slow=True),
    Scenario(
        "HUP under an answer longer than the window",
        planned_events.outlast_window,
        window=8.0,
        slow=True,
    ),
    Scenario(
        "HUP five times under open streams",
        planned_events.reload_under_streams,
        options=("--graceful-timeout", "300"),
        slow=True,
    ),
    Scenario("HUP beside idle connections", planned_events.close_idle),
    Scenario("TTIN twice, TTOU twice", planned_events.scale),
    Scenario(
        "TTOU under requests longer than timeout",
        planned_events.shrink_under_long_requests,
        options=("--timeout", "7"),
    ),
    Scenario("TERM to one worker", planned_events.retire_one, window=15.0),
    Scenario("USR2, then TERM to the old master", planned_events.upgrade),
    Scenario("USR2 rolled back", planned_events.roll_back),
    Scenario(
        "recycling by requests",
        planned_events.recycle,
        options=("--max-requests", "150", "--max-requests-jitter", "50"),
    ),
    Scenario(
        "recycling by age",
        planned_events.recycle,
        options=("--max-worker-age", "2"),
    ),
    Scenario(
        "recycling by memory",
        planned_events.recycle_memory,
        options=("--max-worker-rss", "250M"),
    ),
    Scenario(
        "TERM and restart behind a held socket",
        planned_events.restart_held,
        load=PATIENT,
        held=True,
    ),
    Scenario(
        "HUP with a syntax error",
        partial(broken_reloads.code, text=SYNTAX_ERROR, error=r"hello\.py:\d+: SyntaxError"),
    ),
    Scenario(
        "HUP with code that exits",
        partial(broken_reloads.code, text=EXITS, error="exit code 3"),
    ),
    Scenario(
        "HUP with broken YAML",
        partial(
            broken_reloads.configuration,
            name="main.yaml",
            text="api_hour:\n  listeners: [\n",
            good="{}\n",
            error=r"etc/hello/main\.yaml:\d+",
        ),
    ),
    Scenario(
        "HUP with a gunicorn.conf.py that exits",
        partial(
            broken_reloads.configuration,
            name="gunicorn.conf.py",
            text="raise SystemExit(3)\n",
            good="threads = 1\n",
            error=r"etc/hello/gunicorn\.conf\.py:1: SystemExit: 3",
        ),
    ),
    Scenario(
        "HUP with a post_fork that raises",
        partial(broken_reloads.hook, text=starts.POST_FORK, error="FileNotFoundError"),
        prepare=broken_reloads.prepare_pid_file,
    ),
    Scenario(
        "HUP with engines that fail to open",
        partial(broken_reloads.code, text=FAILS_TO_OPEN, error="OSError: the engine is away"),
    ),
    Scenario(
        "HUP with a worker that is never ready",
        partial(broken_reloads.code, text=NEVER_READY, error="not ready in time"),
        options=("--boot-timeout", "12"),
    ),
    Scenario("USR2 with a syntax error", broken_reloads.upgrade),
    Scenario("TERM while a reload hangs", broken_reloads.stop_hanging, allowance=REFUSED),
    Scenario(
        "kill -9 of a worker after a failed HUP",
        broken_reloads.kill_worker_after_failure,
        allowance=IN_FLIGHT,
    ),
    Scenario(
        "kill -9 of a worker after a release that failed",
        releases.keep,
        allowance=IN_FLIGHT,
        prepare=releases.prepare,
    ),
    Scenario(
        "HUP after the release folder was removed",
        releases.remove_then_reload,
        prepare=releases.prepare,
    ),
    Scenario(
        "kill -9 of workers after the release folder was removed",
        releases.remove_then_kill,
        allowance=_after_deaths(WORKERS),
        prepare=releases.prepare,
        slow=True,
    ),
    Scenario("kill -9 of a worker", crashes.kill_worker, allowance=IN_FLIGHT),
    Scenario(
        "kill -9 of workers that have forked",
        crashes.kill_forked,
        allowance=_after_deaths(3),
        prepare=crashes.prepare_forks,
    ),
    Scenario(
        "kill -9 of master and workers that have forked",
        crashes.kill_all_forked,
        load=None,
        prepare=crashes.prepare_forks,
    ),
    Scenario("kill -9 of the master", crashes.kill_master, load=None),
    Scenario(
        "kill -9 of the master while a reload hangs", crashes.kill_reloading_master, load=None
    ),
    Scenario(
        "kill -9 of the master behind a held socket",
        crashes.kill_held_master,
        load=PATIENT,
        held=True,
    ),
    Scenario(
        "workers that crash right after boot",
        crashes.crash_after_boot,
        allowance=_after_deaths(crashes.STARTS),
        slow=True,
    ),
    Scenario("a project that never boots", crashes.never_boot, load=None, boots=False),
    Scenario(
        "a pre_fork that raises",
        partial(starts.fail, text=starts.PRE_FORK),
        load=None,
        boots=False,
    ),
    Scenario(
        "a post_fork that raises",
        partial(starts.fail, text=starts.POST_FORK),
        load=None,
        boots=False,
    ),
    Scenario(
        "kill -9 of a worker and a pre_fork that raises once",
        starts.fail_once,
        allowance=IN_FLIGHT,
        prepare=starts.prepare_mark,
    ),
    Scenario("a pid file of a stranger", starts.stale_pid_file, load=None, boots=False),
    Scenario(
        "time.sleep(60) in an endpoint",
        crashes.block_loop,
        options=("--timeout", "6"),
        load=PATIENT,
        allowance=IN_FLIGHT,
    ),
    Scenario(
        "SIGSTOP of a worker",
        crashes.freeze,
        options=("--timeout", "6"),
        load=PATIENT,
        allowance=IN_FLIGHT,
    ),
    Scenario(
        "SIGSTOP of all processes, then SIGCONT",
        crashes.freeze_all,
        options=("--timeout", "6"),
        load=PATIENT,
        slow=True,
    ),
    Scenario(
        "a hostile worker",
        hostile_worker.attack,
        options=hostile_worker.OPTIONS,
        prepare=hostile_worker.prepare,
        slow=True,
    ),
    Scenario("TERM under load", shutdown.stop, allowance=REFUSED),
    Scenario("TERM under a rush of new connections", shutdown.stop, load=RUSH, allowance=RUSHED),
    Scenario(
        "TERM with a delay",
        shutdown.stop_with_delay,
        options=("--stop-delay", f"{shutdown.DELAY:.0f}"),
        allowance=REFUSED,
    ),
    Scenario(
        "TERM to all processes with a delay",
        shutdown.stop_group_with_delay,
        options=("--stop-delay", f"{shutdown.DELAY:.0f}"),
        allowance=REFUSED,
    ),
    Scenario("TERM with 1,000 requests in flight", shutdown.stop_busy, load=None),
    Scenario("TERM twice", shutdown.stop_twice, load=None, allowance=CUT_SHORT),
    Scenario("no descriptors left", exhaustion.run_out_of_descriptors, load=KEEPALIVE),
    Scenario("no descriptors left for the master", exhaustion.starve_master, allowance=IN_FLIGHT),
    Scenario(
        "the log's disk is full",
        exhaustion.fill_disk,
        options=("--access-logfile", "/dev/full", "--error-logfile", "/dev/full"),
        load=None,
        held=True,
        boots=False,
    ),
    Scenario(
        "the log's pipe is blocked",
        exhaustion.block_log,
        options=("--access-logfile", "-"),
    ),
    Scenario(
        "the log's reader has gone",
        exhaustion.lose_log_reader,
        options=("--access-logfile", "-"),
    ),
    Scenario(
        "the metrics' folder was removed",
        observers.remove_metrics,
        options=("--metrics",),
        allowance=IN_FLIGHT,
        prepare=observers.prepare_metrics,
    ),
    Scenario("the log's folder was removed", observers.remove_logs, prepare=observers.prepare_logs),
    Scenario("400 connections, spread and at once", exhaustion.share_out, load=None),
    Scenario(
        "400 connections with slots",
        exhaustion.share_out,
        options=SLOTS,
        load=None,
    ),
    Scenario(
        "HUP three times with slots",
        planned_events.reload_thrice,
        options=SLOTS,
    ),
    Scenario("TTIN twice, TTOU twice with slots", planned_events.scale, options=SLOTS),
]
