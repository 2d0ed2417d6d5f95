"""The route table: what aiohttp's dispatcher would find for a method and a path, known at start.

It must find the same route as the dispatcher, or none: then the dispatcher itself is asked, in
``Application._handle``. So the table holds nothing that only the request can decide: resources of
unknown classes, domains, other routers, old middlewares, paths with percent signs.

It cannot find another route, because it decides nothing by itself:

* ``plain`` holds the dispatcher's answers, given at start for each plain path and method;
* ``find`` walks the dispatcher's own index, in its order, and asks each resource's own pattern and
  routes, as they are at that moment. At the first resource that it cannot judge, it gives up.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, update_wrapper
from inspect import iscoroutinefunction
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import web
from aiohttp.hdrs import METH_ALL, METH_ANY
from aiohttp.web_app import _cached_build_middleware
from aiohttp.web_urldispatcher import (
    AbstractResource,
    AbstractRoute,
    DynamicResource,
    PlainResource,
    PrefixedSubAppResource,
    Resource,
    ResourceRoute,
    StaticResource,
    UrlDispatcher,
    UrlMappingMatchInfo,
)

from api_hour.http.errors import json_errors

KNOWN = PlainResource, DynamicResource, StaticResource, PrefixedSubAppResource


@dataclass(frozen=True, slots=True)
class Route:
    """A handler wrapped in its middlewares, and what a match_info consists of."""

    handler: Callable[[Any], Any]
    # json_errors, if it is the outermost middleware: it does nothing before its handler fails or
    # waits, so it is put around what is left then, and costs the others nothing.
    rescue: Callable[..., Any] | None
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
# A resource of the application itself: what matches its path; whether all groups take part in every
# match; its own routes by method, which may grow while it serves; what was prepared of them.
Pattern = tuple[
    Callable[[str], re.Match[str] | None],
    bool,
    dict[str, ResourceRoute],
    dict[AbstractRoute, Route | None],
]


class RouteTable:
    """The routes of an application: the plain ones by method and path, the others by prefix."""

    def __init__(self, app: web.Application) -> None:
        self.plain: dict[str, Found] = {}
        # None stands for a resource that only the dispatcher can judge.
        self._patterns: dict[str, list[Pattern | None]] = {}
        self._longest = 0  # characters of a prefix
        # Static files and ``*`` always suspend, so starting them in place only adds cost.
        self.always_suspending = "*", *_static_prefixes(app)
        if not all(map(_is_known, with_subapps(app))):
            return
        for prefix, resources in app.router._resource_index.items():
            self._patterns[prefix] = [_pattern(app, resource) for resource in resources]
            self._longest = max(self._longest, len(prefix))
        for route in app.router.routes():
            if type(route.resource) is PlainResource:
                self._add_plain(app, route, route.resource)

    def find(self, method: str, path: str) -> Found | None:
        """Try the patterns in the dispatcher's order; None leaves the request to it."""
        part = "" if "%" in path else path[: self._longest + 1]  # no more can be a prefix
        while part:
            for pattern in self._patterns.get(part, ()):
                if pattern is None:
                    return None
                match, certain, by_method, routes = pattern
                if (matched := match(path)) and (
                    own := by_method.get(method) or by_method.get(METH_ANY)
                ):
                    route, variables = routes.get(own), matched.groupdict()
                    # The dispatcher fails at a group that took no part, which is None.
                    if route is None or not (certain or None not in variables.values()):
                        return None
                    return route, variables
            part = "" if part == "/" else part.rpartition("/")[0] or "/"
        return None

    def _add_plain(self, app: web.Application, route: AbstractRoute, resource: Resource) -> None:
        """Ask the dispatcher which route it finds at a plain path, for each method of a route."""
        path = resource.canonical
        if "%" in path:  # the dispatcher decodes a request's path, and never finds this one
            return
        for method in METH_ALL if route.method == METH_ANY else (route.method,):
            info = _resolve(app, method, path)
            # Any other resource's route is found by walking, because this one may get more routes.
            if info.route.resource is resource and (entry := _route(app, info)):
                self.plain[method + path] = entry, {}


def _pattern(app: web.Application, resource: AbstractResource) -> Pattern | None:
    """Return a resource of the application itself; None for any other."""
    if type(resource) is PlainResource:
        pattern = re.compile(re.escape(resource.canonical))
    elif type(resource) is DynamicResource:
        pattern = resource._pattern
    else:
        return None
    # With no parenthesis but those of the variables, none of them is optional.
    certain = pattern.pattern.count(")") == resource.canonical.count("{")
    routes: dict[AbstractRoute, Route | None] = {
        route: _route(app, UrlMappingMatchInfo({}, route)) for route in resource
    }
    return pattern.fullmatch, certain, resource._routes, routes


def with_subapps(app: web.Application) -> Iterator[web.Application]:
    """Yield ``app`` and all applications below it."""
    yield app
    for subapp in app._subapps:
        yield from with_subapps(subapp)


def _static_prefixes(app: web.Application) -> Iterator[str]:
    for application in with_subapps(app):
        if isinstance(application.router, UrlDispatcher):  # any other has no resources
            for resource in application.router.resources():
                if isinstance(resource, StaticResource):
                    yield f"{resource.canonical}/"


def _is_known(app: web.Application) -> bool:
    """Return whether the method and the path alone decide which route is found."""
    return (
        type(app.router) is UrlDispatcher
        and not app._has_legacy_middlewares
        and all(type(resource) in KNOWN for resource in app.router.resources())
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
    handler, rescue = info.handler, None
    if app._run_middlewares:
        handler, rescue = _wrap_in_middlewares(handler, info.apps)
    if not iscoroutinefunction(handler):
        return None
    resource = info.route.resource
    name = "" if resource is None else resource.canonical
    return Route(handler, rescue, info.route, info._apps, info.current_app, name)


def _wrap_in_middlewares(handler: Any, apps: tuple[web.Application, ...]) -> tuple[Any, Any]:
    """Wrap a handler as aiohttp does, and return what is to rescue it.

    The last middleware of each application is aiohttp's own and sets the current application.
    Where there is only one, it is left out.
    """
    if len(apps) > 1:
        return _cached_build_middleware(handler, apps), None
    middlewares = [middleware for middleware, _ in (apps[0]._middlewares_handlers or ())[:-1]]
    rescue = middlewares.pop() if middlewares and middlewares[-1] is json_errors else None
    for middleware in middlewares:
        handler = update_wrapper(partial(middleware, handler=handler), handler)
    return handler, rescue
