"""The errors this package raises on purpose; imports nothing."""


class APIHourError(Exception):
    """Group every error of this package."""


class ConfigError(APIHourError):
    """Say in one line which setting is wrong, where it stands, and the cure."""


class DatabaseError(APIHourError):
    """Group what a database engine reports to a service."""


class DatabaseUnavailable(DatabaseError):
    """Report that no connection to the database could be had, or that it broke."""


class QueryTimeout(DatabaseError):
    """Report that a statement did not end within its timeout."""


class PoolExhausted(DatabaseError):
    """Report that no connection of the pool became free in time."""
