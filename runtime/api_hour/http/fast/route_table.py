"""The route table: what aiohttp's dispatcher would find for a method and a path, known at start.

It must find the same route as the dispatcher, or none: then the dispatcher itself is asked, in
``Application._handle``. So the table holds nothing that only the request can decide: resources of
unknown classes, domains, other routers, old middlewares, paths with percent signs.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, update_wrapper
from inspect import iscoroutinefunction
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import web
from aiohttp.web_app import _cached_build_middleware
from aiohttp.web_urldispatcher import (
    AbstractResource,
    AbstractRoute,
    DynamicResource,
    PlainResource,
    PrefixedSubAppResource,
    StaticResource,
    UrlDispatcher,
    UrlMappingMatchInfo,
)

KNOWN = PlainResource, DynamicResource, StaticResource, PrefixedSubAppResource


@dataclass(frozen=True, slots=True)
class Route:
    """A handler wrapped in its middlewares, and what a match_info consists of."""

    handler: Callable[[Any], Any]
    route: AbstractRoute
    apps: list[web.Application]
    app: web.Application
    name: str  # the path as the project wrote it

    def match_info(self, variables: dict[str, str]) -> UrlMappingMatchInfo:
        """Return what the dispatcher would have created."""
        info = UrlMappingMatchInfo(variables, self.route)
        info._apps, info._current_app, info._frozen = self.apps, self.app, True
        return info


Found = tuple[Route, dict[str, str]]  # and the variables in the path
# A resource: what matches its path (None: ask the dispatcher), and its routes by method.
Pattern = tuple[Callable[[str], re.Match[str] | None] | None, dict[str, Route]]


class RouteTable:
    """The routes of an application: the plain ones by method and path, the others by prefix."""

    def __init__(self, app: web.Application) -> None:
        self.plain: dict[str, Found] = {}
        self._patterns: dict[str, list[Pattern]] = {}
        # Static files and ``*`` always suspend, so starting them in place only adds cost.
        self.always_suspending = "*", *_static_prefixes(app)
        if not all(map(_is_known, with_subapps(app))):
            return
        for route in app.router.routes():
            if type(route.resource) is PlainResource:
                self._add_plain(app, route, route.resource.canonical)
        for prefix, resources in app.router._resource_index.items():
            self._patterns[prefix] = [self._pattern(app, resource) for resource in resources]

    def find(self, method: str, path: str) -> Found | None:
        """Try the patterns in the dispatcher's order; None leaves the request to it."""
        part = "" if "%" in path else path
        while part:
            for match, routes in self._patterns.get(part, ()):
                if match is None:
                    return None
                if (matched := match(path)) and (route := routes.get(method) or routes.get("*")):
                    return route, matched.groupdict()
            part = "" if part == "/" else part.rpartition("/")[0] or "/"
        return None

    def _add_plain(self, app: web.Application, route: AbstractRoute, path: str) -> None:
        # An earlier resource may hide this route: the dispatcher itself says which one it finds.
        info = _resolve(app, route.method, path)
        if info.route is route and "%" not in path and (entry := _route(app, info)):
            self.plain[route.method + path] = entry, {}

    def _pattern(self, app: web.Application, resource: AbstractResource) -> Pattern:
        """Return a resource of the application itself; for any other, ask the dispatcher."""
        if type(resource) is PlainResource:
            # All its routes are in ``plain``, which was asked first: here it matches nothing.
            added = all(route.method + resource.canonical in self.plain for route in resource)
            return (re.compile(r"(?!)").fullmatch if added else None), {}
        if type(resource) is not DynamicResource:
            return None, {}
        entries = {route.method: _route(app, UrlMappingMatchInfo({}, route)) for route in resource}
        routes = {method: entry for method, entry in entries.items() if entry}
        return (resource._pattern.fullmatch if len(routes) == len(entries) else None), routes


def with_subapps(app: web.Application) -> Iterator[web.Application]:
    """Yield ``app`` and all applications below it."""
    yield app
    for subapp in app._subapps:
        yield from with_subapps(subapp)


def _static_prefixes(app: web.Application) -> Iterator[str]:
    for application in with_subapps(app):
        for resource in application.router.resources():
            if isinstance(resource, StaticResource):
                yield f"{resource.canonical}/"


def _is_known(app: web.Application) -> bool:
    """Return whether the method and the path alone decide which route is found."""
    resources = app.router.resources()
    return (
        type(app) is web.Application
        and type(app.router) is UrlDispatcher
        and not app._has_legacy_middlewares
        and all(type(resource) in KNOWN for resource in resources)
    )


def _resolve(app: web.Application, method: str, path: str) -> UrlMappingMatchInfo:
    """Ask the dispatcher, whose coroutine never suspends."""
    request = SimpleNamespace(method=method, rel_url=SimpleNamespace(path_safe=path))
    try:
        app.router.resolve(cast(web.Request, request)).send(None)
    except StopIteration as end:
        return cast(UrlMappingMatchInfo, end.value)
    raise RuntimeError(f"the dispatcher suspends: {app.router}")


def _route(app: web.Application, info: UrlMappingMatchInfo) -> Route | None:
    """Return the route of ``info``, or None if its handler is not a coroutine function."""
    info.add_app(app)
    handler = info.handler
    if app._run_middlewares:
        handler = _wrap_in_middlewares(handler, info.apps)
    if not iscoroutinefunction(handler):
        return None
    resource = info.route.resource
    name = "" if resource is None else resource.canonical
    return Route(handler, info.route, info._apps, info.current_app, name)


def _wrap_in_middlewares(handler: Any, apps: tuple[web.Application, ...]) -> Any:
    """Wrap a handler as aiohttp does.

    The last middleware of each application is aiohttp's own and sets the current application.
    Where there is only one, it is left out.
    """
    if len(apps) > 1:
        return _cached_build_middleware(handler, apps)
    for middleware, _ in (apps[0]._middlewares_handlers or ())[:-1]:
        handler = update_wrapper(partial(middleware, handler=handler), handler)
    return handler
