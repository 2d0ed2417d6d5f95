"""The command line: its options are those of the settings, and its help fits on one screen.

Gunicorn has a parser of its own, whose help holds the markup of its pages, cut sentences, and
options that have no effect here.
"""

import difflib
import os
import platform
import re
import shlex
import sys
import textwrap
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from gunicorn import __version__ as gunicorn_version
from gunicorn.config import KNOWN_SETTINGS

from api_hour import __version__
from api_hour.config import gunicorn_settings
from api_hour.config import settings as settings  # registers them with Gunicorn
from api_hour.config.gunicorn_settings import ACTS_IN_OUR_WAY, OURS, OWN_WARNED, WARNED
from api_hour.exceptions import ConfigError

NAME = "api_hour"
USAGE = f"""\
usage: {NAME} [OPTIONS] MODULE:CONTAINER
       {NAME} openapi [OPTIONS] MODULE:CONTAINER
       {NAME} reload PIDFILE [--timeout SECONDS]"""
INTRODUCTION = """\
Serve a Container with several worker processes. etc/NAME/main.yaml holds its settings, where NAME
is the first part of MODULE; an option wins over the file."""
WIDTH = 100  # columns at most
COLUMN = 32  # where descriptions begin on the one screen
LAST = "  -h, --help; --help-all, with every option; -v, --version"

# What the one screen shows; every other setting is on --help-all.
COMMON = {
    "listen": "address of a listener, over that of the file; may be repeated",
    "config_dir": "folder of main.yaml; by default etc/NAME, else /etc/NAME",
    "check": "load everything, boot one worker to ready, print one line and exit",
    "loop": "event loop; auto is uvloop if it is installed",
    "balance": "one socket for all workers, or a slot (SO_REUSEPORT) for each",
    "boot_timeout": "time from a worker's start until it must be ready; 0: no limit",
    "max_surge": "workers above the desired number while others are replaced",
    "stop_delay": "time between TERM and the end of accepting",
    "drain_idle": "time for which a draining worker still answers idle connections",
    "max_worker_age": "time after which a worker is replaced; 0 means never",
    "max_worker_rss": "memory, as in 512M, above which a worker is replaced",
    "metrics": "count requests, connections and engines for Prometheus",
    "request_ids": "give each HTTP request an id, in its log records and its answer",
    "trusted_proxies": "networks whose proxy headers are believed",
    "workers": "number of worker processes, or auto: one for each core",
    "bind": "HOST:PORT of the listener http; may be repeated",
    "config": "Python file with settings and hooks",
    "chdir": "folder to work in; etc/NAME is looked for there",
    "pidfile": "file for the master's process id",
    "user": "user of the workers, where root starts the daemon",
    "group": "group of the workers",
    "loglevel": "debug, info, warning, error or critical",
    "accesslog": "file of the access log; - is standard output",
    "reload": "for development: reload when a file changes",
    "timeout": "time after which a worker that is blocked is killed",
    "graceful_timeout": "time that a draining worker has for work in flight",
    "check_config": "read the configuration and exit",
    "print_config": "print the settings and exit",
}
OF_THE_MACHINE = {"chdir", "user", "group"}  # their defaults
METAVARS = {
    "timeout": "SECONDS",
    "graceful_timeout": "SECONDS",
    "chdir": "DIR",
    "config": "FILE",
    "workers": "N|auto",
}


class UsageError(ConfigError):
    """The command line is wrong; the usage is shown with it."""


class _Parser(ArgumentParser):
    """A parser that raises instead of exiting: a reload may read GUNICORN_CMD_ARGS, too."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def parse(arguments: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Return the settings that are given as options, and MODULE:CONTAINER.

    ``--help``, ``--help-all`` and ``--version`` print, and raise SystemExit. Raises UsageError.
    """
    parser = _parser()
    flags = parser.add_argument_group()
    for flag, name in {"-h": "help", "--help-all": "help_all", "-v": "version"}.items():
        spellings = [flag] if flag.startswith("--") else [flag, f"--{name}"]
        flags.add_argument(*spellings, dest=name, action="store_true", default=None)
    given, rest = _parse(parser, arguments)
    for name, text in {"help": screen, "help_all": everything, "version": version}.items():
        if given.pop(name, None):
            tell(text())
            raise SystemExit(0)
    if len(rest) != 1:
        got = f"; got {' '.join(rest)}" if rest else f"; {NAME} --help shows the options"
        raise UsageError(f"name one Container: {NAME} MODULE:CONTAINER, as in {_example()}{got}")
    return given, rest[0]


def tell(text: str) -> None:
    """Print what was asked for; whoever reads it may leave before its end, as ``| head`` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the exit writes again what has not been taken
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def parse_variable(text: str) -> dict[str, Any]:
    """Return the settings that the variable GUNICORN_CMD_ARGS holds; raises ConfigError."""
    try:
        given, rest = _parse(_parser(), shlex.split(text))
    except (ValueError, UsageError) as error:
        raise ConfigError(f"GUNICORN_CMD_ARGS: {error}") from None
    if rest:
        raise ConfigError(f"GUNICORN_CMD_ARGS: {rest[0]!r} is not an option: remove it")
    return given


def option(name: str) -> str:
    """Return the long option of a setting, which an error names; its name without one."""
    return str((_SETTINGS[name].cli or [name])[-1])


def sentence(setting: Any) -> str:
    """Return the first sentence of a description, without references to Gunicorn's own pages."""
    paragraph = " ".join(setting.desc.strip().split("\n\n")[0].split())
    found = re.match(r".*?\.(?= [A-Z(]|$)", paragraph)
    text = paragraph if setting.section == OURS or not found else found[0]
    text = re.sub(r":\w+:`([^`<]+?)(?: ?<[^>]+>)?`", r"``\1``", text)
    return text if text.endswith(".") else f"{text}."


def screen() -> str:
    """Return the help of one screen."""
    lines = [USAGE, "", INTRODUCTION]
    for heading, ours in {"API-Hour's options": True, "Gunicorn's": False}.items():
        lines += ["", f"{heading}:"]
        for name, text in COMMON.items():
            if (_SETTINGS[name].section == OURS) is ours:
                lines.append(f"  {_spelled(_SETTINGS[name]):{COLUMN - 3}} {text}")
    return "\n".join([*lines, LAST])


def everything() -> str:
    """Return the help of every option that has an effect, ours first."""
    idle = {*gunicorn_settings.refused(), *WARNED, *OWN_WARNED}
    shown = [setting for setting in KNOWN_SETTINGS if setting.cli and setting.name not in idle]
    lines = [USAGE, "", INTRODUCTION]
    sections = dict.fromkeys(setting.section for setting in shown)
    for section in sorted(sections, key=lambda name: name != OURS):
        lines += ["", f"{section}:" if section == OURS else f"Gunicorn, {section}:"]
        for setting in shown:
            if setting.section == section:
                lines += ["", f"  {_spelled(setting)}", *_described(setting)]
    return "\n".join(lines)


def version() -> str:
    """Return the versions of everything that serves."""
    python = platform.python_version()
    return f"{NAME} {__version__} (Gunicorn {gunicorn_version}, Python {python})"


def _described(setting: Any) -> Iterator[str]:
    text = re.sub(r"``|\*", "", sentence(setting))
    if setting.name in ACTS_IN_OUR_WAY:
        text += f" Here: {ACTS_IN_OUR_WAY[setting.name]}."
    if isinstance(setting.default, str | int | float) and not isinstance(setting.default, bool):
        number = isinstance(setting.default, float)
        shown = f"{setting.default:g}" if number else setting.default
        text += f" Default: {shown}." if shown != "" and setting.name not in OF_THE_MACHINE else ""
    yield from textwrap.wrap(text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _spelled(setting: Any) -> str:
    # Spellings with an underscore are those of API-Hour 0.8; they go on working.
    spellings = ", ".join(spelling for spelling in setting.cli if "_" not in spelling)
    if setting.action in ("store_true", "store_const"):
        return spellings
    metavar = METAVARS.get(setting.name) or setting.meta or setting.name.upper()
    return f"{spellings} {'N' if metavar == 'INT' else metavar}"


def _parser() -> _Parser:
    # Abbreviations would change their meaning with the next option that begins alike.
    parser = _Parser(prog=NAME, add_help=False, allow_abbrev=False, argument_default=SUPPRESS)
    for setting in KNOWN_SETTINGS:
        if setting.cli:
            kwargs = {"nargs": setting.nargs, "const": setting.const}
            parser.add_argument(
                *setting.cli,
                dest=setting.name,
                action=setting.action or "store",
                **{name: value for name, value in kwargs.items() if value is not None},
            )
    return parser


def _parse(parser: _Parser, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    namespace, rest = parser.parse_known_args(list(arguments))
    if "--" in rest:
        rest.remove("--")
    elif unknown := [item for item in rest if item.startswith("-") and item != "-"]:
        raise UsageError(f"{unknown[0]} is not an option{_nearest(unknown[0], parser)}")
    return vars(namespace), rest


def _nearest(given: str, parser: _Parser) -> str:
    known = [spelling for action in parser._actions for spelling in action.option_strings]
    wanted = given.partition("=")[0].replace("_", "-")
    close = difflib.get_close_matches(wanted, known, 1)
    return f"; did you mean {close[0]}?" if close else "; api_hour --help-all shows them"


def _example() -> str:
    """Return the one application here that has a folder in etc/, or else a made-up one."""
    names = os.listdir("etc") if os.path.isdir("etc") else []
    here = [name for name in names if os.path.exists(f"{name}.py") or os.path.isdir(name)]
    return f"{NAME} {here[0] if len(here) == 1 else 'hello'}:Container"


_SETTINGS: Mapping[str, Any] = {setting.name: setting for setting in KNOWN_SETTINGS}
