"""The process manager's own settings, declared the way Gunicorn declares its own.

Importing this module registers them, so that the command line, the YAML file and gunicorn.conf.py
know them; Gunicorn's ``Config()`` takes only what was registered before.

To add one, declare it below. An option of a server needs a field of the same name in
``container.ServerOptions``, too, and nothing else: the worker copies fields by their names.
"""

import ipaddress
import math
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

from gunicorn import util
from gunicorn.config import KNOWN_SETTINGS, Setting, validate_bool, validate_string
from gunicorn.glogging import SYSLOG_FACILITIES, Logger

from api_hour.config import processors

MAX_NUMBER = 2**31 - 1  # what the system takes, as a backlog for example
Validator = Callable[[Any], object]
V = TypeVar("V", bound=Validator)

MAX_WORKERS = 1024  # far above what a machine has processors for; beyond it is a slip of the hand
PROXY_HEADERS = (  # those that every proxy writes, then those that few do
    *("x-forwarded-for", "x-forwarded-proto", "x-real-ip", "forwarded"),
    *("x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix"),
)

_METAVARS: dict[Validator, str] = {validate_string: "DIR"}  # what --help shows for a value


def _metavar(name: str) -> Callable[[V], V]:
    """Register what --help shows for a value that the decorated validator takes."""

    def register(validator: V) -> V:
        _METAVARS[validator] = name
        return validator

    return register


@_metavar("SECONDS")
def seconds(value: Any) -> float:
    """Return a time in seconds; raises ValueError if it is negative or infinite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number < math.inf:
        raise ValueError(f"must be seconds of zero or more, got {value!r}")
    return number


@_metavar("N")
def at_least_one(value: Any) -> int:
    """Return a whole number above zero; raises ValueError for anything else."""
    text = "" if isinstance(value, bool) else str(value)
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError(f"must be a whole number above zero, got {value!r}")
    return int(text)


@_metavar("BYTES")
def size(value: Any) -> int:
    """Return a number of bytes; text may end in K, M or G. Raises ValueError below zero."""
    text = str(value).strip().upper()
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    digits = text[:-1] if factor > 1 else text
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"must be bytes, as in 512M, got {value!r}")
    return int(digits) * factor


def one_of(*known: str) -> Callable[[Any], str]:
    """Return a validator that takes one of ``known`` and raises ValueError for anything else."""

    @_metavar("|".join(known))
    def validate(value: Any) -> str:
        if value not in known:
            raise ValueError(f"must be {' or '.join(known)}, got {value!r}")
        return str(value)

    return validate


@_metavar("NAME=URL")
def addresses(value: Any) -> list[str]:
    """Return a list of NAME=URL; raises ValueError for an item of another form."""
    items = value if isinstance(value, list | tuple) else [value]
    for item in items:
        name, _, url = str(item).partition("=")
        if not name or not url:
            raise ValueError(f"must be NAME=URL, as in http=tcp://127.0.0.1:8000, got {item!r}")
    return [str(item) for item in items]


def _listed(value: Any) -> list[str]:
    """Return the items of a list, or of text that separates them by commas."""
    items = value if isinstance(value, list | tuple) else str(value or "").split(",")
    return [str(item).strip() for item in items if str(item).strip()]


@_metavar("NETWORKS")
def networks(value: Any) -> list[str]:
    """Return a list of networks, and perhaps ``unix``; raises ValueError for anything else."""
    names = _listed(value)
    try:
        for name in names:
            if name != "unix":
                ipaddress.ip_network(name)
    except ValueError as error:
        raise ValueError(f"must be networks or unix, as in 10.0.0.0/8,unix: {error}") from error
    return names


@_metavar("PATHS")
def paths(value: Any) -> list[str]:
    """Return a list of URL paths; raises ValueError for one that does not begin with ``/``."""
    names = _listed(value)
    for name in names:
        if not name.startswith("/"):
            raise ValueError(f"must be paths, as in /health/,/metrics, got {name!r}")
    return names


@_metavar("HEADERS")
def proxy_headers(value: Any) -> list[str]:
    """Return a list of proxy headers, in lower case; raises ValueError for any other header."""
    return [_known(name, PROXY_HEADERS) for name in _listed(value)]


# Validators of Gunicorn's own settings, where Gunicorn's do not tell good from bad.


@_metavar("N")
def whole_number(value: Any) -> int:
    """Return a whole number of zero or more; raises ValueError for anything else."""
    try:
        number = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        number = -1
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"must be a whole number of zero or more, got {value!r}")
    if number > MAX_NUMBER:
        raise ValueError(f"must be no more than {MAX_NUMBER}, got {value!r}")
    return number


def worker_count(value: Any) -> int:
    """Return a number of workers; ``auto`` is that of the processors. Raises ValueError."""
    try:
        number = processors.available() if value == "auto" else whole_number(value)
    except ValueError:
        number = -1
    if not 0 <= number <= MAX_WORKERS:
        raise ValueError(f"must be a whole number up to {MAX_WORKERS}, or auto, got {value!r}")
    return number


def mask(value: Any) -> int:
    """Return a file mode's mask; text that begins with 0 is octal. Raises ValueError."""
    try:
        number = whole_number(re.sub(r"^0(?=\d)", "0o", value) if isinstance(value, str) else value)
    except ValueError:
        number = -1
    if not 0 <= number <= 0o777:
        raise ValueError(f"must be a mask of file modes, as in 0o022, got {value!r}")
    return number


def level(value: Any) -> str:
    """Return the name of a level of the log; raises ValueError for anything else."""
    return _known(value, Logger.LOG_LEVELS)


def facility(value: Any) -> str:
    """Return the name of one of syslog's facilities; raises ValueError for anything else."""
    return _known(value, SYSLOG_FACILITIES)


def _known(value: Any, names: Any) -> str:
    if not isinstance(value, str) or value.strip().lower() not in names:
        raise ValueError(f"must be one of {', '.join(names)}, got {value!r}")
    return value.strip().lower()


def assignments(value: Any) -> list[str]:
    """Return a list of NAME=VALUE; raises ValueError for an item of another form."""
    items = value if isinstance(value, list | tuple) else [value]
    for number, item in enumerate(items, 1):
        if not isinstance(item, str) or not item.partition("=")[0] or "=" not in item:
            raise ValueError(f"must be NAME=VALUE: its item {number} is not")  # perhaps a secret
    return [item.strip() for item in items]


def folder(value: Any) -> str:
    """Return the path of a folder, symbolic links kept; raises ValueError if there is none."""
    path = os.path.normpath(os.path.join(util.getcwd(), value)) if isinstance(value, str) else ""
    if not os.path.isdir(path):
        raise ValueError(f"must be a folder, got {value!r}")
    return path


STRICT: dict[str, Validator] = {
    "workers": worker_count,
    "umask": mask,
    "loglevel": level,
    "syslog_facility": facility,
    "raw_env": assignments,
    "chdir": folder,
}
for gunicorns in KNOWN_SETTINGS:
    if gunicorns.name == "chdir":
        gunicorns.default = "."  # not the folder of the start, which may be gone at a reload
    if gunicorns.name in STRICT:
        gunicorns.validator = staticmethod(STRICT[gunicorns.name])
    elif gunicorns.validator.__name__ == "validate_pos_int":
        gunicorns.validator = staticmethod(whole_number)


def _declare(
    name: str, validator: Validator, default: object, desc: str, *, also: tuple[str, ...] = ()
) -> None:
    """Register one setting; its option is its name with hyphens, and ``also`` other spellings.

    How the option is given follows from the rest: a switch for a boolean that is off by default,
    repeated for addresses, and with a value for everything else.
    """
    # Ours replaces one of Gunicorn's of the same name.
    KNOWN_SETTINGS[:] = [setting for setting in KNOWN_SETTINGS if setting.name != name]
    metavar, action = _METAVARS.get(validator), None
    if validator is validate_bool:
        metavar, action = ("BOOLEAN", None) if default else (None, "store_true")
    elif validator is addresses:
        action = "append"
    attributes = {
        "name": name,
        "section": "API-Hour",
        "cli": ["--" + name.replace("_", "-"), *also],
        "validator": validator,
        "default": default,
        "desc": desc,
        "meta": metavar,
        "action": action,
    }
    type(Setting)(name.title().replace("_", ""), (Setting,), attributes)


# Where the configuration is.
_declare(
    "config_dir",
    validate_string,
    None,
    "Folder of main.yaml; by default etc/NAME in the working directory, else /etc/NAME.",
    also=("--config_dir",),
)
_declare(
    "auto_config",
    validate_bool,
    False,
    "No effect: the configuration is always found by the application's name. Accepted as in 0.8.",
    also=("-ac", "--auto_config"),
)
_declare(
    "listen",
    addresses,
    [],
    "Address of one listener, instead of the one in the YAML file; may be given several times.",
)
_declare(
    "check",
    validate_bool,
    False,
    "Load everything, boot one worker to ready on free addresses, print one line and exit.",
)

# Workers.
_declare(
    "loop",
    one_of("auto", "uvloop", "asyncio"),
    "auto",
    "Event loop: uvloop, asyncio, or auto, which is uvloop if it is installed.",
)
_declare(
    "balance",
    one_of("shared", "slots"),
    "shared",
    "How workers share a tcp or udp address: one socket for all, or a slot (SO_REUSEPORT) each.",
)
_declare(
    "boot_timeout",
    seconds,
    60.0,
    "Seconds from a worker's start until it must be ready; 0: no limit.",
)
_declare(
    "max_surge",
    at_least_one,
    1,
    "Workers that may run on top of the desired number while others are replaced.",
)
_declare(
    "max_draining",
    whole_number,
    0,
    "Workers that may drain at once, 0 for twice the workers; older ones end after drain_idle.",
)
_declare(
    "stop_delay",
    seconds,
    0.0,
    "Seconds between TERM and the end of accepting, during which /health/ready returns 503.",
)
_declare(
    "drain_idle",
    seconds,
    5.0,
    "Seconds for which a draining worker still answers idle connections; 0 with --reload.",
)
_declare("max_worker_age", seconds, 0.0, "Seconds after which a worker is replaced; 0 means never.")
_declare(
    "max_worker_age_jitter",
    seconds,
    0.0,
    "Seconds by which max_worker_age grows at random, so that workers do not age together.",
)
_declare(
    "max_worker_rss",
    size,
    0,
    "Resident memory, as in 512M, above which a worker is replaced; 0 means never.",
)
_declare("max_worker_rss_jitter", size, 0, "Bytes by which max_worker_rss grows at random.")

# The HTTP server.
_declare(
    "fast",
    validate_bool,
    True,
    "Serve simple requests on the fast path; everything else takes aiohttp's own.",
)
_declare(
    "request_ids",
    validate_bool,
    False,
    "Give each HTTP request an id, X-Request-ID or a new one: in its log records and its answer.",
    also=("--request_ids",),
)
_declare(
    "access_log_skip",
    paths,
    [],
    "Paths that the access log leaves out, as in /metrics,/health/, which is all below /health/.",
)
_declare(
    "metrics",
    validate_bool,
    False,
    "Count requests, connections and engines for api_hour.metrics; needs prometheus-client.",
)
_declare(
    "threads",
    at_least_one,
    32,
    "Threads of a worker for endpoints that block (@api_hour.threaded).",
)
_declare(
    "keepalive",
    seconds,
    75.0,
    "Seconds that an idle HTTP connection is kept, longer than proxies do; 0: close at once.",
    also=("--keep-alive",),
)
_declare(
    "header_timeout",
    seconds,
    30.0,
    "Seconds from the first byte of a request's head to its end, also for the first; 0: no limit.",
)
_declare(
    "body_timeout",
    seconds,
    30.0,
    "Seconds without a byte of an expected request body until the answer is 408; 0: no limit.",
)
_declare(
    "body_min_rate",
    size,
    240,
    "Bytes a second, on average, that a request body must bring after body_timeout; 0: any.",
)
_declare(
    "request_timeout",
    seconds,
    0.0,
    "Seconds that an endpoint has for its whole answer before it is cancelled (504); 0: no limit.",
)
_declare(
    "send_timeout",
    seconds,
    60.0,
    "Seconds in which a peer reads nothing of what is sent until it is cut off; 0: no limit.",
)
_declare(
    "trusted_proxies",
    networks,
    [],
    "Networks, or unix, of the proxies whose headers tell who the client is and what it asked for.",
)
_declare(
    "proxy_headers",
    proxy_headers,
    list(PROXY_HEADERS[:4]),
    "Headers that trusted proxies write; others are a client's own: X-Forwarded-Host, say.",
)
