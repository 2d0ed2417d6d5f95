"""One worker process: one event loop that runs one Container, from fork to exit.

A worker's life, in the order of this file::

    fork -> live: the guard around everything that follows; it never returns
         -> init_process: signals, logs, then the user's privileges
         -> run: import the project, read its settings, make the loop
         -> _serve: open the engines, start the servers, say READY
         -> heartbeat and messages, until something asks for the drain
         -> _drain: stop accepting, finish, close the engines
         -> _leave: hooks, exit handlers, what is buffered -> os._exit(0)

The worker knows the master only as the other end of a channel, and knows no other worker: the
master decides, the worker obeys. End of file on the channel means that the master died; then the
worker drains and exits as well.

Signals: TERM asks the master for a replacement and changes nothing else, because whoever sent it
may have sent it to the whole group, and the master then decides when workers stop accepting. A
second TERM drains at once, and QUIT without waiting for requests; neither needs the master.
"""

import asyncio
import atexit
import inspect
import logging
import os
import pwd
import signal
import socket
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import fields
from typing import Any, NoReturn

from gunicorn import util
from gunicorn.workers.base import Worker as GunicornWorker

from api_hour import metrics, privileges
from api_hour.config import convert
from api_hour.config.addresses import OPTIONS, ListenerSettings
from api_hour.config.generation import Generation
from api_hour.config.gunicorn_settings import REFUSED_BESIDE_LOGGING_YAML as OF_LOGS
from api_hour.container import Container, Server, ServerOptions
from api_hour.exceptions import ConfigError
from api_hour.logs import rate_limit, setup, streams
from api_hour.worker import forks, hooks, importer
from api_hour.worker.channel import Channel, Message
from api_hour.worker.crash_report import CrashReport
from api_hour.worker.memory import FreeMemory
from api_hour.worker.recycling import RecyclingLimits

HEARTBEAT = 1.0  # seconds between two heartbeats; never more than a quarter of the timeout
CLOSE_GRACE = 2.0  # seconds for cancelled work and for engines to end, after the drain's deadline
HANDLED = (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1)  # by the loop, once it serves
FOR_THE_MASTER = signal.SIGINT, signal.SIGHUP, signal.SIGWINCH, signal.SIGUSR2
FAILED = 1  # exit code
log = logging.getLogger("api_hour.worker")
rate_limit.limit_tracebacks(log.name)


class Worker(GunicornWorker):  # type: ignore[misc]
    """Runs the Container of one generation.

    The master makes this object before the fork, so ``__init__`` only keeps values, and the
    master and the child each go on with their copy: ``forked``, ``discard``, ``close`` and
    ``checked`` run in the master, everything else in the child.
    """

    def __init__(self, *args: Any, generation: Generation, slot: int, started_for: str) -> None:
        super().__init__(*args)
        self.generation = generation
        self.slot = slot  # the number of its socket, where an address has one for each worker
        self.started_for = started_for  # start, reload, recycling or death
        self.channel, self._to_master = Channel.pair()
        self.crash_report = CrashReport(self.cfg.worker_tmp_dir)
        self._told_to_leave = False
        self._files_rotated = False  # while it boots

    # In the master

    def forked(self, pid: int) -> None:
        """Close the child's end of the channel."""
        self.pid = pid
        self._to_master.close()

    def discard(self) -> None:
        """Close everything of a worker that was not forked."""
        self._to_master.close()
        self.close()

    def close(self) -> None:
        """Close what the master holds of a worker that is gone."""
        for end in (self.channel, self.crash_report, self.tmp):
            end.close()

    def checked(self) -> None:
        """Print what ``--check`` has found, now that this worker became ready."""
        with suppress(OSError):
            print(f"{self.generation.spec}: the configuration is good and a worker became ready")

    # In the child: boot

    def live(self, master: object, mask: Iterable[int]) -> NoReturn:
        """Be this worker from the fork to the end of the process; never returns, never raises.

        The frames below are a copy of the master's, which must not run here. ``mask`` is that of
        the signals once ours are handled; hooks are given ``master``.
        """
        status = FAILED
        try:
            try:
                self.pid = os.getpid()
                self.channel.close()
                self.init_signals()
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                os.environ.update(self.cfg.env)
                util._setproctitle(f"worker [{self.cfg.proc_name}]")
                self.crash_report.collect()
                sockets = [sock for listener in self.sockets for sock in listener]
                forks.protect(sockets, [self._to_master.fileno()])
                log.info("Booting worker with pid: %s", self.pid)
                self._tell_master("calling the hook post_fork")
                hooks.call(self.cfg, "post_fork", master, self)
                self.init_process()
                status = 0
            except BaseException as error:
                self._report_failure(error)
            self._leave(master)
        finally:
            os._exit(status)

    def init_process(self) -> None:
        """Turn the forked process into a worker, and run it to its end."""
        streams.drain_in_background()
        if any(getattr(self.log.cfg, name) != getattr(self.cfg, name) for name in OF_LOGS):
            # The first worker of a generation, which it has to prove.
            with setup.opening(self.generation.veiled):
                self.log.setup(self.cfg)
        setup.apply(self.generation.logs, self.log)
        self._drop_privileges()
        util.seed()
        threading.Thread(target=self._exit_if_master_dies, daemon=True).start()
        self._tell_master("calling the hook post_worker_init")
        hooks.call(self.cfg, "post_worker_init", self)
        self.run()

    def _drop_privileges(self) -> None:
        """Become the user and the group of the settings, if they are not the master's."""
        user, group = self.cfg.uid, self.cfg.gid
        groups: list[int] = []
        if self.cfg.initgroups:
            groups = os.getgrouplist(pwd.getpwuid(user).pw_name, group)
        if user != os.geteuid():
            os.setsid()  # without a terminal, whose keystrokes are its owner's word
        if groups or (user, group) != (os.geteuid(), os.getegid()):
            privileges.drop(user, group, groups)

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
        signal.signal(signal.SIGUSR1, self._note_rotation)

    def _note_rotation(self, _number: int, _frame: object) -> None:
        """Open the files of the logs again once ready: the project may be writing to one now."""
        self._files_rotated = True

    def _exit_if_master_dies(self) -> None:
        """Exit if the master dies during the boot, when no loop watches the channel yet."""
        while not self.booted:
            if self._to_master.hung_up(HEARTBEAT) and not self.booted:
                os._exit(FAILED)

    def run(self) -> None:
        """Import the project, then serve on a fresh loop."""
        if self.cfg.metrics:
            metrics.start_counting(self.started_for)
        container = self._load()
        with asyncio.Runner(loop_factory=_loop_factory(self.cfg.loop)) as runner:
            self._run_until_left(runner.get_loop(), container)

    def _run_until_left(self, loop: asyncio.AbstractEventLoop, container: Container) -> None:
        """Serve; SystemExit and KeyboardInterrupt of a callback or a task stop the loop only.

        A loop passes them on, instead of treating them as any other error of a callback.
        """
        served = loop.create_task(self._serve(container))
        while True:
            try:
                return loop.run_until_complete(served)
            except (SystemExit, KeyboardInterrupt) as error:
                if served.done() or not self.booted:
                    raise
                log.error("%r of a callback or a task; the worker goes on", error, exc_info=error)
                _abort_connection(error)

    def _load(self) -> Container:
        """Import the project and return its Container; raises what the project raises."""
        spec = self.generation.spec
        self._tell_master(f"importing {spec}")
        self.generation.enter()
        if self.cfg.reload:
            sys.dont_write_bytecode = True  # two edits in one second would share a stale .pyc
        kind = importer.load(spec)
        if not (isinstance(kind, type) and issubclass(kind, Container)):
            raise ConfigError(f"{spec} is not an api_hour.Container: name a class that extends it")
        document = self.generation.document
        self._tell_master(f"making {spec}")
        if kind.settings is None:
            return make(kind, document.data)
        convert.refuse_unreadable(kind.settings, spec)
        return make(kind, convert.convert(document, kind.settings))

    def _tell_master(self, doing: str) -> None:
        """Say what comes next, for the message of a worker that is not ready in time."""
        self._to_master.send(Message.BOOTS, doing)

    def _report_failure(self, error: BaseException) -> None:
        """Tell why the worker ends.

        The master shows one line. A traceback is printed where it helps: in development, or after
        the boot, when the error is nobody's setting.
        """
        if self.booted:
            trace = None if isinstance(error, ConfigError) else error
            text = importer.explain(self.generation.spec, error)
            log.error("Worker failed: %s", text, exc_info=trace)
            return
        if not isinstance(error, ConfigError) and self.cfg.reload:
            traceback.print_exception(error)
        self._to_master.send(Message.FAILED, importer.explain(self.generation.spec, error))

    def _leave(self, master: object) -> None:
        """Do what a process owes before its end: ``os._exit`` does none of it."""
        try:
            hooks.call(self.cfg, "worker_exit", master, self)
        except ConfigError as error:
            log.error("%s", error)
        threading._shutdown()  # type: ignore[attr-defined] # waits for threads, as multiprocessing
        atexit._run_exitfuncs()
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with suppress(Exception):  # closed, or nobody reads it
                stream.flush()

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
            self._tell_master("opening the engines")
            async with opened(container):
                self._tell_master("making the servers")
                servers = self._servers = made_servers(container)
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
            self._tell_master(f"starting the server {listener.name}")
            server = servers[listener.name]
            if hasattr(server, "options"):
                server.options = server_options(self.generation, listener.name)
            else:
                _refuse_options(self.generation.listeners[listener.name], server)
            for sock in listener.of_slot(self.slot):
                await server.start(sock.dup())
            listener.listen()  # again: asyncio's servers set the backlog to their own default

    def _become_ready(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._to_master.fileno(), self._read_channel)
        loop.add_signal_handler(signal.SIGTERM, self._ask_to_leave)
        loop.add_signal_handler(signal.SIGQUIT, self._drain_at_once)
        loop.add_signal_handler(signal.SIGUSR1, self.log.reopen_files)
        if self._files_rotated:
            self.log.reopen_files()
        setup.guard()  # handlers and filters that the project has added
        self.booted = self._container.ready = True
        self._to_master.send(Message.READY)

    async def _heartbeat(self) -> None:
        """Show the master that the loop turns, and ask for a replacement when it is time.

        It beats during the boot and the drain, too: only a blocked loop is silent.
        """
        pause = min(HEARTBEAT, self.cfg.timeout / 4 or HEARTBEAT)
        limits = RecyclingLimits(self.cfg, self.max_requests)
        free_memory = FreeMemory()
        while True:
            self.notify()
            free_memory.give_back()
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
        elif message is Message.HURRY:
            self._hurry()

    def _cover(self, names: list[str]) -> None:
        """Accept on the sockets of a worker that is gone as well; ``names`` has one for each."""
        fds = self._to_master.take_fds(len(names))
        for name, fd in zip(names, fds, strict=True):
            started = self._servers[name].start(socket.socket(fileno=fd))
            self._covering.append(asyncio.ensure_future(started))

    # In the child: drain

    def _ask_to_leave(self) -> None:
        """Ask the master for a replacement, because of TERM; drain at the second one."""
        if self._told_to_leave:
            self._drain_unasked()
            return
        self._told_to_leave = True
        self._to_master.send(Message.TOLD, "it was sent TERM")

    def _drain_unasked(self) -> None:
        """Drain, and tell the master, which did not ask for it."""
        if not self._draining.is_set():
            self._to_master.send(Message.DRAINING)
            self._draining.set()

    def _drain_at_once(self) -> None:
        self._hurry()
        self._drain_unasked()

    def _hurry(self) -> None:
        """Make now the deadline of the drain: what is left is cancelled."""
        self._drain_timeout = 0.0
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
                log.error("A server failed while draining", exc_info=error)


def make(kind: type[Container], config: object) -> Container:
    """Return a container of ``kind``; raises ConfigError if its ``__init__`` does not fit."""
    name = f"{kind.__qualname__}.__init__"
    try:
        inspect.signature(kind).bind(config)
    except TypeError as error:
        raise ConfigError(
            f"{_place(kind.__init__)}{name} must take one argument, the configuration: {error}"
        ) from None
    container = kind(config)
    if not hasattr(container, "ready"):
        raise ConfigError(
            f"{_place(kind.__init__)}{name} must call super().__init__(config), which keeps it"
        )
    return container


def opened(container: Container) -> AbstractAsyncContextManager[object]:
    """Return the engines' context manager; raises ConfigError if ``engines()`` is none."""
    engines: object = container.engines()
    name = f"{_place(container.engines)}{type(container).__qualname__}.engines()"
    generator = getattr(engines, "gen", None)  # what asynccontextmanager has decorated
    fits = generator is None or inspect.isasyncgen(generator)
    if isinstance(engines, AbstractAsyncContextManager) and fits:
        return _yielding_once(engines, name)
    if inspect.iscoroutine(generator):
        generator.close()
        raise ConfigError(f"{name} has no `yield`: write one after what it opens")
    if inspect.iscoroutine(engines):
        engines.close()  # it is never awaited
    raise ConfigError(
        f"{name} must be an async context manager, got {_a(engines)}: write `@asynccontextmanager` "
        "(of contextlib) above `async def engines(self)`, and one `yield` inside"
    )


@asynccontextmanager
async def _yielding_once(
    engines: AbstractAsyncContextManager[object], name: str
) -> AsyncIterator[None]:
    """Enter ``engines``; raises ConfigError if their generator does not yield exactly once."""
    try:
        async with engines:
            yield
    except RuntimeError as error:
        contextlib_frame = error.__traceback__ and error.__traceback__.tb_next
        if not str(error).startswith("generator didn't ") or (
            contextlib_frame and contextlib_frame.tb_next  # that of an engine
        ):
            raise
        how = "ended without it" if "yield" in str(error) else "came to a second one"
        raise ConfigError(
            f"{name} must come to one `yield`, and {how}: open everything above it, and close "
            "below it"
        ) from None


def made_servers(container: Container) -> Mapping[str, Server]:
    """Return the servers by name; raises ConfigError if ``servers()`` returns anything else."""
    servers: object = container.servers()
    name = f"{_place(container.servers)}{type(container).__qualname__}.servers()"
    if inspect.iscoroutine(servers):
        servers.close()
        raise ConfigError(
            f"{name} must be a plain function: write `def`, and open what it needs in engines()"
        )
    if not isinstance(servers, Mapping):
        raise ConfigError(
            f"{name} must return a dict of servers by the names of their listeners, "
            f"got {_a(servers)}: return {{'http': ...}}"
        )
    for key, server in servers.items():
        methods = [getattr(server, method, None) for method in ("start", "drain")]
        if isinstance(server, type) or not all(map(callable, methods)):
            raise ConfigError(
                f"{name} gives the listener {key} {_a(server)}, which has no start() and drain(): "
                "make an api_hour.HTTPServer, StreamServer, DatagramServer or SocketServer of it"
            )
    return servers


def _place(function: object) -> str:
    """Return "file:line: " of a function of the project, or "" for any other object."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return f"{importer.shorten(code.co_filename)}:{code.co_firstlineno}: " if code else ""


def _a(value: object) -> str:
    """Return what a value is, in words."""
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    kind = type(value).__name__
    return "None" if value is None else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def server_options(generation: Generation, name: str) -> ServerOptions:
    """Return the options of the server of the listener ``name``.

    A field is filled in from the setting or the listener's option of the same name, so that a new
    option needs no line here. The exceptions are named below.
    """
    cfg, listener = generation.cfg, generation.listeners[name]
    by_file = bool(generation.logs) and not cfg.reload  # in development only if asked for
    to_syslog = cfg.syslog and not cfg.disable_redirect_access_to_syslog
    values: dict[str, Any] = {
        "listener": name,
        "tls": generation.tls.get(name),
        "access_log": by_file or bool(cfg.accesslog) or to_syslog,
    }
    if cfg.reload:
        values["drain_idle"] = 0.0  # a developer waits for the new code
    for field in fields(ServerOptions):
        if field.name not in values:
            source = listener if field.name in OPTIONS else cfg
            values[field.name] = getattr(source, field.name)
    return ServerOptions(**values)


def _refuse_options(listener: ListenerSettings, server: Server) -> None:
    """Raise ConfigError for an option that the server of a listener never hears of."""
    for name in listener.options:
        raise ConfigError(
            f"listener {listener.name}: {name} has no effect on a {type(server).__name__}: remove "
            "it, and tell the library that it serves with"
        )


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


def _abort_connection(error: BaseException) -> None:
    """Abort the connection whose protocol raised an error, which asyncio would keep open.

    Not a socket of datagrams: that is a listener.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        transport = frame.f_locals.get("self")
        if isinstance(transport, asyncio.Transport):
            sock = transport.get_extra_info("socket")
            if sock is not None and sock.type == socket.SOCK_STREAM:
                transport.abort()
            return


def _ignore_signal(_number: int, _frame: object) -> None:
    """Do nothing: a terminal sends Ctrl-C to every process of its group."""
