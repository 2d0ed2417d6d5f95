"""The errors that API-Hour raises on purpose. Imports nothing."""


class APIHourError(Exception):
    """The base of every error of API-Hour."""


class ConfigError(APIHourError):
    """A setting is wrong. One line says which one, where it is set, and the cure."""


class DatabaseError(APIHourError):
    """The base of what a database engine reports to a service."""


class DatabaseUnavailable(DatabaseError):
    """No connection to the database can be had, or it broke."""


class QueryTimeout(DatabaseError):
    """A statement did not end within its timeout."""


class PoolExhausted(DatabaseError):
    """No connection of the pool became free in time."""
