"""Read the signature of an endpoint; everything that is wrong with it is a ConfigError."""

import functools
import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Collection
from contextlib import suppress
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from aiohttp import web

from api_hour.exceptions import ConfigError
from api_hour.http.api import texts
from api_hour.http.api.answers import Reply
from api_hour.http.api.events import Event
from api_hour.http.api.operation import (
    BODY,
    COOKIE,
    EVENTS,
    FORM,
    HEADER,
    JSON,
    NOTHING,
    PATH,
    RESPONSE,
    Answer,
    Call,
    Parameter,
    Source,
    WholeRequest,
)
from api_hour.http.api.parameters import Place
from api_hour.http.api.uploads import Upload
from api_hour.http.server import named

CONTAINERS = (
    *(*texts.MANY, *texts.OBJECTS),
    *(msgspec.inspect.DictType, msgspec.inspect.TupleType, msgspec.inspect.NamedTupleType),
)
STREAMS = AsyncIterator, AsyncIterable, AsyncGenerator
UPLOADS = Upload, list[Upload], Upload | None, list[Upload] | None
MARKERS = "Body[...], Query[...], Header[...], Cookie[...] or Form[...]"


class Providers:
    """What ``API.provide`` was given, by the type of the parameters that take it."""

    def __init__(self) -> None:
        self._sources: dict[Any, Source] = {}

    def add(self, source: Source, kind: Any) -> None:
        """Keep what is given to the parameters of one type; raises ConfigError if it has one."""
        try:
            taken = kind in self._sources
        except TypeError:
            raise ConfigError(f"API.provide: as_= must be a type, got {kind!r}") from None
        if taken:
            raise ConfigError(
                f"API.provide: {_text(kind)} is provided already; as_= names another type"
            )
        self._sources[kind] = source

    def find(self, kind: Any) -> Source | None:
        """Return what is given for a type: of exactly that type, else of its one subclass."""
        with suppress(TypeError):  # a type with unhashable metadata
            if kind in self._sources:
                return self._sources[kind]
        if get_origin(kind) is Annotated:
            return self.find(_without_metadata(kind))
        if not isinstance(kind, type) or kind is object:
            return None
        found = [
            provided
            for provided in self._sources
            if isinstance(provided, type) and kind in provided.__mro__
        ]
        if len(found) > 1:
            names = " and ".join(_text(provided) for provided in found)
            raise ConfigError(f"{names} are both a {_text(kind)}: provide one of them as_= that")
        return self._sources[found[0]] if found else None


class Signature:
    """The signature of one function of the project."""

    def __init__(self, function: Callable[..., Any], path_keys: Collection[str] | None) -> None:
        """Raises ConfigError for a function whose signature cannot be read.

        ``path_keys`` is None for a provider, whose paths are those of the endpoints that take it.
        """
        self.function = function
        self._is_provider = path_keys is None
        self._path_keys = path_keys or ()
        try:
            self._hints = typing.get_type_hints(_called(function), include_extras=True)
            self._signature = inspect.signature(function)
        except NameError as error:
            raise self.wrong(
                f"{error.name} of its signature is not known when the daemon runs: import it "
                "outside of `if TYPE_CHECKING:`"
            ) from None
        except (TypeError, ValueError, AttributeError, SyntaxError) as error:
            raise self.wrong(f"its signature cannot be read: {error}") from error

    def call(self, providers: Providers) -> Call:
        """Return the source of each argument."""
        bound = getattr(self.function, "keywords", {})  # by functools.partial
        arguments = {
            parameter.name: self._source(parameter, providers)
            for parameter in self._signature.parameters.values()
            if parameter.name not in bound
        }
        try:
            inspect.signature(self.function, follow_wrapped=False).bind(**arguments)
        except TypeError as error:
            raise self.wrong(
                f"its decorator must pass every argument on by its name (**kwargs): {error}"
            ) from None
        return Call(self.function, arguments)

    def answer(self) -> Answer:
        """Return what the function says that it returns."""
        if "return" not in self._hints:
            raise self.wrong("say what it answers with; `-> None` is an answer without a body")
        declared = self._hints["return"]
        called = inspect.unwrap(_called(self.function))
        if inspect.isgeneratorfunction(called):
            raise self.wrong("it yields in a thread, and is not a list: return one, or async def")
        if get_origin(declared) in STREAMS:
            return self._events(declared)
        if inspect.isasyncgenfunction(called):
            raise self.wrong(
                "it yields, so it answers with events: write -> AsyncIterator[api_hour.Event[...]]"
            )
        options = _options(declared)
        if options == [NoneType]:
            return Answer(NOTHING)
        if NoneType in _options(_without_metadata(declared)):
            raise self.wrong(
                f"{_text(declared)} may be None, which is not an answer: raise web.HTTPNotFound() "
                "instead, and add errors=[404] to its route"
            )
        kinds = [_reply_type(option) for option in options if not _is_response(option)]
        if not kinds:
            return Answer(RESPONSE)
        kind = kinds[0] if len(kinds) == 1 else Union[tuple(kinds)]  # noqa: UP007 - made of a list
        if kind is NoneType:
            raise self.wrong("a Reply needs a value: return web.Response(...) instead")
        self.check_type(kind, "it returns", "JSON cannot have", (object,))
        return Answer(JSON, kind)

    def returned(self) -> Any:
        """Return the type of what a provider gives."""
        declared = self._hints.get("return")
        if declared is None or declared is NoneType:
            raise self.wrong("API.provide needs its type: write it behind ->")
        return declared

    def check_type(self, kind: Any, what: str, why: str, but: tuple[type, ...] = ()) -> None:
        """Raise ConfigError for a type that msgspec cannot read and write."""
        try:
            strange = custom_types(msgspec.inspect.type_info(kind))
        except (TypeError, NameError, RecursionError) as error:
            raise self.wrong(f"{what} {_text(kind)}: {error}") from error
        for found in strange:
            if found not in but:
                inside = "" if found is kind else f" with a {_text(found)} inside, which"
                raise self.wrong(f"{what} {_text(kind)}{inside or ', which'} {why}")

    def wrong(self, message: str) -> ConfigError:
        """Return an error that names the function."""
        plain = without_partial(self.function)
        is_object = callable(plain) and not inspect.isclass(plain)
        function = inspect.unwrap(_called(plain) if is_object else plain)
        what = "provider" if self._is_provider else "endpoint"
        return ConfigError(f"{what} {named(function)}: {message}")

    def _events(self, declared: Any) -> Answer:
        item = (get_args(declared) or (Any,))[0]
        if get_origin(item) is not Event and item is not Event:
            raise self.wrong(
                f"it answers with a stream of {_text(item)}: "
                "write AsyncIterator[api_hour.Event[...]]"
            )
        data = (get_args(item) or (Any,))[0]
        self.check_type(data, "its events have", "JSON cannot have", (object,))
        return Answer(EVENTS, data)

    def _source(self, parameter: inspect.Parameter, providers: Providers) -> Source:
        name, declared = parameter.name, self._hints.get(parameter.name)
        self._check_kind(parameter)
        if declared is None and name != "request":
            raise self.wrong(f"parameter {name} has no type")
        if declared is None or _is_request(declared):
            return WholeRequest()
        kind, places = _take_place(declared)
        absent = parameter.default is parameter.empty
        default = msgspec.NODEFAULT if absent else parameter.default
        if places:
            self._check_place(name, places)
            return self._of_request(name, places[0].name, kind, default)
        if name in self._path_keys:
            return self._of_path(name, declared, default)
        if declared in UPLOADS:
            return self._of_request(name, FORM, declared, default)
        if _has_place(declared):
            raise self.wrong(
                f"parameter {name}: {MARKERS} goes around the whole type, as in Query[int | None]"
            )
        return self._provided(name, declared, providers)

    def _check_kind(self, parameter: inspect.Parameter) -> None:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise self.wrong(f"{parameter} is not one parameter: name each")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise self.wrong(
                f"parameter {parameter.name} must be given by name: remove the / behind it"
            )

    def _check_place(self, name: str, places: list[Place]) -> None:
        if len(places) > 1:
            raise self.wrong(f"parameter {name} can come from one place only")
        if name in self._path_keys:
            raise self.wrong(f"parameter {name} is in the path: give it another name")

    def _provided(self, name: str, declared: Any, providers: Providers) -> Source:
        try:
            provided = providers.find(declared)
        except ConfigError as error:
            raise self.wrong(f"parameter {name}: {error}") from None
        if provided is not None:
            return provided
        if self._is_provider and _may_be_text(declared):
            return self._of_path(name, declared, msgspec.NODEFAULT)
        raise self.wrong(
            f"parameter {name} is a {_text(declared)}, which is neither in the path nor "
            f"provided: say where it comes from by {MARKERS}, or give it to api.provide()"
        )

    def _of_path(self, name: str, declared: Any, default: Any) -> Parameter:
        if default is not msgspec.NODEFAULT:
            raise self.wrong(f"parameter {name} is in the path, so it has no default")
        self.check_type(declared, f"parameter {name} is", "the path cannot have")
        info = self._type_info(name, declared)
        try:
            texts.scalar_reader(info)
        except TypeError as error:
            raise self.wrong(f"parameter {name} of the path: {error}") from None
        return Parameter(name, PATH, declared, name)

    def _of_request(self, name: str, place: str, kind: Any, default: Any) -> Parameter:
        if name.startswith("__"):
            raise self.wrong(f"parameter {name} begins with __: give it another name")
        what = f"parameter {name} is"
        self.check_type(kind, what, "the request cannot have", (Upload,) if place == FORM else ())
        if place == BODY:
            return Parameter(name, place, kind, "", default)
        info = self._type_info(name, kind)
        try:
            whole = is_whole(info, place)
        except TypeError as error:
            raise self.wrong(f"parameter {name}: {error}") from None
        if whole and default is not msgspec.NODEFAULT:
            raise self.wrong(
                f"parameter {name} takes several keys: give the defaults to its fields"
            )
        # ``from_`` stands for ``from``, which a name cannot be.
        key = "" if whole else texts.wire_key(name.rstrip("_") or name, place)
        return Parameter(name, place, kind, key, default)

    def _type_info(self, name: str, kind: Any) -> msgspec.inspect.Type:
        try:
            return msgspec.inspect.type_info(kind)
        except (TypeError, NameError) as error:
            raise self.wrong(f"parameter {name} cannot be a {_text(kind)}: {error}") from error


def is_whole(info: msgspec.inspect.Type, place: str) -> bool:
    """Return whether a parameter takes several keys; raises TypeError if no text can be one."""
    item = texts.item_of_mapping(info)
    if item is not None:
        if place in (HEADER, COOKIE):
            raise TypeError(f"a {place} is asked for by name: take a Struct, or the request")
        texts.scalar_reader(item)
        return True
    is_object = texts.is_object(info)
    if is_object:
        has_lists = bool([field for field in texts.fields_of(info, place) if field.many])
    else:
        _, has_lists = texts.reader(info)
    if has_lists and place == COOKIE:
        raise TypeError("a cookie is a single value, and cannot be a list")
    return is_object


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether calling a function gives a coroutine or an asynchronous iterator."""
    called = _called(function)
    return inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)


def custom_types(kind: msgspec.inspect.Type) -> list[type]:
    """Return the classes in a type that msgspec does not know.

    Raises TypeError for a dict whose keys cannot be text, as JSON's are.
    """
    found: list[type] = []
    seen: set[Any] = set()
    stack: list[Any] = [kind]
    while stack:
        part = stack.pop()
        if isinstance(part, msgspec.inspect.CustomType):
            found.append(part.cls)
        if isinstance(part, msgspec.inspect.DictType) and isinstance(part.key_type, CONTAINERS):
            raise TypeError("the keys of a dict must be text in JSON")
        cls = getattr(part, "cls", None)
        if cls in seen:
            continue
        if cls is not None:  # a class, or a generic one with its arguments
            seen.add(cls)
        if isinstance(part, msgspec.Struct):
            stack += [getattr(part, name) for name in part.__struct_fields__]
        elif isinstance(part, tuple):
            stack += part
    return found


def _take_place(declared: Any) -> tuple[Any, list[Place]]:
    """Return an annotation without its markers, and the markers."""
    if get_origin(declared) is not Annotated:
        return declared, []
    kind, *metadata = get_args(declared)
    places = [item for item in metadata if isinstance(item, Place)]
    others = tuple(item for item in metadata if not isinstance(item, Place))
    return (Annotated[(kind, *others)] if others else kind), places


def _has_place(declared: Any) -> bool:
    """Return whether a marker is somewhere in a type."""
    return isinstance(declared, Place) or any(
        _has_place(part) for part in (*get_args(declared), *getattr(declared, "__metadata__", ()))
    )


def _without_metadata(declared: Any) -> Any:
    return get_args(declared)[0] if get_origin(declared) is Annotated else declared


def _options(declared: Any) -> list[Any]:
    if get_origin(declared) in (Union, UnionType):
        return list(get_args(declared))
    return [NoneType if declared is None else declared]


def _reply_type(declared: Any) -> Any:
    """Return the type of the value in a Reply, and any other type as it is."""
    if declared is Reply:
        return Any
    return get_args(declared)[0] if get_origin(declared) is Reply else declared


def _may_be_text(declared: Any) -> bool:
    """Return whether a part of a path can be of that type."""
    try:
        texts.scalar_reader(msgspec.inspect.type_info(declared))
    except (TypeError, NameError, RecursionError):
        return False
    return True


def _is_request(declared: Any) -> bool:
    return isinstance(declared, type) and issubclass(declared, web.BaseRequest)


def _is_response(declared: Any) -> bool:
    return isinstance(declared, type) and issubclass(declared, web.StreamResponse)


def without_partial(function: Any) -> Any:
    """Return the function of a functools.partial, and any other object as it is."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _called(function: Any) -> Any:
    """Return the function that a call runs: of an object, its class's ``__call__``."""
    plain = without_partial(function)
    return plain if inspect.isroutine(plain) else getattr(type(plain), "__call__", plain)  # noqa: B004


def _text(kind: Any) -> str:
    """Return a type as the project writes it."""
    return kind.__qualname__ if isinstance(kind, type) and not get_args(kind) else str(kind)
