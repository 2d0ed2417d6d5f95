"""A firewall that forgets connections: real packets of real TCP connections are dropped.

The whole test runs in a network namespace of its own, where iptables drops what it likes.
"""

import asyncio
import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import uvloop

from api_hour.exceptions import DatabaseUnavailable
from api_hour.plugins import aiopg, asyncpg
from runtime.tests.plugins.conftest import TEST_TIMEOUT, Proxy
from testkit.waiting import until_async

CLONE_NEWNET = 0x40000000
CONNECTIONS = 5
# Nothing but TCP itself can find out in time. Sooner than by default, to save the test's time.
PATIENT: dict[str, Any] = {"minsize": CONNECTIONS, "statement_timeout": 2 * TEST_TIMEOUT}
IN_USE = "tcp_user_timeout=500"
IDLE = "keepalives_idle=1&keepalives_interval=1&keepalives_count=1&tcp_user_timeout=0"
Pools = Callable[..., AbstractAsyncContextManager[Any]]


async def fetch(pool: Any) -> None:
    if isinstance(pool, aiopg.Pool):
        async with pool.cursor() as cursor:
            await cursor.execute("SELECT 1")
    else:
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")


def idle_are_closed(pool: Any) -> bool:
    if isinstance(pool, aiopg.Pool):
        return all(connection.closed for connection in pool._free)
    return bool(pool.freesize == 0)


def iptables(*arguments: str) -> None:
    command = ["iptables", "--wait", *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True)


def run_in_a_network_of_its_own(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in a thread that sees nothing but a loopback interface of its own."""
    outcome: list[BaseException | str | None] = []

    def run() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET):
            outcome.append(f"no network namespace: {os.strerror(ctypes.get_errno())}")
            return
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            iptables("--list")
        except (OSError, subprocess.CalledProcessError) as error:
            outcome.append(f"no iptables: {getattr(error, 'stderr', error)}")
            return
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(asyncio.wait_for(scenario, TEST_TIMEOUT))
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    scenario.close()
    if isinstance(outcome[0], str):
        pytest.skip(outcome[0])
    if outcome[0] is not None:
        raise outcome[0]


def forget_all(proxy: Proxy) -> None:
    """Drop every packet of the connections that are open, in both directions; new ones pass."""
    for client in proxy._clients:
        port = str(client.get_extra_info("peername")[1])
        iptables("-A", "INPUT", "-p", "tcp", "--sport", port, "-j", "DROP")
        iptables("-A", "INPUT", "-p", "tcp", "--dport", port, "-j", "DROP")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may have a network of its own")
@pytest.mark.skipif(shutil.which("iptables") is None, reason="iptables is not installed")
@pytest.mark.parametrize(
    "create_pool", [aiopg.create_pool, asyncpg.create_pool], ids=["aiopg", "asyncpg"]
)
def test_forgotten_connections_cost_one_request_its_time_and_idle_ones_none(
    create_pool: Pools, url: str
) -> None:
    async def scenario() -> None:
        async with (
            Proxy(url) as proxy,
            create_pool(f"{proxy.url}?{IN_USE}", **PATIENT) as pool,
            create_pool(f"{proxy.url}?{IDLE}", **PATIENT) as idle,
        ):
            assert (pool.freesize, idle.freesize) == (CONNECTIONS, CONNECTIONS)
            forget_all(proxy)
            with pytest.raises(DatabaseUnavailable):
                await fetch(pool)
            assert pool.freesize == 0
            for _ in range(CONNECTIONS + 1):
                await fetch(pool)
            await until_async(lambda: idle_are_closed(idle))
            await fetch(idle)

    run_in_a_network_of_its_own(scenario())
