"""The public names of API-Hour. Each is imported when it is first used, so that you pay for it."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from api_hour.container import Container as Container
    from api_hour.container import Server as Server
    from api_hour.exceptions import APIHourError as APIHourError
    from api_hour.exceptions import ConfigError as ConfigError
    from api_hour.exceptions import DatabaseError as DatabaseError
    from api_hour.exceptions import DatabaseUnavailable as DatabaseUnavailable
    from api_hour.exceptions import EngineUnavailable as EngineUnavailable
    from api_hour.exceptions import InvalidArgument as InvalidArgument
    from api_hour.exceptions import PoolExhausted as PoolExhausted
    from api_hour.exceptions import QueryTimeout as QueryTimeout
    from api_hour.http.api.answers import Reply as Reply
    from api_hour.http.api.api import API as API
    from api_hour.http.api.events import Event as Event
    from api_hour.http.api.parameters import Body as Body
    from api_hour.http.api.parameters import Cookie as Cookie
    from api_hour.http.api.parameters import Form as Form
    from api_hour.http.api.parameters import Header as Header
    from api_hour.http.api.parameters import Query as Query
    from api_hour.http.api.parameters import Text as Text
    from api_hour.http.api.security import APIKey as APIKey
    from api_hour.http.api.security import Bearer as Bearer
    from api_hour.http.api.uploads import Upload as Upload
    from api_hour.http.errors import json_errors as json_errors
    from api_hour.http.json_body import read_json as read_json
    from api_hour.http.metrics_endpoint import show_metrics as show_metrics
    from api_hour.http.request import forwarded_prefix as forwarded_prefix
    from api_hour.http.responses import HTML as HTML
    from api_hour.http.responses import JSON as JSON
    from api_hour.http.server import HTTPServer as HTTPServer
    from api_hour.http.threads import from_thread as from_thread
    from api_hour.http.threads import threaded as threaded
    from api_hour.metrics import observed as observed
    from api_hour.servers.protocols import DatagramServer as DatagramServer
    from api_hour.servers.protocols import SocketServer as SocketServer
    from api_hour.servers.protocols import StreamServer as StreamServer

_HOMES = {
    "API": "http.api.api",
    "APIHourError": "exceptions",
    "APIKey": "http.api.security",
    "Bearer": "http.api.security",
    "Body": "http.api.parameters",
    "ConfigError": "exceptions",
    "Container": "container",
    "Cookie": "http.api.parameters",
    "DatabaseError": "exceptions",
    "DatabaseUnavailable": "exceptions",
    "DatagramServer": "servers.protocols",
    "EngineUnavailable": "exceptions",
    "Event": "http.api.events",
    "Form": "http.api.parameters",
    "HTML": "http.responses",
    "HTTPServer": "http.server",
    "Header": "http.api.parameters",
    "InvalidArgument": "exceptions",
    "JSON": "http.responses",
    "PoolExhausted": "exceptions",
    "Query": "http.api.parameters",
    "QueryTimeout": "exceptions",
    "Reply": "http.api.answers",
    "Server": "container",
    "SocketServer": "servers.protocols",
    "StreamServer": "servers.protocols",
    "Text": "http.api.parameters",
    "Upload": "http.api.uploads",
    "forwarded_prefix": "http.request",
    "from_thread": "http.threads",
    "json_errors": "http.errors",
    "observed": "metrics",
    "read_json": "http.json_body",
    "show_metrics": "http.metrics_endpoint",
    "threaded": "http.threads",
}
__all__ = sorted(_HOMES)
__version__ = "1.0.0"


def __getattr__(name: str) -> object:
    """Import the module that holds ``name`` and return the object."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'api_hour' has no attribute {name!r}")
    value = getattr(import_module(f"api_hour.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
