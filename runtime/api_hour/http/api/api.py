"""The class ``API``: typed endpoints on an ordinary aiohttp application."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

import msgspec
from aiohttp import web

from api_hour.exceptions import ConfigError
from api_hour.http.api.events import Streams
from api_hour.http.api.handler import compile_handler
from api_hour.http.api.operation import (
    EVENTS,
    JSON,
    NOTHING,
    PATH,
    Call,
    Operation,
    Parameter,
    Provided,
    Security,
)
from api_hour.http.api.signature import Providers, Signature, is_async, without_partial
from api_hour.http.errors import json_errors
from api_hour.http.server import DOCUMENT

Endpoint = Callable[..., Any]
Securities = Security | Sequence[Security]
Errors = Iterable[int] | Mapping[int, str]

BODILESS = 204, 205, 304
DOCUMENT_PATH = "/openapi.json"


class Options(TypedDict, total=False):
    """What a route may say beside its path and its endpoint."""

    status: int  # of an answer that names none: 200, or 204 without a body
    errors: Errors  # statuses for the document, perhaps each with a sentence
    tags: Iterable[str]
    summary: str  # instead of the first line of the docstring
    deprecated: bool
    security: Securities  # beside that of the group
    body_limit: int  # bytes, instead of the application's client_max_size


class Group:
    """Routes with a common prefix, tags, security and errors."""

    def __init__(
        self,
        app: web.Application,
        streams: Streams,
        providers: Providers,
        operations: list[Operation],
        *,
        prefix: str = "",
        tags: Iterable[str] = (),
        security: Securities = (),
        errors: Errors = (),
    ) -> None:
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise ConfigError(f"API: a prefix begins with / and does not end with it: {prefix!r}")
        self._app = app
        self._streams = streams
        self._providers = providers
        self._operations = operations
        self._prefix = prefix
        self._tags = _tags(tags)
        self._security = _securities(security)
        self._errors = _errors(errors)

    def get(self, path: str, endpoint: Endpoint, **options: Unpack[Options]) -> None:
        """Answer ``GET path``, and ``HEAD``; ``options`` are those of ``Options``."""
        self.add("GET", path, endpoint, **options)

    def post(self, path: str, endpoint: Endpoint, **options: Unpack[Options]) -> None:
        """Answer ``POST path``; ``options`` are those of ``Options``."""
        self.add("POST", path, endpoint, **options)

    def put(self, path: str, endpoint: Endpoint, **options: Unpack[Options]) -> None:
        """Answer ``PUT path``; ``options`` are those of ``Options``."""
        self.add("PUT", path, endpoint, **options)

    def patch(self, path: str, endpoint: Endpoint, **options: Unpack[Options]) -> None:
        """Answer ``PATCH path``; ``options`` are those of ``Options``."""
        self.add("PATCH", path, endpoint, **options)

    def delete(self, path: str, endpoint: Endpoint, **options: Unpack[Options]) -> None:
        """Answer ``DELETE path``; ``options`` are those of ``Options``."""
        self.add("DELETE", path, endpoint, **options)

    def add(self, method: str, path: str, endpoint: Endpoint, **options: Unpack[Options]) -> None:
        """Compile an endpoint and route a method and path to it.

        ``path`` is one for aiohttp's router, such as ``/records/{id}``. Raises ConfigError for
        whatever is wrong with the endpoint's signature, the path or an option.
        """
        unknown = options.keys() - Options.__annotations__.keys()
        if unknown:
            raise ConfigError(
                f"API: the route {method} {path} has no option {min(unknown)}; there are "
                f"{', '.join(Options.__annotations__)}"
            )
        method, path = method.upper(), f"{self._prefix}{path}"
        try:
            resource = self._app.router.add_resource(path)
        except ValueError as error:
            raise ConfigError(f"API: the path {path!r} cannot be one: {error}") from None
        except RuntimeError:
            raise ConfigError(
                f"API: {method} {path} comes too late: the server has started"
            ) from None
        if any(
            other.canonical == resource.canonical and method in (route.method for route in other)
            for other in self._app.router.resources()
        ):
            raise ConfigError(f"API: {method} {path} has an endpoint already")
        pattern = resource.get_info().get("pattern")
        operation = self._operation(
            method, path, pattern.groupindex if pattern else (), endpoint, options
        )
        handler = compile_handler(operation, self._streams)
        try:
            resource.add_route(method, handler)
            if method == "GET":
                resource.add_route("HEAD", handler)
        except (RuntimeError, ValueError) as error:
            raise ConfigError(f"API: {method} {path}: {error}") from None
        self._operations.append(operation)

    def _operation(
        self, method: str, path: str, keys: Iterable[str], endpoint: Endpoint, options: Options
    ) -> Operation:
        keys = list(keys)
        signature = Signature(endpoint, keys)
        if not is_async(endpoint):
            raise signature.wrong(
                "it is a plain function, which would block every other request: write async def, "
                "or decorate it with @api_hour.threaded"
            )
        call, answer = signature.call(self._providers), signature.answer()
        taken = self._check_path(signature, path, keys, call)
        if not call.takes_request() and (left := [key for key in keys if key not in taken]):
            raise signature.wrong(f"no parameter takes {{{left[0]}}} of the path {path}")
        status = options.get("status", 204 if answer.kind == NOTHING else 200)
        if not isinstance(status, int) or not 200 <= status < 600:
            raise ConfigError(
                f"API: {method} {path}: status must be one of 200 to 599, got {status!r}"
            )
        if status in BODILESS and answer.kind in (JSON, EVENTS):
            raise signature.wrong(f"an answer of status {status} has no body: write -> None")
        limit = options.get("body_limit")
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise ConfigError(f"API: {method} {path}: body_limit must be 1 or more, got {limit!r}")
        summary, _, description = (inspect.getdoc(endpoint) or "").partition("\n")
        return Operation(
            method,
            path,
            call,
            answer,
            status,
            errors={**self._errors, **_errors(options.get("errors", ()))},
            tags=(*self._tags, *_tags(options.get("tags", ()))),
            summary=options.get("summary", summary.strip()),
            description=description.strip(),
            deprecated=options.get("deprecated", False),
            security=(*self._security, *_securities(options.get("security", ()))),
            body_limit=limit,
        )

    @staticmethod
    def _check_path(signature: Signature, path: str, keys: list[str], call: Call) -> Iterable[str]:
        """Return what is taken of the path; raise ConfigError for what it does not have."""
        taken: dict[str, Parameter] = {}
        for parameter in call.parameters():
            if parameter.place != PATH:
                continue
            name = parameter.name
            if name not in keys:
                raise signature.wrong(
                    f"a provider takes {name} from the path, and {path} has no {{{name}}}: say "
                    "where it comes from, as in Query[...]"
                )
            if taken.setdefault(name, parameter) != parameter:
                raise signature.wrong(
                    f"{{{name}}} of the path {path} has one type here and another in a provider"
                )
        return taken


class API(Group):
    """Typed endpoints of an aiohttp application, and the document that describes them.

    ``app`` keeps everything else that it has; its errors take the form of the API's. With ``docs``
    it serves the document at ``/openapi.json``, and at ``/docs`` a page to read and try it out.
    ``servers`` are URLs for the document; by default there is the one that serves it.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        title: str,
        version: str,
        description: str = "",
        servers: Sequence[str] = (),
        tags: Iterable[str] = (),
        security: Securities = (),
        errors: Errors = (),
        docs: bool = False,
    ) -> None:
        """Raises ConfigError for what is not an application, or has an API already."""
        if not isinstance(app, web.Application):
            raise ConfigError(f"API needs an aiohttp.web.Application, got {app!r}")
        if DOCUMENT in app:
            raise ConfigError("API: the application has one already; group() parts its routes")
        super().__init__(
            app, Streams(app), Providers(), [], tags=tags, security=security, errors=errors
        )
        self.title = title
        self.version = version
        self.description = description
        self.servers = tuple(servers)
        self._document: bytes | None = None
        if json_errors not in app.middlewares:
            app.middlewares.insert(0, json_errors)
        app[DOCUMENT] = self.document
        if docs:
            self._add_docs(app)

    def _add_docs(self, app: web.Application) -> None:
        from api_hour.http.api.page import add_page, document_endpoint

        app.router.add_get(DOCUMENT_PATH, document_endpoint(self.document))
        add_page(app, self.title, DOCUMENT_PATH)

    def document(self) -> bytes:
        """Return the OpenAPI document as JSON; it is made once, of what has been added by then."""
        if self._document is None:
            from api_hour.http.api.document import build

            made = build(self.title, self.version, self.description, self.servers, self._operations)
            self._document = msgspec.json.encode(made)
        return self._document

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Return what has been added, in that order."""
        return tuple(self._operations)

    def group(
        self,
        prefix: str = "",
        *,
        tags: Iterable[str] = (),
        security: Securities = (),
        errors: Errors = (),
    ) -> Group:
        """Return a group of routes below ``prefix``, with these beside those of the API."""
        return Group(
            self._app,
            self._streams,
            self._providers,
            self._operations,
            prefix=prefix,
            tags=(*self._tags, *_tags(tags)),
            security=(*self._security, *_securities(security)),
            errors={**self._errors, **_errors(errors)},
        )

    def provide(self, source: Any, *, as_: Any = None) -> None:
        """Give an object to each parameter of its type, in endpoints that are added afterwards.

        An ``async def`` function is called once a request instead, its parameters by the same rules
        as an endpoint's, and what it returns is given. ``as_`` is the type of those parameters if
        it is another one. Raises ConfigError for a type that has something already.
        """
        if as_ is None and (source is None or inspect.isclass(source)):
            raise ConfigError(f"API.provide needs an object or an async function, got {source!r}")
        if not inspect.isroutine(without_partial(source)):
            self._providers.add(Provided(source), type(source) if as_ is None else as_)
            return
        signature = Signature(source, None)
        if not inspect.iscoroutinefunction(source):
            raise signature.wrong("API.provide needs an object, or a function with async def")
        kind = signature.returned() if as_ is None else as_
        self._providers.add(signature.call(self._providers), kind)


def _tags(tags: Iterable[str]) -> tuple[str, ...]:
    if isinstance(tags, str):
        raise ConfigError(f"API: tags must be a list, got {tags!r}")
    return tuple(tags)


def _securities(security: Securities) -> tuple[Security, ...]:
    given = tuple(security) if isinstance(security, Sequence) else (security,)
    for item in given:
        check = getattr(item, "check", None)
        if inspect.isclass(item) or not inspect.iscoroutinefunction(check):
            raise ConfigError(f"API: security must be like api_hour.APIKey(...), got {item!r}")
    return given


def _errors(errors: Errors) -> Mapping[int, str]:
    if not isinstance(errors, Iterable):
        raise ConfigError(f"API: errors must be a list of statuses, got {errors!r}")
    given = errors if isinstance(errors, Mapping) else dict.fromkeys(errors, "")
    for status in given:
        if not isinstance(status, int) or not 400 <= status < 600:
            raise ConfigError(f"API: errors are statuses of 400 to 599, got {status!r}")
    return given
