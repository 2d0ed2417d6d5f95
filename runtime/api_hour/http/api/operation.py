"""What an endpoint takes and gives: the model behind its handler and its document."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from aiohttp import web

PATH, QUERY, HEADER, COOKIE, FORM, BODY = "path", "query", "header", "cookie", "form", "body"
TEXTS = QUERY, HEADER, COOKIE, FORM  # where a value comes as text under a key of its own

JSON, NOTHING, RESPONSE, EVENTS = "json", "nothing", "response", "events"


class Security(Protocol):
    """Lets a request in, or answers it with 401 or 403."""

    name: str  # in the document
    scheme: Mapping[str, Any]  # OpenAPI's Security Scheme Object

    async def check(self, request: web.Request) -> None:
        """Return if the request may go on; raise an HTTPException if not."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that is read from the request."""

    name: str  # in the function's signature
    place: str  # PATH, QUERY, HEADER, COOKIE, FORM or BODY
    type: Any  # as declared, with its constraints
    key: str = ""  # on the wire; empty for a body, and where the fields of ``type`` are the keys
    default: Any = msgspec.NODEFAULT

    @property
    def required(self) -> bool:
        """Return whether a request without it is refused."""
        return self.default is msgspec.NODEFAULT


@dataclass(frozen=True, slots=True)
class Provided:
    """An object that ``API.provide`` was given."""

    value: Any


@dataclass(frozen=True, slots=True)
class WholeRequest:
    """The request itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A function of the project, and the source of each of its arguments, by name."""

    function: Callable[..., Any]
    arguments: Mapping[str, "Source"]

    def parameters(self) -> Iterator[Parameter]:
        """Yield what the function reads from the request, and what those that it is given read."""
        for source in self.arguments.values():
            if isinstance(source, Parameter):
                yield source
            elif isinstance(source, Call):
                yield from source.parameters()

    def takes_request(self) -> bool:
        """Return whether it, or one that it is given, may read what it likes of the request."""
        return any(
            isinstance(source, WholeRequest)
            or (isinstance(source, Call) and source.takes_request())
            for source in self.arguments.values()
        )


Source = Parameter | Provided | WholeRequest | Call


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint returns."""

    kind: str  # JSON, NOTHING (204), RESPONSE (passed through) or EVENTS
    type: Any = None  # of the JSON, or of the data of each event


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """An endpoint under one method and path."""

    method: str
    path: str  # as aiohttp's router takes it
    call: Call
    answer: Answer
    status: int  # of an answer that names none
    errors: Mapping[int, str] = field(default_factory=dict)  # a sentence for each; may be empty
    tags: tuple[str, ...] = ()
    summary: str = ""
    description: str = ""
    deprecated: bool = False
    security: tuple[Security, ...] = ()  # each of them must let a request in
    body_limit: int | None = None  # bytes, instead of the application's client_max_size

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Return what is read from the request, each once."""
        found: list[Parameter] = []
        for parameter in self.call.parameters():
            if parameter not in found:
                found.append(parameter)
        return tuple(found)
