"""The DSN of a PostgreSQL, or its URL: what can be misread in it is refused, and never shown.

A character such as ``/`` that a password holds as it is, instead of as %XX, moves the borders of a
URL's parts: a piece of the password becomes a host, which the DNS is asked for, a port or a name,
and all of these are repeated in messages.
"""

import re

from api_hour.exceptions import ConfigError

INT = 2**31 - 1
MAXIMA = {  # what Linux takes; more would refuse every connection, for good
    "connect_timeout": INT,
    "keepalives": INT,
    "keepalives_idle": 32767,
    "keepalives_interval": 32767,
    "keepalives_count": 127,
    "tcp_user_timeout": INT,
}
# Characters by RFC 3986, which other programs insist on; only a query may have more.
_USER = r"(?:[\w.~!$&'()*+,;=:-]|%(?!00)[0-9A-Fa-f]{2})*@"
_HOST = r"(?:\[[^]@/?#\s]*\]|[^\[@/?#:,\s]*)(?::[0-9]*)?"
_REST = r"(?:%[0-9A-Fa-f]{2}|[^%#\x00-\x1f\x7f])*"
_NAME = r"/(?:%[0-9A-Fa-f]{2}|[^%?#@\x00-\x1f\x7f])*"
_URL = re.compile(
    rf"postgres(?:ql)?://(?P<user>{_USER})?{_HOST}(?:,{_HOST})*(?:{_NAME})?(?P<query>\?{_REST})?",
    re.ASCII,
)


def refuse_ambiguous_url(url: str) -> None:
    """Raise ConfigError, which repeats nothing of ``url``, unless every program reads it alike."""
    parts = _URL.fullmatch(url)
    if parts is None or (not parts["user"] and "@" in (parts["query"] or "")):
        raise unreadable_dsn()


def refuse_shifted_url(dsn: str) -> None:
    """Raise ConfigError if drivers take a piece of the password of a URL for a host or a name."""
    after_user = re.sub(r"^[^@/]*@", "", dsn.partition("://")[2])
    if "@" in after_user.partition("?")[0]:
        raise unreadable_dsn()


def number(name: str, text: str) -> int:
    """Return a parameter of a DSN as a whole number; a negative one is 0.

    Raises ConfigError for anything else, and for more than the parameter may be.
    """
    digits = re.fullmatch(r"\s*([+-]?[0-9]+)\s*", text)
    value = int(digits[1]) if digits and len(digits[1]) < 20 else INT + 1
    if value > MAXIMA[name]:
        wanted = f"must be a whole number from 0 to {MAXIMA[name]}"
        raise ConfigError(f"{name} of the PostgreSQL DSN {wanted}")
    return max(0, value)


def unreadable_dsn() -> ConfigError:
    """Return the error for a DSN that cannot be parsed, without repeating its password."""
    form = "postgresql://USER:PASSWORD@HOST:PORT/NAME, special characters as %XX, such as %2F for /"
    return ConfigError(f"cannot parse the PostgreSQL DSN: write it as {form}")
