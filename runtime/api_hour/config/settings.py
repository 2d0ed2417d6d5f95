"""The process manager's own settings, declared the way Gunicorn declares its own.

Importing this module registers them, so that the command line, the YAML file and gunicorn.conf.py
know them; it must come before the first ``gunicorn.config.Config``.
"""

import math
from collections.abc import Callable
from typing import Any

from gunicorn.config import Setting, validate_bool, validate_string

from api_hour.http.proxy_headers import TrustedProxies


def seconds(value: Any) -> float:
    """Return a time in seconds; raises ValueError below zero or when it has no end."""
    number = float(value)
    if isinstance(value, bool) or not 0 <= number < math.inf:
        raise ValueError(f"must be seconds of zero or more, got {value!r}")
    return number


def at_least_one(value: Any) -> int:
    """Return a whole number above zero; raises ValueError for any other."""
    number = int(value)
    if isinstance(value, bool) or number != float(value) or number < 1:
        raise ValueError(f"must be a whole number above zero, got {value!r}")
    return number


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

    def validate(value: Any) -> str:
        if value not in known:
            raise ValueError(f"must be {' or '.join(known)}, got {value!r}")
        return str(value)

    return validate


def addresses(value: Any) -> list[str]:
    """Return a list of NAME=URL; raises ValueError for an item of another form."""
    items = value if isinstance(value, list) else [value]
    for item in items:
        name, _, url = str(item).partition("=")
        if not name or not url:
            raise ValueError(f"must be NAME=URL, as in http=tcp://127.0.0.1:8000, got {item!r}")
    return [str(item) for item in items]


def networks(value: Any) -> list[str]:
    """Return a list of networks, and perhaps ``unix``; raises ValueError for anything else."""
    items = value if isinstance(value, list) else str(value or "").split(",")
    names = [str(item).strip() for item in items if str(item).strip()]
    try:
        TrustedProxies(names)
    except ValueError as error:
        raise ValueError(f"must be networks or unix, as in 10.0.0.0/8,unix: {error}") from error
    return names


def _declare(
    name: str,
    validator: Callable[[Any], object],
    default: object,
    desc: str,
    *,
    flags: list[str] | None = None,
    meta: str | None = None,
    action: str | None = None,
) -> None:
    """Register one setting; its option is its name with hyphens unless ``flags`` say otherwise."""
    attributes = {
        "name": name,
        "section": "API-Hour",
        "cli": flags or ["--" + name.replace("_", "-")],
        "validator": validator,
        "default": default,
        "desc": desc,
        "meta": meta,
        "action": action,
    }
    type(Setting)(name.title().replace("_", ""), (Setting,), attributes)


_declare(
    "config_dir",
    validate_string,
    None,
    "Folder of main.yaml; else etc/NAME below the working directory, then /etc/NAME.",
    flags=["--config-dir", "--config_dir"],
    meta="DIR",
)
_declare(
    "auto_config",
    validate_bool,
    True,
    "Find the configuration by the application's name: the default, accepted for 0.8's sake.",
    flags=["-ac", "--auto_config", "--auto-config"],
    action="store_true",
)
_declare(
    "listen",
    addresses,
    [],
    "Address of one listener, in place of the YAML file's; may be given several times.",
    meta="NAME=URL",
    action="append",
)
_declare(
    "check",
    validate_bool,
    False,
    "Load everything, boot one worker to ready on free addresses, print one line and leave.",
    action="store_true",
)
_declare(
    "loop",
    one_of("auto", "uvloop", "asyncio"),
    "auto",
    "Event loop: uvloop, asyncio, or auto, which is uvloop where it is installed.",
    meta="NAME",
)
_declare(
    "boot_timeout",
    seconds,
    60.0,
    "Seconds from a worker's start within which it must be ready.",
    meta="SECONDS",
)
_declare(
    "max_surge",
    at_least_one,
    1,
    "Workers that may run beside the wanted number while others are replaced.",
    meta="N",
)
_declare(
    "drain_idle",
    seconds,
    5.0,
    "Seconds in which a draining worker still answers idle connections; 0 with --reload.",
    meta="SECONDS",
)
_declare(
    "stop_delay",
    seconds,
    0.0,
    "Seconds between TERM and the end of accepting, in which /health/ready says no.",
    meta="SECONDS",
)
_declare(
    "max_worker_age",
    seconds,
    0.0,
    "Seconds after which a worker is replaced; 0 is never.",
    meta="SECONDS",
)
_declare(
    "max_worker_age_jitter",
    seconds,
    0.0,
    "Seconds by which max_worker_age grows at random, so that workers do not age together.",
    meta="SECONDS",
)
_declare(
    "max_worker_rss",
    size,
    0,
    "Resident memory, as in 512M, above which a worker is replaced; 0 is never.",
    meta="BYTES",
)
_declare(
    "max_worker_rss_jitter",
    size,
    0,
    "Bytes by which max_worker_rss grows at random.",
    meta="BYTES",
)
_declare(
    "fast",
    validate_bool,
    True,
    "Serve simple requests on the fast path; aiohttp's own is taken for everything else.",
    flags=["--fast"],
    meta="BOOLEAN",
)
_declare(
    "request_ids",
    validate_bool,
    False,
    "Give each HTTP request an id, X-Request-ID or a new one: in its log records and its answer.",
    flags=["--request-ids", "--request_ids"],
    action="store_true",
)
_declare(
    "metrics",
    validate_bool,
    False,
    "Count requests, connections and engines for api_hour.metrics; needs prometheus-client.",
    flags=["--metrics"],
    action="store_true",
)
_declare(
    "trusted_proxies",
    networks,
    [],
    "Networks, or unix, whose X-Forwarded-For and X-Forwarded-Proto tell the client and scheme.",
    meta="NETWORKS",
)
_declare(
    "balance",
    one_of("shared", "slots"),
    "shared",
    "How workers share a tcp or udp address: one socket for all, or a slot (SO_REUSEPORT) each.",
    meta="HOW",
)
