"""The configuration: ``etc/NAME`` (main.yaml, logging.yaml, gunicorn.conf.py), the environment and
the command line, read into one Generation.

What wins, from the least: the defaults < main.yaml < WEB_CONCURRENCY and PORT < gunicorn.conf.py <
GUNICORN_CMD_ARGS < the command line. Each value is applied together with its place, so that an
error names both. The loader never imports the project's code: workers do.

Root runs ``gunicorn.conf.py``, so it matters who may have put a file there, and the question comes
before the file is read. What an option names is the operator's choice. What is found without one
must be root's where all users may write, and root's or the folder's owner's where a group may;
elsewhere nobody but these two can have put it there. So nobody plants a file in ``/tmp``, and a
developer's own folder still works. A reload takes no file of a user whom the start did not trust,
whoever named it.
"""

import ast
import difflib
import errno
import inspect
import io
import os
import pwd
import runpy
import ssl
import stat
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple, TypeVar

from gunicorn import util
from gunicorn.app.base import Application
from gunicorn.app.base import BaseApplication as BaseApplication
from gunicorn.config import KNOWN_SETTINGS, Config
from gunicorn.errors import ConfigError as GunicornConfigError

from api_hour import owned_files
from api_hour.config import (
    READ_BY_GUNICORN,
    addresses,
    command_line,
    convert,
    gunicorn_files,
    gunicorn_settings,
    logging_yaml,
    tls,
    yaml_document,
)
from api_hour.config.addresses import EVERYWHERE, ListenerSettings
from api_hour.config.generation import Generation, split
from api_hour.exceptions import ConfigError
from api_hour.logs import files, observers
from api_hour.privileges import ROOT

HTTP = "http"  # the listener that --bind and PORT mean
DEFAULT_LISTENERS = {HTTP: "tcp://127.0.0.1:8000"}
LISTENERS = "listeners"  # the one key of the section api_hour that is not a setting
CONFIG_FILE = "gunicorn.conf.py"
FILES = ("main.yaml", "logging.yaml", CONFIG_FILE)
LOCATIONS = ("config", "config_dir")  # settings that only an option can give
ERRANDS = ("check", "check_config", "print_config")  # the same: they end the command
MAX_PORT = 65535
RUN_AS_ROOT = (
    "the workers run as root: whoever finds a hole in the project has the machine; set user, or "
    "start the daemon as another user"
)
ALMOST = 0.9  # how alike two names are, of which one is a misspelling

# What a validator of Gunicorn wants, in words; our own say it themselves.
EXPECTED = {
    "validate_bool": "true or false",
    "validate_string": "text",
    "validate_list_string": "text, or a list of texts",
    "validate_class": "a class, or its name with dots",
    "validate_user": "a user of this machine",
    "validate_group": "a group of this machine",
}

T = TypeVar("T")
Values = Mapping[str, Any]  # of settings, by name
Label = Callable[[str], str]  # from a setting's name to the words with which an error begins


class _Move(NamedTuple):
    """The addresses that a place above the YAML file gives a listener."""

    name: str
    urls: list[str]
    origin: str = ""  # who named them, if that may surprise an operator


class Loader(Application):  # type: ignore[misc]
    """Gunicorn's Application, which reads the configuration when it is made.

    ``worker_class`` is what the master starts, as Gunicorn's setting of that name says; raises
    ConfigError, and UsageError for the command line.
    """

    generation: Generation

    def __init__(self, worker_class: type, *, prog: str | None = None) -> None:
        gunicorn_files.install()
        self._worker_class = worker_class
        # Both as they were at the start: a reload must find the same, though `current` may be
        # another release by then, and the master has changed its environment.
        self._start_folder: str = util.getcwd()
        self._environment = MappingProxyType(dict(os.environ))
        self._trusted_at_start: frozenset[int] | None = None  # users; None until it is read
        super().__init__(prog=prog)

    def do_load_config(self) -> None:
        """Read everything into ``self.generation``; raises ConfigError.

        Gunicorn's own version prints the error and exits, which a reload must not do.
        """
        self._folder = self.enter_start_folder()
        self.cfg = Config(prog=self.prog)
        self.cfg.env_orig = dict(self._environment)
        self.cfg.set("chdir", self._folder)
        self._logs: Values = {}
        self._warnings: list[str] = []
        self._files: list[str] = []  # that were read, as an operator would name them
        self._paths: list[str] = []  # of these files
        self._moves: list[_Move] = []
        self._set_anywhere: set[str] = set()  # names
        self._veiled: dict[str, Any] = {}  # settings of !env and !file, as they may be shown
        try:
            self.load_config()
            self.cfg.validate()
        except (OSError, RuntimeError, GunicornConfigError) as error:
            raise ConfigError(str(error)) from error
        if self._folder != self._start_folder and self.cfg.chdir == self._folder:
            raise ConfigError(
                f"{self._start_folder}, where the daemon was started, is gone: put it back, or "
                "restart the daemon"
            )
        if self.cfg.daemon and self.cfg.errorlog == "-" and not (self.cfg.syslog or self._logs):
            raise ConfigError("daemon has no terminal to log to: give it an errorlog")
        self._check_user()
        trusted = self._find_trusted()
        files.belong_to(files.Owners(self.cfg.uid, self.cfg.gid, trusted))
        for path in {self.cfg.errorlog, self.cfg.accesslog} - {"-", None}:
            files.refuse_foreign(path)
        logging_yaml.try_out(self._logging, self._logs)
        for number, item in enumerate(self.cfg.settings["raw_env"].get()):
            if "=" not in item:  # perhaps a secret
                raise ConfigError(
                    f"raw_env must be a list of NAME=VALUE; see its item {number + 1}"
                )
        self.cfg.set("worker_class", self._worker_class)
        self.cfg.set("default_proc_name", self._spec)
        self.cfg.set("control_socket_disable", True)
        if self.cfg.check:
            self.cfg.set("loglevel", "critical")
            self.cfg.set("workers", min(self.cfg.workers, 1))
            self.cfg.set("daemon", False)  # whoever asked waits for the answer
            self.cfg.set("errorlog", "-")
        listeners = self._listeners()
        self.generation = Generation(
            spec=self._spec,
            folder=os.path.realpath(self.cfg.chdir),
            cfg=self.cfg,
            document=self._document,
            listeners=listeners,
            tls=self._tls(listeners),
            logs={} if self.cfg.check else self._logs,
            warnings=tuple(self._warnings),
            origin=", ".join(self._files) or f"no file in etc/{self._name} or /etc/{self._name}",
            trusted=trusted,
            veiled=dict(self._veiled),
        )
        if self._trusted_at_start is None:
            self._trusted_at_start = trusted

    def enter_start_folder(self) -> str:
        """Go where the daemon was started, or to the root if that is gone; return where.

        The path may hold a symbolic link that has moved. In the root absolute paths work.
        """
        try:
            os.chdir(self._start_folder)
        except OSError:
            os.chdir("/")
            return "/"
        return self._start_folder

    def next_generation(self, current: Generation) -> Generation:
        """Return what the files say now; raises ConfigError.

        Either way ``current`` stays in force: the master replaces it when a worker has proved the
        new one.
        """
        try:
            self.do_load_config()
            for name in ("user", "group"):  # sockets, logs and metrics belong to them
                if self.cfg.settings[name].get() != current.cfg.settings[name].get():
                    raise ConfigError(_fixed(name))
            _refuse_other_listeners(current, self.generation)
            return replace(
                self.generation, warnings=(*self._warnings, *_without_effect(current.cfg, self.cfg))
            )
        except BaseException:
            with suppress(OSError):  # it may be gone; then nothing can be relative to it
                os.chdir(current.folder)
            raise
        finally:
            self.cfg, self.generation = current.cfg, current

    def load_config(self) -> None:
        """Read every place, then apply what each says, the strongest last; raises ConfigError."""
        options, self._spec = command_line.parse(sys.argv[1:])
        self._name = split(self._spec)[0].partition(".")[0]
        variable = self._environment.get("GUNICORN_CMD_ARGS", "")
        in_variable = command_line.parse_variable(variable) if variable else {}
        folder, python, label = self._find_files(in_variable, options)
        for name in FILES[:2]:
            if (folder / name).exists():
                if "config_dir" not in {**in_variable, **options}:
                    _refuse_planted(folder, name, "--config-dir")
                self._refuse_newcomers(folder / name)
        self._section, self._document = yaml_document.load(folder / "main.yaml").split("api_hour")
        self._logging = yaml_document.load(folder / "logging.yaml")
        self._logs = logging_yaml.read(self._logging, self._name)
        found = [folder / name for name in FILES[:2] if (folder / name).exists()]
        self._files = [*map(_shown, found), *self._files]
        self._paths += map(str, found)
        self._warnings += logging_yaml.warnings(self._logs)
        self._apply_yaml()
        self._apply_environment()
        for name in python.keys() & ERRANDS:
            cure = f"only an option can: {command_line.option(name)}"
            raise ConfigError(f"{label(name)} cannot be set here: {cure}")
        self._apply(python, label)
        self._warn_of_misspelled(python, label)
        self._apply(in_variable, _label_of_variable)
        self._apply(options, command_line.option)
        self._warn_of_unknown()
        self.chdir()

    def run(self) -> None:
        """Start the master, or do what --check-config and --print-config ask for."""
        if self.cfg.print_config:
            for name, veiled in self._veiled.items():
                self.cfg.settings[name].value = veiled
            variables = self.cfg.settings["raw_env"]
            variables.value = [f"{item.partition('=')[0]}=..." for item in variables.value]
            command_line.tell(str(self.cfg))
            self.load()
            raise SystemExit(0)
        super().run()

    def load(self) -> None:
        """Import nothing for --check-config and --print-config; --check boots a worker."""
        for warning in self.generation.warnings:
            print(f"api_hour: warning: {warning}", file=sys.stderr)

    # Find

    def _find_files(self, in_variable: Values, options: Values) -> tuple[Path, Values, Label]:
        """Return the folder of main.yaml, what the Python file says, and how to name its lines.

        ``etc/NAME`` is looked for in the folder that ``chdir`` names, whether an option or the
        Python file does. A path given as an option begins where the command was typed.
        """
        given = {**in_variable, **options}
        if "chdir" in given:
            self._enter_chdir(
                given, command_line.option if "chdir" in options else _label_of_variable
            )
        python: Values = {}
        label: Label = str
        if location := given.get("config"):
            python, label = self._run_python(location)
            self._enter_chdir({} if "chdir" in given else python, label)
        folder = self._config_folder(given.get("config_dir"))
        if not location and (location := _default_file(folder)):
            if "config_dir" not in given or Path(location).parent != folder:
                _refuse_planted(Path(location).parent, CONFIG_FILE, "--config")
            python, label = self._run_python(location)
            self._enter_chdir({} if "chdir" in given else python, label)
            if not folder.is_dir():
                folder = self._config_folder(given.get("config_dir"))
        return folder, python, label

    def _config_folder(self, given: str | None) -> Path:
        """Return ``given``, else etc/NAME in the working directory, else /etc/NAME."""
        if given is None:
            for base in (Path.cwd(), Path("/")):
                if (folder := base / "etc" / self._name).is_dir():
                    _refuse_planted(base, f"etc/{self._name}", "--config-dir")
                    break
            return folder
        folder = Path(self._folder, given)
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {given}: there is no such folder")
        if not any((folder / name).exists() for name in (*FILES, "main.yml", "logging.yml")):
            raise ConfigError(f"--config-dir {given} holds none of {', '.join(FILES)}")
        return folder

    def chdir(self) -> None:
        """Go to the folder of the settings, and let ``gunicorn.conf.py`` import from it.

        In a folder like ``/tmp`` root imports nothing, now or later: anybody may put modules there.
        """
        os.chdir(self.cfg.chdir)
        shared = stat.S_IWOTH | stat.S_ISVTX
        if os.geteuid() != ROOT or os.stat(".").st_mode & shared != shared:
            super().chdir()

    def _enter_chdir(self, values: Values, label: Label) -> None:
        if "chdir" in values:
            self._set("chdir", values["chdir"], label)
            _enter(self.cfg.chdir)

    def _run_python(self, location: str) -> tuple[Values, Label]:
        """Run gunicorn.conf.py; raises ConfigError with the line that failed."""
        if location.startswith("python:"):
            module = location.removeprefix("python:")
            values = _run(module, lambda: runpy.run_module(module))  # anew at each reload
            self._files.append(location)
            return values, lambda name: f"{module}: {name}"
        given = location.removeprefix("file:")
        path = os.path.join(self._folder, given)
        shown = _shown(path)
        if os.path.isdir(path):
            raise ConfigError(
                f"--config {given} is a folder: name a file in it, or give --config-dir {given} "
                "for its main.yaml"
            )
        if not os.path.exists(path):
            raise ConfigError(f"{shown} does not exist: name another with --config")
        self._refuse_newcomers(path)
        values = _run(shown, lambda: runpy.run_path(path), path)
        self._files.append(shown)
        self._paths.append(path)
        return values, lambda name: f"{shown}{_line_of(name, path)}: {name}"

    # Apply

    def _apply_yaml(self) -> None:
        values = {key: value for key, value in self._section.data.items() if key != LISTENERS}
        for key in values:
            if key in (*LOCATIONS, *ERRANDS):
                cure = f"only an option can: {command_line.option(key)}"
                raise self._section.error((key,), f"api_hour.{key} cannot be set here: {cure}")
            if key not in self.cfg.settings:
                known = difflib.get_close_matches(key, [*self.cfg.settings, LISTENERS], 1)
                hint = f"; did you mean {known[0]}?" if known else "; see api_hour --help-all"
                raise self._section.error((key,), f"api_hour.{key} is not a setting{hint}")

        def label(key: str) -> str:
            return str(self._section.error((key,), f"api_hour.{key}"))

        def apply(key: str, value: object) -> None:
            self._apply({key: value}, label)

        for key, value in values.items():
            veiled = self._section.veiled((key,))
            _read(partial(apply, key), value, veiled, label(key))
            if veiled != value:
                self._veiled[key] = veiled

    def _apply_environment(self) -> None:
        """Apply what other programs of this kind read from the environment; empty is unset."""
        given = {name: self._environment.get(name, "").strip() for name in READ_BY_GUNICORN}
        if workers := given["WEB_CONCURRENCY"]:
            self._set("workers", workers, lambda _: "WEB_CONCURRENCY")
        if port := given["PORT"]:
            if not (port.isascii() and port.isdigit() and 0 < int(port) <= MAX_PORT):
                raise ConfigError(f"PORT must be a number from 1 to {MAX_PORT}, got {port!r}")
            listeners = self._section.data.get(LISTENERS, DEFAULT_LISTENERS)
            if not isinstance(listeners, dict) or HTTP in listeners:
                url = f"tcp://{EVERYWHERE}:{port}"
                self._moves.append(_Move(HTTP, [url], " (PORT of the environment)"))
            else:
                self._warnings.append(f"PORT has no effect: there is no listener {HTTP}")
        if given["FORWARDED_ALLOW_IPS"]:
            cure = gunicorn_settings.REFUSED["forwarded_allow_ips"]
            self._warnings.append(f"FORWARDED_ALLOW_IPS has no effect: {cure}")

    def _apply(self, values: Values, label: Label) -> None:
        """Apply the settings of one place, over those of the places before."""
        for name, value in values.items():
            if name in self.cfg.settings:
                self._set(name, value, label)
        urls: dict[str, list[str]] = {}
        for bind in self.cfg.bind if "bind" in values else ():
            urls.setdefault(HTTP, []).append(_from_bind(bind))
        for item in self.cfg.listen if "listen" in values else ():
            name, _, url = item.partition("=")
            urls.setdefault(name, []).append(url)
        self._moves += [_Move(name, given) for name, given in urls.items()]

    def _set(self, name: str, value: object, label: Label) -> None:
        """Apply one setting; raises ConfigError, which begins with what ``label`` says."""
        setting = self.cfg.settings[name]
        self._veiled.pop(name, None)
        refused = gunicorn_settings.refused(beside_logging_yaml=bool(self._logs))
        warned = gunicorn_settings.WARNED | gunicorn_settings.OWN_WARNED
        if name in refused or name in warned:
            if _is_default(setting, value):
                return
            if name in refused:
                raise ConfigError(f"{label(name)} cannot be set: {refused[name]}; remove it")
            self._warnings.append(f"{label(name)} has no effect: {warned[name]}")
        try:
            if value is None and isinstance(setting.default, bool):
                raise ValueError
            setting.set(value)
            self._set_anywhere.add(name)
            if inspect.iscoroutinefunction(value):
                raise ValueError  # nobody would await it
        except Exception as error:  # a validator may import a module, which may raise anything
            kind = setting.validator.__name__
            if kind == "_validate_callable":
                hook = f"a plain function of {inspect.signature(setting.default)}"
                raise ConfigError(
                    f"{label(name)} must be {hook}, got {_signature(value)}"
                ) from None
            expected = EXPECTED.get(kind)
            rule = f"must be {expected}, got {value!r}" if expected else str(error)
            raise ConfigError(f"{label(name)} {rule}") from None

    def _warn_of_misspelled(self, python: Values, label: Label) -> None:
        """Warn of names of gunicorn.conf.py that are nearly settings: it may define any others."""
        for name in python.keys() & LOCATIONS:
            self._warnings.append(f"{label(name)} has no effect: only an option can set it")
        for name, value in python.items():
            if name in self.cfg.settings or name.startswith("_") or isinstance(value, ModuleType):
                continue
            close = difflib.get_close_matches(name, self.cfg.settings, 1, cutoff=ALMOST)
            if close:
                self._warnings.append(f"{label(name)} is not a setting; did you mean {close[0]}?")

    def _warn_of_unknown(self) -> None:
        """Warn of settings of a newer Gunicorn, and of those that need what is not installed."""
        if self.cfg.settings["proc_name"].get() and not find_spec("setproctitle"):
            self._warnings.append("proc_name has no effect without setproctitle: install it")
        known = gunicorn_settings.known()
        for setting in KNOWN_SETTINGS:
            if setting.name not in known:
                now = self.cfg.settings[setting.name].get()
                if now != setting().get():
                    self._warnings.append(
                        f"{setting.name} may have no effect: this API-Hour does not know it"
                    )

    def _check_user(self) -> None:
        """Give the workers the group of their user, unless one is set; warn if they are root."""
        user = self.cfg.uid
        try:
            account = pwd.getpwuid(user)
        except KeyError:
            if "user" in self._set_anywhere and "group" not in self._set_anywhere:
                raise ConfigError(f"user {user} has no account: set its group, too") from None
            if self.cfg.initgroups:
                raise ConfigError(f"initgroups: user {user} has no account, so no groups") from None
        else:
            if "user" in self._set_anywhere and "group" not in self._set_anywhere:
                self.cfg.set("group", account.pw_gid)
        if user == ROOT:
            self._warnings.append(RUN_AS_ROOT)

    def _find_trusted(self) -> frozenset[int]:
        """Return whose word root takes: it obeys or runs their files. Warn of that once.

        It must go on: the code may lie in a developer's folder, or in one that a container shares
        with its host.
        """
        trusted, faults = {ROOT}, list[str]()
        code = [self.cfg.chdir] if self.cfg.uid == ROOT else []  # else a worker without rights
        for path in [*self._paths, *code] if os.geteuid() == ROOT else ():
            self._refuse_newcomers(path)
            trusted |= _owners(path).keys()
            try:
                owned_files.refuse_foreign(os.path.realpath(path), path)
            except owned_files.ForeignFile as error:
                faults.append(f"root obeys {path}, which others can change: {error.fault}")
        self._warnings += faults[:1]
        return frozenset(trusted)

    def _refuse_newcomers(self, path: str | Path) -> None:
        """Raise ConfigError at a reload for what belongs to a user whom the start did not trust."""
        if os.geteuid() != ROOT or self._trusted_at_start is None:
            return
        for user, place in _owners(path).items():
            if user not in self._trusted_at_start:
                raise ConfigError(
                    f"{path} is not read: {place} belongs to user {user}, whose files root did not "
                    "obey at the start; give it to root, or restart the daemon to trust this user"
                )

    # Listeners

    def _listeners(self) -> dict[str, ListenerSettings]:
        """Return the listeners: of the YAML file, moved by what came after it."""
        listeners = self._from_yaml()
        for name, urls, origin in self._moves:
            moved = addresses.read(name, urls, like=listeners.get(name))
            listeners[name] = replace(moved, origin=origin)
        by_port = any(move.origin for move in self._moves)
        if by_port and not listeners[HTTP].origin:
            self._warnings.append(
                f"PORT has no effect: gunicorn.conf.py or an option names the listener {HTTP}"
            )
        found = {name: self._with_owner(listener) for name, listener in listeners.items()}
        if self.cfg.check:  # beside a running service, whose addresses are in use
            return {name: listener.anywhere() for name, listener in found.items()}
        return found

    def _from_yaml(self) -> dict[str, ListenerSettings]:
        given = self._section.data.get(LISTENERS, DEFAULT_LISTENERS)
        if not isinstance(given, dict):
            raise self._section.error((LISTENERS,), "api_hour.listeners must map names to URLs")
        found = {}
        for name, value in given.items():
            keys = (LISTENERS, name)
            veiled = self._section.veiled(keys) if keys in self._section.marks else value
            try:
                found[name] = _read(
                    partial(addresses.read, name), value, veiled, f"listener {name}"
                )
            except ConfigError as error:
                raise self._at_listener(name, error) from None
        return found

    def _at_listener(self, name: str, error: ConfigError) -> ConfigError:
        """Return the error with the place of the listener, if that is in the YAML file."""
        keys = (LISTENERS, name)
        text = convert.censored(self._section, str(error))
        return self._section.error(keys, text) if keys in self._section.marks else error

    def _with_owner(self, listener: ListenerSettings) -> ListenerSettings:
        """Give unix sockets an absolute path, and the mode and owner that Gunicorn gives them."""
        user = None if self.cfg.uid == os.geteuid() else self.cfg.uid
        group = None if self.cfg.gid == os.getegid() else self.cfg.gid
        return replace(
            listener,
            addresses=tuple(
                address.completed(self.cfg.chdir, 0o777 & ~self.cfg.umask, user, group)
                for address in listener.addresses
            ),
        )

    def _tls(self, listeners: Mapping[str, ListenerSettings]) -> dict[str, ssl.SSLContext]:
        contexts = {}
        for name, listener in listeners.items():
            try:
                context = tls.context(listener, self._call_ssl_hook)
            except ConfigError as error:
                raise self._at_listener(name, error) from None
            if context:
                contexts[name] = context
            for pair in listener.key_pairs if os.geteuid() == ROOT else ():
                key = pair.key or pair.certificate
                if os.stat(key).st_mode & stat.S_IRWXO:  # root alone has to read it
                    self._warnings.append(
                        f"listener {name}: all users may read the key {key}: chmod o= {key}"
                    )
        return contexts

    def _call_ssl_hook(self, made: ssl.SSLContext) -> ssl.SSLContext:
        """Let the hook of gunicorn.conf.py change a context, or make another one."""
        try:
            changed = self.cfg.ssl_context(self.cfg, lambda: made)
        except Exception as error:  # it is the operator's code
            raise ConfigError(f"ssl_context: {observers.describe(error)}") from error
        if not isinstance(changed, ssl.SSLContext):
            raise ConfigError(f"ssl_context must return an ssl.SSLContext, got {changed!r}")
        return changed


def _read(read: Callable[[Any], T], value: object, veiled: object, what: str) -> T:
    """Return ``read(value)``; an error is that of ``veiled``, which has no secret.

    A part of a secret is one as well, and a message may have it in any form.
    """
    try:
        return read(value)
    except ConfigError:
        if veiled == value:
            raise
    read(veiled)
    raise ConfigError(f"{what} cannot be {veiled!r}")


def _signature(value: object) -> str:
    """Return a function as its definition begins, and anything else as it is."""
    if not inspect.isfunction(value):
        return repr(value)
    kind = "async def" if inspect.iscoroutinefunction(value) else "def"
    return f"{kind} {value.__name__}{inspect.signature(value)}"


def _shown(path: str | Path) -> str:
    return str(path).removeprefix(os.getcwd() + os.sep)


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise ConfigError(f"cannot enter the folder {folder}: {error.strerror}") from None


def _default_file(folder: Path) -> str | None:
    """Return the gunicorn.conf.py beside main.yaml, else that of the working directory."""
    files = [folder / CONFIG_FILE, Path.cwd() / CONFIG_FILE]
    return next((str(file) for file in files if file.is_file()), None)


def _refuse_planted(folder: Path, path: str, option: str) -> None:
    """Raise ConfigError if others may have put there what root finds as ``path`` in ``folder``.

    Every name on the way to it counts, and of a link both it and where it leads; not the folders
    before ``folder``, which root has chosen. ``option`` is how an operator says that it is meant.
    """
    if os.geteuid() != ROOT:
        return
    at, rest, links = folder.resolve(), path.split("/"), 0
    while rest:
        name = rest.pop(0)
        if name in ("", ".", ".."):
            at = at.parent if name == ".." else at
            continue
        place = at / name
        found = place.lstat()
        if fault := _planted(place, found, at.stat()):
            raise ConfigError(
                f"{folder / path} is not read: {fault}; remove it, or name it with {option} if "
                "root shall obey it"
            )
        if not stat.S_ISLNK(found.st_mode):
            at = place
            continue
        if (links := links + 1) > owned_files.MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(place))
        target = os.readlink(place)
        at = Path("/") if target.startswith("/") else at
        rest = [*target.split("/"), *rest]


def _planted(place: Path, found: os.stat_result, folder: os.stat_result) -> str:
    """Return how another user may have put something into a folder; empty if none may have.

    In a folder without the sticky bit others may still replace what is root's: that is warned of
    only, because the folders of a ConfigMap and of some shared file systems are like that.
    """
    is_folder, may_group = stat.S_ISDIR(found.st_mode), folder.st_mode & stat.S_IWGRP
    if folder.st_mode & stat.S_IWOTH:
        if found.st_uid != ROOT:
            owner = f"{place} belongs to user {found.st_uid}"
            return f"{owner}, and all users may write to {place.parent}"
        if not is_folder and found.st_nlink > 1:
            return f"{place} has a second name, and all users may write to {place.parent}"
    elif may_group and not is_folder and found.st_uid not in (ROOT, folder.st_uid):
        return f"{place} belongs to user {found.st_uid}, and its folder to user {folder.st_uid}"
    return ""


def _owners(path: str | Path) -> dict[int, Path]:
    """Return who owns a file and the folders of its real path: by user, what is theirs."""
    real = Path(path).resolve()
    return {place.stat().st_uid: place for place in (*reversed(real.parents), real)}


def _run(shown: str, run: Callable[[], Values], file: str = "") -> Values:
    """Return what Python code defines; raises ConfigError with the line that failed."""
    try:
        return run()
    except (Exception, SystemExit) as error:
        line = getattr(error, "lineno", None)  # of a SyntaxError
        for frame in traceback.extract_tb(error.__traceback__):
            line = frame.lineno if frame.filename == file else line
        location = f"{shown}:{line}" if line else shown
        raise ConfigError(f"{location}: {observers.describe(error)}") from None


def _line_of(name: str, file: str) -> str:
    """Return the last line that defines ``name``, as an error writes it; empty if it is unknown."""
    with suppress(OSError, SyntaxError, ValueError):
        with open(file, "rb") as stream:
            nodes = [*ast.walk(ast.parse(stream.read()))]
        stored = [node for node in nodes if isinstance(node, ast.Name) and node.id == name]
        defined = [
            node
            for node in nodes
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        ]
        lines = [node.lineno for node in stored if isinstance(node.ctx, ast.Store)]
        lines += [node.lineno for node in defined]
        return f":{max(lines)}" if lines else ""
    return ""


def _label_of_variable(name: str) -> str:
    return f"GUNICORN_CMD_ARGS: {command_line.option(name)}"


def _is_default(setting: Any, value: object) -> bool:
    """Tell whether a value is the default, or means the same."""
    fresh = type(setting)()
    try:
        before = fresh.get()
        with redirect_stderr(io.StringIO()):  # one of Gunicorn's validators writes there
            fresh.set(value)
        return bool(fresh.get() == before)
    except Exception:  # a bad value is not the default
        return False


def _without_effect(before: Any, after: Any) -> Iterator[str]:
    """Yield a warning for each setting that has changed, and that only a start reads."""
    for name in gunicorn_settings.FIXED_AT_START:
        # As text: gunicorn.conf.py makes its logger_class anew.
        if str(before.settings[name].get()) != str(after.settings[name].get()):
            yield _fixed(name)


def _fixed(name: str) -> str:
    return f"{name} cannot change at a reload: restart the daemon to change it"


def _refuse_other_listeners(before: Generation, after: Generation) -> None:
    """Raise ConfigError for a listener that a reload would change, with what it was and would be.

    The mode and the owner of a unix socket come from umask, user and group as well.
    """
    old, new = (
        {
            name: ", ".join(str(address) + address.query for address in listener.addresses)
            for name, listener in generation.listeners.items()
        }
        for generation in (before, after)
    )
    for name in {**old, **new}:
        was, would = old.get(name, "nothing"), new.get(name, "nothing")
        if was != would:
            raise ConfigError(
                f"listener {name} cannot change at a reload, from {was} to {would}: restart the "
                "daemon to change it"
            )


def _from_bind(bind: str) -> str:
    """Return Gunicorn's ADDRESS as a listener's URL."""
    if bind.startswith(("unix:", "fd://", "tcp://")):
        return bind
    host, bracket, port = bind.rpartition("]")
    if not bracket:
        host, _, port = bind.partition(":")
        port = f":{port}"
    port = port if len(port) > 1 else ":8000"
    return f"tcp://{host or '0.0.0.0'}{bracket}{port}"  # noqa: S104 - what Gunicorn means by it
