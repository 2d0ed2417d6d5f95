"""Instrumentation: code that replaces aiohttp's own, and that the fast path would go around.

Tracers and error reporters replace methods of aiohttp's classes, and projects override them:
sentry-sdk puts its own ``Application._handle`` and ``UrlDispatcher.resolve`` there. Whoever adds a
middleware or a signal (OpenTelemetry, ddtrace) is called on the fast path as well.
"""

import logging
from functools import cache
from types import FunctionType
from typing import Any

from aiohttp import web, web_app, web_protocol, web_request, web_response, web_urldispatcher
from aiohttp.base_protocol import BaseProtocol
from aiohttp.web_server import Server

# What is asked of an application itself, whatever its class.
OF_APPLICATION = "_handle", "_make_handler", "_make_request"
# The classes whose methods the fast path calls less often than aiohttp, or not at all.
CLASSES: tuple[type, ...] = (
    web_app.Application,
    web_urldispatcher.UrlDispatcher,
    web_urldispatcher.Resource,
    web_urldispatcher.PlainResource,
    web_urldispatcher.DynamicResource,
    web_urldispatcher.PrefixResource,
    web_urldispatcher.PrefixedSubAppResource,
    web_urldispatcher.AbstractRoute,
    web_urldispatcher.ResourceRoute,
    web_urldispatcher.UrlMappingMatchInfo,
    BaseProtocol,
    web_protocol.RequestHandler,
    Server,
    web_request.BaseRequest,
    web_request.Request,
    web_response.StreamResponse,
    web_response.Response,
)
logger = logging.getLogger(__name__)


def instrumented(app: web.Application) -> bool:
    """Return whether aiohttp's own way must be taken; log once what was found."""
    found = _replaced(app)
    if found is not None:
        _tell(found)
    return found is not None


@cache
def _tell(found: str) -> None:
    logger.info("No fast path, because %s: aiohttp's own is used", found)


def _replaced(app: web.Application) -> str | None:
    """Name a method that is not aiohttp's own, and what is in its place."""
    for name in OF_APPLICATION:
        value = vars(app).get(name) or next(
            vars(kind)[name] for kind in type(app).__mro__ if name in vars(kind)
        )
        if not _is_of_aiohttp(value):
            return f"{type(app).__name__}.{name} is {_name(value)}"
    for kind in CLASSES:
        for name, value in vars(kind).items():
            if not _is_of_aiohttp(value):
                return f"{kind.__name__}.{name} is {_name(value)}"
    return None


def _is_of_aiohttp(value: Any) -> bool:
    function = getattr(value, "fget", None) or getattr(value, "__func__", value)
    if isinstance(function, FunctionType):
        return str(function.__globals__.get("__name__")).partition(".")[0] == "aiohttp"
    # Wrappers that are not functions, such as those of wrapt; data is not looked at.
    return isinstance(function, type) or not callable(function)


def _name(value: Any) -> str:
    """Name a function, or an object that is called like one."""
    function = getattr(value, "fget", None) or getattr(value, "__func__", value)
    module = getattr(function, "__globals__", {}).get("__name__") or type(function).__module__
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"
