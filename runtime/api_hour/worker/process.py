"""One worker process: one event loop that runs one Container, from fork to exit.

A worker's life, in the order of this file::

    fork -> init_process: signals, logs, TLS keys (as root), then the user's privileges
         -> run: import the project, read its settings, make the loop
         -> _serve: open the engines, start the servers, say READY
         -> heartbeat and messages, until something asks for the drain
         -> _drain: stop accepting, finish, close the engines -> exit 0

The worker knows the master only as the other end of a channel, and knows no other worker: the
master decides, the worker obeys. End of file on the channel means that the master died; then the
worker drains and exits as well. TERM, QUIT and an operator's ``kill`` work without the master.
"""

import asyncio
import os
import signal
import socket
import ssl
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from gunicorn import util
from gunicorn.workers.base import Worker as GunicornWorker

from api_hour import metrics, streams
from api_hour.config import convert
from api_hour.config.addresses import OPTIONS
from api_hour.config.generation import Generation
from api_hour.container import Container, Server, ServerOptions
from api_hour.exceptions import ConfigError
from api_hour.logs import setup
from api_hour.worker import importer, tls
from api_hour.worker.channel import Channel, Message
from api_hour.worker.crash_report import CrashReport
from api_hour.worker.recycling import RecyclingLimits

HEARTBEAT = 1.0  # seconds between two heartbeats; never more than a quarter of the timeout
CLOSE_GRACE = 2.0  # seconds for cancelled work and for engines to end, after the drain's deadline
HANDLED = (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1)  # by the loop, once it serves
FOR_THE_MASTER = signal.SIGINT, signal.SIGHUP, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2
BOOT_FAILED = 1  # exit code; Gunicorn's own 3 and 4 would stop the whole master


class Worker(GunicornWorker):  # type: ignore[misc]
    """Runs the Container of one generation.

    The master makes this object before the fork, so ``__init__`` only keeps values, and the
    master and the child each go on with their copy: ``forked`` and ``close`` run in the master,
    everything else in the child.
    """

    def __init__(self, *args: Any, generation: Generation, slot: int, started_for: str) -> None:
        super().__init__(*args)
        self.generation = generation
        self.slot = slot  # the number of its socket, where an address has one for each worker
        self.started_for = started_for  # start, reload, recycling or death
        self.channel, self._to_master = Channel.pair()
        self.crash_report = CrashReport()

    # In the master

    def forked(self, pid: int) -> None:
        """Close the child's end of the channel."""
        self.pid = pid
        self._to_master.close()

    def close(self) -> None:
        """Close what the master holds of a worker that is gone."""
        for end in (self.channel, self.crash_report, self.tmp):
            end.close()

    # In the child: boot

    def init_process(self) -> None:
        """Turn the forked process into a worker, and run it to its end.

        Order matters: a TLS key may be readable to root only, so it is read before the
        privileges are dropped.
        """
        self.channel.close()
        self.init_signals()
        os.environ.update(self.cfg.env)
        streams.drain_in_background()
        setup.apply(self.generation.logs, self.log)
        addresses = self.generation.addresses
        try:
            self._tls = {name: tls.context(address) for name, address in addresses.items()}
        except ConfigError as error:
            self._fail(error)
        util.set_owner_process(self.cfg.uid, self.cfg.gid, initgroups=self.cfg.initgroups)
        util.seed()
        self.crash_report.collect()
        threading.Thread(target=self._exit_if_master_dies, daemon=True).start()
        self.cfg.post_worker_init(self)
        self.run()

    def init_signals(self) -> None:
        """Undo the master's handlers: TERM ends a worker that is still booting at once.

        Signals that concern only the master get a handler that does nothing. SIG_IGN would do the
        same here, but programs that the project starts would inherit it.
        """
        signal.set_wakeup_fd(-1)
        for number in {*self.SIGNALS, signal.SIGTTIN, signal.SIGTTOU}:
            signal.signal(number, signal.SIG_DFL)
        for number in FOR_THE_MASTER:
            signal.signal(number, _ignore_signal)

    def _exit_if_master_dies(self) -> None:
        """Exit if the master dies during the boot, when no loop watches the channel yet."""
        while not self.booted:
            if self._to_master.hung_up(HEARTBEAT) and not self.booted:
                os._exit(BOOT_FAILED)

    def run(self) -> None:
        """Import the project, then serve on a fresh loop."""
        try:
            if self.cfg.metrics:
                metrics.start_counting(self.started_for)
            container = self._load()
            with asyncio.Runner(loop_factory=_loop_factory(self.cfg.loop)) as runner:
                runner.run(self._serve(container))
        except (Exception, SystemExit) as error:
            self._fail(error)

    def _load(self) -> Container:
        """Import the project and return its Container; raises what the project raises."""
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

    def _fail(self, error: BaseException) -> None:
        """Exit, and tell the master why.

        The master shows one line. A traceback is printed where it helps: in development, or after
        the boot, when the error is nobody's setting.
        """
        if self.booted:
            self.log.error("Worker failed", exc_info=error)
            sys.exit(BOOT_FAILED)
        if not isinstance(error, ConfigError) and self.cfg.reload:
            traceback.print_exception(error)
        self._to_master.send(Message.FAILED, importer.explain(self.generation.spec, error))
        sys.exit(BOOT_FAILED)

    # In the child: serve

    async def _serve(self, container: Container) -> None:
        """Open the engines, serve until the drain, then close the engines."""
        loop = asyncio.get_running_loop()
        self._container = container
        self._servers: Mapping[str, Server] = {}
        self._draining = asyncio.Event()
        self._drain_timeout = float(self.cfg.graceful_timeout)
        self._drains: list[asyncio.Task[None]] = []
        self._covering: list[asyncio.Future[None]] = []  # a loop refers to tasks weakly
        heartbeat = loop.create_task(self._heartbeat())
        try:
            async with container.engines():
                servers = self._servers = container.servers()
                self._check_names(servers)
                await self._start(servers)
                self._become_ready(loop)
                await self._draining.wait()
                container.ready = False
                await self._drain(servers)
        finally:
            metrics.sample()
            heartbeat.cancel()
            # Closing the loop undoes its handlers: a late TERM would end the process uncleanly.
            signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)

    def _check_names(self, servers: Mapping[str, Server]) -> None:
        """Raise ConfigError unless listeners and servers have the same names."""
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
                tls_context = self._tls[listener.name]
                server.options = server_options(self.generation, listener.name, tls_context)
            await server.start(listener.of_slot(self.slot).dup())
            listener.listen()  # again: asyncio's servers set the backlog to their own default

    def _become_ready(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._to_master.fileno(), self._read_channel)
        loop.add_signal_handler(signal.SIGTERM, self._drain_unasked)
        loop.add_signal_handler(signal.SIGQUIT, self._drain_at_once)
        loop.add_signal_handler(signal.SIGUSR1, self.log.reopen_files)
        setup.guard()  # handlers and filters that the project has added
        self.booted = self._container.ready = True
        self._to_master.send(Message.READY)

    async def _heartbeat(self) -> None:
        """Show the master that the loop turns, and ask for a replacement when it is time.

        It beats during the boot and the drain, too: only a blocked loop is silent.
        """
        pause = min(HEARTBEAT, self.cfg.timeout / 4 or HEARTBEAT)
        limits = RecyclingLimits(self.cfg, self.max_requests)
        while True:
            self.notify()
            metrics.sample()
            requests = sum(getattr(server, "requests", 0) for server in self._servers.values())
            if self.booted and (reason := limits.exceeded(requests)):
                self._to_master.send(Message.REPLACE, reason)
            await asyncio.sleep(pause)

    def _read_channel(self) -> None:
        for message, text in self._to_master.receive():
            self._on_message(message, text)
        if self._to_master.closed:  # the master died
            asyncio.get_running_loop().remove_reader(self._to_master.fileno())
            self._draining.set()

    def _on_message(self, message: Message, text: str) -> None:
        if message is Message.UNREADY:
            self._container.ready = False
        elif message is Message.COVER:
            self._cover(text.split())
        elif message is Message.DRAIN:
            self._draining.set()

    def _cover(self, names: list[str]) -> None:
        """Accept on the sockets of a worker that is gone as well."""
        fds = self._to_master.take_fds(len(names))
        for name, fd in zip(names, fds, strict=True):
            started = self._servers[name].start(socket.socket(fileno=fd))
            self._covering.append(asyncio.ensure_future(started))

    # In the child: drain

    def _drain_unasked(self) -> None:
        """Drain because of TERM, and tell the master, which did not ask for it."""
        if not self._draining.is_set():
            self._to_master.send(Message.DRAINING)
            self._draining.set()

    def _drain_at_once(self) -> None:
        self._drain_timeout = 0.0
        self._drain_unasked()
        for drain in self._drains:
            drain.cancel()

    async def _drain(self, servers: Mapping[str, Server]) -> None:
        """Let every server finish; one that misses the deadline is cancelled."""
        for listener in self.sockets:
            listener.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_timeout
        self._drains = [loop.create_task(server.drain(deadline)) for server in servers.values()]
        if not self._drains:
            return
        done, late = await asyncio.wait(self._drains, timeout=self._drain_timeout + CLOSE_GRACE)
        for drain in late:
            drain.cancel()
        for drain in done:
            if not drain.cancelled() and (error := drain.exception()):
                self.log.error("A server failed while draining", exc_info=error)


def server_options(
    generation: Generation, name: str, tls_context: ssl.SSLContext | None
) -> ServerOptions:
    """Return the options of the server of the listener ``name``.

    A field is filled in from the setting or the listener's option of the same name, so that a new
    option needs no line here. The exceptions are named below.
    """
    cfg, address = generation.cfg, generation.addresses[name]
    by_file = bool(generation.logs) and not cfg.reload  # in development only if asked for
    values: dict[str, Any] = {
        "listener": name,
        "tls": tls_context,
        "access_log": by_file or bool(cfg.accesslog),
    }
    if cfg.reload:
        values["drain_idle"] = 0.0  # a developer waits for the new code
    for field in fields(ServerOptions):
        if field.name not in values:
            source = address if field.name in OPTIONS else cfg
            values[field.name] = getattr(source, field.name)
    return ServerOptions(**values)


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory of ``uvloop``, ``asyncio`` or ``auto``, which is uvloop if installed.

    Raises ConfigError when uvloop is asked for and not installed.
    """
    if name != "asyncio":
        try:
            import uvloop

            return uvloop.new_event_loop
        except ImportError:
            if name == "uvloop":
                raise ConfigError("loop: uvloop is not installed: pip install uvloop") from None
    return asyncio.new_event_loop


def _ignore_signal(_number: int, _frame: object) -> None:
    """Do nothing: a terminal sends Ctrl-C to every process of its group."""
