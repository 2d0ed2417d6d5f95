"""One worker process: one event loop that runs one Container from boot to drain.

It knows its channel to the master, never the other workers; the master decides, the worker obeys.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import Any

from gunicorn import util
from gunicorn.workers.base import Worker as GunicornWorker

from api_hour import metrics
from api_hour.config import convert
from api_hour.config.generation import Generation
from api_hour.container import Container, Server, ServerOptions
from api_hour.exceptions import ConfigError
from api_hour.logs import setup
from api_hour.worker import importer, loops, recycling, tls
from api_hour.worker.channel import Channel, Message
from api_hour.worker.crash_report import Evidence

HEARTBEAT = 1.0  # seconds; never more than a quarter of the timeout
CLOSING = 2.0  # seconds for cancelled work and engines to end after a deadline or a quick stop
HANDLED = (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1)
MASTERS = signal.SIGINT, signal.SIGHUP, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2
BOOT_FAILED = 1  # exit code; Gunicorn's own 3 and 4 would halt the whole master


class Worker(GunicornWorker):  # type: ignore[misc]
    """Run the Container of one generation; constructed in the master, so it only keeps values."""

    def __init__(self, *args: Any, generation: Generation, slot: int, started_for: str) -> None:
        super().__init__(*args)
        self.generation = generation
        self.slot = slot
        self.started_for = started_for
        self.channel, self._up = Channel.pair()
        self.evidence = Evidence()

    def forked(self, pid: int) -> None:
        """Close, in the master, the end that is the child's."""
        self.pid = pid
        self._up.close()

    def close(self) -> None:
        """Close what the master holds of a worker that is gone."""
        for end in (self.channel, self.evidence, self.tmp):
            end.close()

    def init_process(self) -> None:
        """Turn the forked process into a worker and run it to its end."""
        self.channel.close()
        self.init_signals()
        os.environ.update(self.cfg.env)
        setup.apply(self.generation.logs, self.log)
        addresses = self.generation.addresses
        try:
            self._tls = {name: tls.context(address) for name, address in addresses.items()}
        except ConfigError as error:
            self._fail(error)
        util.set_owner_process(self.cfg.uid, self.cfg.gid, initgroups=self.cfg.initgroups)
        util.seed()
        self.evidence.collect()
        threading.Thread(target=self._leave_with_master, daemon=True).start()
        self.cfg.post_worker_init(self)
        self.run()

    def init_signals(self) -> None:
        """Undo the master's handlers; while it boots, a worker dies of TERM at once."""
        signal.set_wakeup_fd(-1)
        for number in {*self.SIGNALS, signal.SIGTTIN, signal.SIGTTOU}:
            signal.signal(number, signal.SIG_DFL)
        for number in MASTERS:
            signal.signal(number, _leave_to_master)  # SIG_IGN would outlive an exec

    def _leave_with_master(self) -> None:
        """End a worker whose master dies while it boots: it has no loop yet to hear of that."""
        while not self.booted:
            if self._up.hung_up(HEARTBEAT) and not self.booted:
                os._exit(BOOT_FAILED)

    def run(self) -> None:
        """Import the project, then serve on a fresh loop."""
        try:
            if self.cfg.metrics:
                metrics.start_counting(self.started_for)
            container = self._load()
            with asyncio.Runner(loop_factory=loops.factory(self.cfg.loop)) as runner:
                runner.run(self._live(container))
        except (Exception, SystemExit) as error:
            self._fail(error)

    def _load(self) -> Container:
        self.generation.enter()
        if self.cfg.reload:
            sys.dont_write_bytecode = True  # two edits in one second would share a stale .pyc
        kind = importer.load(self.generation.spec)
        if not (isinstance(kind, type) and issubclass(kind, Container)):
            raise ConfigError(
                f"{self.generation.spec} is not an api_hour.Container: name a class that extends it"
            )
        document = self.generation.document
        return kind(convert.convert(document, kind.settings) if kind.settings else document.data)

    async def _live(self, container: Container) -> None:
        loop = asyncio.get_running_loop()
        self._draining = asyncio.Event()
        self._drains: list[asyncio.Task[None]] = []
        self._patience = float(self.cfg.graceful_timeout)
        self._container = container
        self._covering: list[asyncio.Future[None]] = []
        self._servers: Mapping[str, Server] = {}
        heartbeat = loop.create_task(self._beat())
        try:
            async with container.engines():
                servers = self._servers = container.servers()
                self._pair(servers)
                await self._start(servers)
                self._ready(loop)
                await self._draining.wait()
                container.ready = False
                await self._drain(servers)
        finally:
            metrics.sample()
            heartbeat.cancel()
            signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # a closing loop undoes its handlers

    def _pair(self, servers: Mapping[str, Server]) -> None:
        """Check that listeners and servers have the same names."""
        listeners = {listener.name for listener in self.sockets}
        for name in listeners - set(servers):
            raise ConfigError(
                f"listener {name} has no server: name one in {self.generation.spec}'s servers(), "
                f"or remove {name} from the listeners"
            )
        for name in set(servers) - listeners:
            raise ConfigError(
                f"server {name} has no listener: add it to api_hour.listeners in "
                f"{self.generation.document.file}, or give --listen {name}=URL"
            )

    async def _start(self, servers: Mapping[str, Server]) -> None:
        for listener in self.sockets:
            server = servers[listener.name]
            if hasattr(server, "options"):
                server.options = self._options(listener.name)
            await server.start(listener.of_slot(self.slot).dup())
            listener.listen()

    def _options(self, name: str) -> ServerOptions:
        by_file = bool(self.generation.logs) and not self.cfg.reload
        return ServerOptions(
            listener=name,
            fast=self.cfg.fast,
            access_log=by_file or bool(self.cfg.accesslog),
            request_ids=self.cfg.request_ids,
            metrics=self.cfg.metrics,
            trusted_proxies=tuple(self.cfg.trusted_proxies),
            tls=self._tls[name],
            max_connections=self.generation.addresses[name].max_connections,
            drain_idle=0.0 if self.cfg.reload else self.cfg.drain_idle,
        )

    def _ready(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._up.fileno(), self._obey)
        loop.add_signal_handler(signal.SIGTERM, self._drain_alone)
        loop.add_signal_handler(signal.SIGQUIT, self._drain_at_once)
        loop.add_signal_handler(signal.SIGUSR1, self.log.reopen_files)
        self.booted = self._container.ready = True
        self._up.send(Message.READY)

    def _obey(self) -> None:
        for message, text in self._up.receive():
            if message is Message.UNREADY:
                self._container.ready = False
            elif message is Message.COVER:
                self._cover(text.split())
            elif message is Message.DRAIN:
                self._draining.set()
        if self._up.closed:  # the master died
            asyncio.get_running_loop().remove_reader(self._up.fileno())
            self._draining.set()

    def _cover(self, names: list[str]) -> None:
        """Accept on the sockets of a worker that is gone."""
        fds, self._up.fds = self._up.fds[: len(names)], self._up.fds[len(names) :]
        for name, fd in zip(names, fds, strict=True):
            started = self._servers[name].start(socket.socket(fileno=fd))
            self._covering.append(asyncio.ensure_future(started))

    def _drain_alone(self) -> None:
        if not self._draining.is_set():
            self._up.send(Message.DRAINING)
            self._draining.set()

    def _drain_at_once(self) -> None:
        self._patience = 0.0
        self._drain_alone()
        for drain in self._drains:
            drain.cancel()

    async def _drain(self, servers: Mapping[str, Server]) -> None:
        """Let every server finish; one that overstays the deadline is left behind."""
        for listener in self.sockets:
            listener.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        self._drains = [loop.create_task(one.drain(deadline)) for one in servers.values()]
        if not self._drains:
            return
        done, late = await asyncio.wait(self._drains, timeout=self._patience + CLOSING)
        for drain in late:
            drain.cancel()
        for drain in done:
            if not drain.cancelled() and (error := drain.exception()):
                self.log.error("A server failed while draining", exc_info=error)

    async def _beat(self) -> None:
        """Show the master that the loop turns, and ask for a successor when it is time."""
        pause = min(HEARTBEAT, self.cfg.timeout / 4 or HEARTBEAT)
        limits = recycling.Limits(self.cfg, self.max_requests)
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self.notify()
            metrics.sample(max(0.0, loop.time() - due))
            requests = sum(getattr(one, "requests", 0) for one in self._servers.values())
            if self.booted and (reason := limits.exceeded(requests)):
                self._up.send(Message.REPLACE, reason)
            due = loop.time() + pause
            await asyncio.sleep(pause)

    def _fail(self, error: BaseException) -> None:
        """Tell the master why; a traceback only where it helps: in development, or after boot."""
        if self.booted:
            self.log.error("Worker failed", exc_info=error)
            sys.exit(BOOT_FAILED)
        if not isinstance(error, ConfigError) and self.cfg.reload:
            traceback.print_exception(error)
        self._up.send(Message.FAILED, importer.explain(self.generation.spec, error))
        sys.exit(BOOT_FAILED)


def _leave_to_master(_number: int, _frame: object) -> None:
    """Do nothing: a terminal sends Ctrl-C to every process of the group."""
