"""The process manager's own settings, declared the way Gunicorn declares its own.

Importing this module registers them, so that the command line, the YAML file and gunicorn.conf.py
know them; Gunicorn's ``Config()`` takes only what was registered before.

To add one, declare it below. An option of a server needs a field of the same name in
``container.ServerOptions``, too, and nothing else: the worker copies fields by their names.
"""

import ipaddress
import math
from collections.abc import Callable
from typing import Any, TypeVar

from gunicorn.config import Setting, validate_bool, validate_string

Validator = Callable[[Any], object]
V = TypeVar("V", bound=Validator)

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
    number = float(value)
    if isinstance(value, bool) or not 0 <= number < math.inf:
        raise ValueError(f"must be seconds of zero or more, got {value!r}")
    return number


@_metavar("N")
def at_least_one(value: Any) -> int:
    """Return a whole number above zero; raises ValueError for anything else."""
    number = int(value)
    if isinstance(value, bool) or number != float(value) or number < 1:
        raise ValueError(f"must be a whole number above zero, got {value!r}")
    return number


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
    items = value if isinstance(value, list) else [value]
    for item in items:
        name, _, url = str(item).partition("=")
        if not name or not url:
            raise ValueError(f"must be NAME=URL, as in http=tcp://127.0.0.1:8000, got {item!r}")
    return [str(item) for item in items]


@_metavar("NETWORKS")
def networks(value: Any) -> list[str]:
    """Return a list of networks, and perhaps ``unix``; raises ValueError for anything else."""
    items = value if isinstance(value, list) else str(value or "").split(",")
    names = [str(item).strip() for item in items if str(item).strip()]
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
    items = value if isinstance(value, list) else str(value or "").split(",")
    names = [str(item).strip() for item in items if str(item).strip()]
    for name in names:
        if not name.startswith("/"):
            raise ValueError(f"must be paths, as in /health/,/metrics, got {name!r}")
    return names


def _declare(
    name: str, validator: Validator, default: object, desc: str, *, also: tuple[str, ...] = ()
) -> None:
    """Register one setting; its option is its name with hyphens, and ``also`` other spellings.

    How the option is given follows from the rest: a switch for a boolean that is off by default,
    repeated for addresses, and with a value for everything else.
    """
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
_declare("boot_timeout", seconds, 60.0, "Seconds from a worker's start until it must be ready.")
_declare(
    "max_surge",
    at_least_one,
    1,
    "Workers that may run on top of the desired number while others are replaced.",
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
    "trusted_proxies",
    networks,
    [],
    "Networks, or unix, whose X-Forwarded-For and X-Forwarded-Proto name the client and scheme.",
)
