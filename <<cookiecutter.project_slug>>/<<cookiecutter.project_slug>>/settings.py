"""The sections of etc/*/main.yaml besides ``api_hour``; a mistake there stops the start."""

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]
<% if cookiecutter.database != "none" %>
Seconds = Annotated[float, msgspec.Meta(gt=0)]
<% endif %>


class HTTP(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What clients may send and see."""

    body_limit: Count = 262_144  # bytes of a request's body
    docs: bool = False  # serve the page /docs and the document /openapi.json
<% if cookiecutter.database != "none" %>
    api_key: str = ""  # what clients that write must send as X-API-Key; empty: nothing
<% endif %>


<% if cookiecutter.database != "none" %>
class PostgreSQL(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The connection pool of each worker."""

    dsn: str  # postgresql://user:password@host:5432/database
    minsize: Count = 1
    maxsize: Count = 10  # per worker; all together must stay below max_connections
    acquire_timeout: Seconds = 3.0  # how long a request waits for a free connection
    statement_timeout: Seconds = 5.0  # after which the server cancels a query
<% if cookiecutter.database == "asyncpg" %>
    statement_cache_size: Annotated[int, msgspec.Meta(ge=0)] = 100  # 0 behind PgBouncer
<% endif %>


<% endif %>
class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file, one field per section."""

<% if cookiecutter.database != "none" %>
    postgresql: PostgreSQL
<% endif %>
    http: HTTP = HTTP()
