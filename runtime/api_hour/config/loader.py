"""The configuration: ``etc/NAME`` (main.yaml, logging.yaml, gunicorn.conf.py), the environment and
the command line, read into one Generation.

The precedence is Gunicorn's, with the YAML file below: main.yaml < gunicorn.conf.py <
GUNICORN_CMD_ARGS < command line. Gunicorn's Application does the work; ``init`` puts the YAML file
before everything else. The loader never imports the project's code: workers do.
"""

import difflib
import os
import runpy
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gunicorn.app.base import Application
from gunicorn.config import Config
from gunicorn.errors import ConfigError as GunicornConfigError

from api_hour.config import logging_yaml, yaml_document
from api_hour.config import settings as settings  # registers them with Gunicorn
from api_hour.config.addresses import Address
from api_hour.config.generation import Generation, split
from api_hour.exceptions import ConfigError

DEFAULT_LISTENERS = {"http": "tcp://127.0.0.1:8000"}
BY_FILE = "logging.yaml, beside main.yaml, configures the logs"
REFUSED = {
    "preload_app": "the master never imports the project's code, or a broken release would end it",
    "reuse_port": "the master owns every listening socket, so that none is lost with a worker",
    "worker_class": "a worker runs one api_hour.Container",
    "certfile": "TLS belongs to a listener",
    "keyfile": "TLS belongs to a listener",
    **dict.fromkeys(["logconfig", "logconfig_dict", "logconfig_json"], BY_FILE),
    "dirty_apps": "API-Hour runs no dirty arbiter",
    "dirty_workers": "API-Hour runs no dirty arbiter",
}


class _Config(Config):  # type: ignore[misc]
    """Gunicorn's Config, with the setting's name in the error about a bad value."""

    def set(self, name: str, value: object) -> None:
        try:
            super().set(name, value)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{name}: {error}") from None


class Loader(Application):  # type: ignore[misc]
    """Gunicorn's Application, which reads the configuration when it is made.

    ``worker_class`` is what Gunicorn's setting of that name shows; raises ConfigError.
    """

    generation: Generation

    def __init__(
        self, worker_class: type, usage: str | None = None, *, prog: str | None = None
    ) -> None:
        self._worker_class = worker_class
        super().__init__(usage, prog)

    def do_load_config(self) -> None:
        """Read everything into ``self.generation``; raises ConfigError.

        Gunicorn's own version prints the error and exits, which a reload must not do.
        """
        self.cfg = _Config(self.usage, prog=self.prog)
        try:
            self.load_config()
            self.cfg.validate()
        except (OSError, RuntimeError, GunicornConfigError) as error:
            raise ConfigError(str(error)) from error
        self._refuse()
        self.cfg.set("worker_class", self._worker_class)
        self.cfg.set("control_socket_disable", True)
        if self.cfg.check:
            self.cfg.set("loglevel", "critical")
        self.generation = Generation(
            spec=self._spec,
            folder=os.path.realpath(self.cfg.chdir),
            cfg=self.cfg,
            document=self._document,
            addresses=self._addresses(),
            logs={} if self.cfg.check else self._logs,
        )

    def next_generation(self, current: Generation) -> Generation:
        """Return what the files say now; raises ConfigError.

        Either way ``current`` stays in force: the master replaces it when a worker has proved the
        new one.
        """
        try:
            self.do_load_config()
            if _urls(self.generation) != _urls(current):
                raise ConfigError(
                    "listeners cannot change at a reload: restart the daemon to change them"
                )
            return self.generation
        finally:
            self.cfg, self.generation = current.cfg, current

    def init(self, parser: ArgumentParser, opts: Namespace, args: list[str]) -> None:
        """Apply the YAML file, which everything else overrides; Gunicorn calls this first."""
        if len(args) != 1:
            parser.error("name one Container: api_hour MODULE:CONTAINER, as in hello:Container")
        self._spec = args[0]
        name = split(self._spec)[0].partition(".")[0]
        self.cfg.set("default_proc_name", self._spec)
        folder = _config_folder(name, opts.config_dir)
        self._section, self._document = yaml_document.load(folder / "main.yaml").split("api_hour")
        for key, value in self._section.data.items():
            if key != "listeners":
                self._set(key, value)
        self._logs = logging_yaml.load(folder / "logging.yaml", name)
        file = folder / "gunicorn.conf.py"
        if opts.config is None and file.is_file():
            opts.config = str(file)

    def _set(self, key: str, value: object) -> None:
        """Apply one key of the section ``api_hour``."""
        if key not in self.cfg.settings:
            known = difflib.get_close_matches(key, [*self.cfg.settings, "listeners"], 1)
            hint = f"; did you mean {known[0]}?" if known else "; see api_hour --help"
            raise self._section.error((key,), f"api_hour.{key} is not a setting{hint}")
        try:
            self.cfg.set(key, value)
        except ConfigError as error:
            raise self._section.error((key,), f"api_hour.{error}") from None

    def get_config_from_filename(self, filename: str) -> dict[str, Any]:
        """Run gunicorn.conf.py; raises ConfigError with the line that failed."""
        try:
            return runpy.run_path(filename)
        except FileNotFoundError:
            raise ConfigError(f"{filename} does not exist: name another with --config") from None
        except (Exception, SystemExit) as error:
            line = getattr(error, "lineno", None)  # of a SyntaxError
            for frame in traceback.extract_tb(error.__traceback__):
                line = frame.lineno if frame.filename == filename else line
            location = f"{filename}:{line}" if line else filename
            raise ConfigError(f"{location}: {type(error).__name__}: {error}") from None

    def _refuse(self) -> None:
        """Raise ConfigError for a setting that cannot act here."""
        defaults = type(self.cfg)().settings
        by_file = dict.fromkeys(["accesslog", "errorlog", "loglevel", "syslog"], BY_FILE)
        for name, reason in (REFUSED | by_file if self._logs else REFUSED).items():
            if self.cfg.settings[name].get() != defaults[name].get():
                raise ConfigError(f"{name} cannot be set: {reason}; remove it")

    def _addresses(self) -> Mapping[str, Address]:
        """Return the listeners: of the YAML file, changed by --bind and --listen."""
        addresses = self._from_yaml()
        default = type(self.cfg)().settings["bind"].get()
        urls = [f"http={_from_bind(bind)}" for bind in self.cfg.bind if self.cfg.bind != default]
        if len(urls) > 1:
            raise ConfigError("--bind names the one listener http: use --listen for more")
        for item in [*urls, *self.cfg.listen]:
            name, _, url = item.partition("=")
            addresses[name] = Address.parse(name, url, like=addresses.get(name))
        if self.cfg.check:  # beside a running service, whose addresses are in use
            return {name: address.anywhere() for name, address in addresses.items()}
        return addresses

    def _from_yaml(self) -> dict[str, Address]:
        given = self._section.data.get("listeners", DEFAULT_LISTENERS)
        if not isinstance(given, dict):
            raise self._section.error(("listeners",), "api_hour.listeners must map names to URLs")
        addresses = {}
        for name, value in given.items():
            try:
                addresses[name] = Address.read(name, value)
            except ConfigError as error:
                raise self._section.error(("listeners", name), str(error)) from None
        return addresses

    def load(self) -> None:
        """Import nothing for --check-config and --print-config; --check boots a worker."""


def _urls(generation: Generation) -> dict[str, str]:
    return {name: str(address) for name, address in generation.addresses.items()}


def _config_folder(name: str, given: str | None) -> Path:
    """Return ``given``, else etc/NAME in the working directory, else /etc/NAME."""
    if given is None:
        local = Path("etc", name)
        return local if local.is_dir() else Path("/etc", name)
    if not Path(given).is_dir():
        raise ConfigError(f"--config-dir {given}: there is no such folder")
    return Path(given)


def _from_bind(bind: str) -> str:
    """Return Gunicorn's ADDRESS as a listener's URL."""
    if bind.startswith("unix:"):
        return bind
    return f"tcp://{bind}" if ":" in bind else f"tcp://{bind}:8000"
