"""Signatures: what can be wrong with one is said at start, by function, place and cure."""

# mypy: disable-error-code="empty-body"
# ruff: noqa: F722 - annotations that are wrong are what is tested

import dataclasses
import functools
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Generic, NoReturn, Optional, TypeVar

import msgspec
import pytest
from aiohttp import web
from msgspec import Meta, Struct

import api_hour
from api_hour import API, Body, ConfigError, Cookie, Event, Form, Header, Query, Reply, Upload
from runtime.tests.unit.http.api.serving import ask, served

if TYPE_CHECKING:
    from ipaddress import IPv4Address

T = TypeVar("T")
Endpoint = Callable[..., Any]


class Page(Struct):
    limit: int = 20


class Tagged(Struct, tag=True):
    limit: int = 20


class Row(Struct, array_like=True):
    limit: int = 20


class Nested(Struct):
    page: Page


class Node(Struct, Generic[T]):
    value: T
    children: "list[Node[T]]" = []


class Pool:
    """What msgspec cannot read or write."""


class SmallPool(Pool):
    pass


class LargePool(Pool):
    pass


@dataclasses.dataclass
class Holder:
    pools: dict[str, list[Pool]]


def api() -> API:
    return API(web.Application(), title="Test", version="1")


WRONG: dict[str, tuple[Endpoint, str, str]] = {}  # by name: endpoint, method and path, message


def wrong(message: str, route: str = "GET /") -> Callable[[Endpoint], Endpoint]:
    """Say what the error of an endpoint has to say."""

    def add(function: Endpoint) -> Endpoint:
        name = getattr(function, "__name__", repr(function))
        assert name not in WRONG
        WRONG[name] = function, route, message
        return function

    return add


@wrong("parameter pool has no type")
async def untyped(pool) -> int:  # type: ignore[no-untyped-def]
    ...


@wrong("say what it answers with; `-> None` is an answer without a body")
async def without_answer(n: Query[int]):  # type: ignore[no-untyped-def]
    ...


@wrong("IPv4Address of its signature is not known when the daemon runs: import it outside of `if")
async def type_checking(n: "Query[IPv4Address]") -> int: ...


@wrong("its signature cannot be read: Forward reference must be an expression")
async def no_expression(n: "Query[1 +]") -> int: ...  # type: ignore[valid-type]


@wrong("its signature cannot be read" if sys.version_info < (3, 12) else "parameter n is 5: Type")
async def no_type(n: "Query[5]") -> int: ...  # type: ignore[valid-type]


@wrong("*numbers: int is not one parameter: name each")
async def var_positional(*numbers: int) -> int: ...


@wrong("**numbers: int is not one parameter: name each")
async def var_keyword(**numbers: int) -> int: ...


@wrong("parameter n must be given by name: remove the / behind it")
async def positional_only(n: Query[int], /) -> int: ...


@wrong("parameter __n begins with __: give it another name")
async def dunder(__n: Query[int]) -> int: ...


@wrong("it is a plain function, which would block every other request: write async def, or decor")
def plain(n: Query[int]) -> int: ...


@wrong("it is a plain function")
def plain_generator() -> Iterator[int]:
    yield 1


@wrong("it yields in a thread, and is not a list: return one, or async def")
@api_hour.threaded
def threaded_generator() -> list[int]:  # type: ignore[misc]
    yield 1


@wrong("it yields, so it answers with events: write -> AsyncIterator[api_hour.Event[...]]")
async def generator_of_one() -> int:  # type: ignore[misc]
    yield 1


@wrong("it answers with a stream of int: write AsyncIterator[api_hour.Event[...]]")
async def generator_of_numbers() -> AsyncIterator[int]:
    yield 1


@wrong("its events have Pool, which JSON cannot have")
async def generator_of_pools() -> AsyncIterator[Event[Pool]]:
    yield Event(Pool())


@wrong(
    "may be None, which is not an answer: raise web.HTTPNotFound() instead, and add errors=[404]"
)
async def optional_answer() -> int | None: ...


@wrong(
    "may be None, which is not an answer: raise web.HTTPNotFound() instead, and add errors=[404]"
)
async def older_optional_answer() -> Optional[Page]: ...  # noqa: UP045


@wrong("may be None, which is not an answer")
async def annotated_optional_answer() -> Annotated[int | None, Meta(description="A number.")]: ...


@wrong("a Reply needs a value: return web.Response(...) instead")
async def empty_reply() -> Reply[None]: ...


@wrong("it returns Pool, which JSON cannot have")
async def answer_of_pool() -> Pool: ...


@wrong("it returns Holder with a Pool inside, which JSON cannot have")
async def answer_around_pool() -> Holder: ...


@wrong("it returns Pool, which JSON cannot have")
async def reply_of_pool() -> Reply[Pool]: ...


@wrong("the keys of a dict must be text in JSON")
async def answer_by_pairs() -> dict[tuple[int, int], str]: ...


@wrong("it returns typing.NoReturn")
async def no_return() -> NoReturn: ...


@wrong("more than one array-like")
async def two_arrays() -> list[int] | set[int]: ...


@wrong("parameter pool is a Pool, which is neither in the path nor provided: say where it comes fr")
async def unprovided(pool: Pool) -> int: ...


@wrong("parameter n is a int, which is neither in the path nor provided")
async def default_only(n: int = 3) -> int: ...


@wrong("which is neither in the path nor provided")
async def unhashable(n: Annotated[int, {}]) -> int: ...


@wrong("parameter page: Body[...], Query[...], Header[...], Cookie[...] or Form[...] goes around")
async def marker_inside(page: Body[Page] | None = None) -> int: ...


@wrong("goes around the whole type, as in Query[int | None]")
async def list_of_markers(n: list[Query[int]]) -> int: ...


@wrong("parameter n can come from one place only")
async def two_places(n: Query[Header[int]]) -> int: ...


@wrong("parameter id is in the path: give it another name", "GET /{id}")
async def path_and_query(id: Query[int]) -> int: ...


@wrong("parameter id is in the path, so it has no default", "GET /{id}")
async def path_default(id: int = 1) -> int: ...


@wrong("parameter id of the path: no text can be of that type", "GET /{id}")
async def path_list(id: list[int]) -> int: ...


@wrong("parameter id of the path: no text can be a Page", "GET /{id}")
async def path_struct(id: Page) -> int: ...


@wrong("parameter id is Upload, which the path cannot have", "GET /{id}")
async def path_upload(id: Upload) -> int: ...


@wrong("no parameter takes {key} of the path /{id}/{key}", "GET /{id}/{key}")
async def path_forgotten(id: int) -> int: ...


@wrong("parameter page is a body, which a request of the method GET has not")
async def body_of_get(page: Body[Page]) -> int: ...


@wrong("parameter photo is a form, which a request of the method GET has not")
async def upload_of_get(photo: Upload) -> int: ...


@wrong("parameters a and b would each be the body: take one of them", "POST /")
async def two_bodies(a: Body[Page], b: Body[int]) -> int: ...


@wrong("parameters a and b would each be the body: take one of them", "POST /")
async def body_and_form(a: Body[Page], b: Form[Page]) -> int: ...


@wrong("parameter photo is Upload, which the request cannot have", "POST /")
async def upload_in_body(photo: Body[Upload]) -> int: ...


@wrong("parameter photo is Upload, which the request cannot have", "POST /")
async def upload_in_query(photo: Query[Upload]) -> int: ...


@wrong("parameter pool is Pool, which the request cannot have", "POST /")
async def body_of_pool(pool: Body[Pool]) -> int: ...


@wrong("parameter n is complex, which the request cannot have")
async def query_of_complex(n: Query[complex]) -> int: ...


@wrong("parameter page: its field page: no text can be a Page: take it in the body")
async def query_nested(page: Query[Nested]) -> int: ...


@wrong("parameter page: no text can be a Page: take it in the body")
async def query_optional_struct(page: Query[Page | None] = None) -> int: ...


@wrong("parameter n: its only value is null, which text cannot be")
async def query_of_null(n: Query[None]) -> int: ...


@wrong("parameter n: a key that may be repeated cannot be another type, too")
async def list_or_number(n: Query[list[int] | int]) -> int: ...


@wrong("parameter n: no text can be of that type")
async def list_of_lists(n: Query[list[list[int]]]) -> int: ...


@wrong("parameter n: no text can be of that type")
async def mapping_of_lists(n: Query[dict[str, list[int]]]) -> int: ...


@wrong("parameter n: its keys are text: write dict[str, ...]")
async def mapping_by_number(n: Query[dict[int, str]]) -> int: ...


@wrong("parameter page: a tag chooses between the types of a body: remove it")
async def query_tagged(page: Query[Tagged]) -> int: ...


@wrong("parameter page: its fields have no names on the wire: remove array_like")
async def query_array(page: Query[Row]) -> int: ...


@wrong("parameter page takes several keys: give the defaults to its fields")
async def struct_default(page: Query[Page] = Page()) -> int: ...  # noqa: B008


@wrong("parameter n: a header is asked for by name: take a Struct, or the request")
async def header_mapping(n: Header[dict[str, str]]) -> int: ...


@wrong("parameter n: a cookie is a single value, and cannot be a list")
async def cookie_list(n: Cookie[list[str]]) -> int: ...


@wrong("two parameters take all other keys of the query")
async def two_mappings(a: Query[dict[str, str]], b: Query[dict[str, int]]) -> int: ...


@wrong("parameters page and limit, which differ, both take the key limit of the query")
async def same_key(page: Query[Page], limit: Query[int]) -> int: ...


@wrong("parameters from_ and from__, which differ, both take the key from of the query")
async def same_stripped_key(from_: Query[int], from__: Query[int]) -> int: ...


@wrong("parameters x_id and X_Id, which differ, both take the key x-id of the header")
async def same_header(x_id: Header[int], X_Id: Header[int]) -> int: ...


def renaming(function: Endpoint) -> Endpoint:
    @functools.wraps(function)
    async def wrapper(req: web.Request) -> Any: ...

    return wrapper


@wrong("its decorator must pass every argument on by its name (**kwargs): missing a required")
@renaming
async def renamed(request: web.Request) -> int: ...


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_signature_is_a_config_error_with_function_place_and_cure(name: str) -> None:
    function, route, message = WRONG[name]
    method, path = route.split()
    with pytest.raises(ConfigError) as error:
        api().add(method, path, function)
    assert str(error.value).startswith(f"endpoint {name} ({os.path.relpath(__file__)}:")
    assert message in str(error.value)


def test_a_decorated_endpoint_is_named_by_its_own_line() -> None:
    with pytest.raises(ConfigError) as error:
        api().get("/", renamed)
    line = renamed.__wrapped__.__code__.co_firstlineno  # type: ignore[attr-defined]
    assert f"endpoint renamed ({os.path.relpath(__file__)}:{line}): " in str(error.value)


@pytest.mark.parametrize("endpoint", [5, None, Pool, Pool()], ids=["5", "None", "class", "object"])
def test_what_cannot_be_called_as_an_endpoint_is_a_config_error(endpoint: Any) -> None:
    with pytest.raises(ConfigError, match=r"^endpoint .*(signature cannot be read|plain function)"):
        api().get("/", endpoint)


async def pool_by_size(size: Query[str]) -> Pool: ...


async def untyped_provider(): ...  # type: ignore[no-untyped-def]


async def provider_of_nothing() -> None: ...


async def generator_provider() -> AsyncIterator[Pool]:
    yield Pool()


def plain_provider() -> Pool: ...


async def provider_of_itself(pool: Pool) -> Pool: ...


PROVIDERS: dict[str, tuple[Any, str]] = {
    "untyped": (untyped_provider, r"untyped_provider \(.*: API.provide needs its type: write it"),
    "of nothing": (provider_of_nothing, "API.provide needs its type: write it behind ->"),
    "generator": (generator_provider, "API.provide needs an object, or a function with async def"),
    "plain": (plain_provider, r"plain_provider \(.*needs an object, or a function with async def"),
    "cycle": (provider_of_itself, "parameter pool is a Pool, which is neither in the path nor pro"),
    "class": (Pool, "API.provide needs an object or an async function, got <class"),
    "none": (None, "API.provide needs an object or an async function, got None"),
}


@pytest.mark.parametrize("kind", PROVIDERS)
def test_a_wrong_provider_is_a_config_error(kind: str) -> None:
    source, message = PROVIDERS[kind]
    with pytest.raises(ConfigError, match=message):
        api().provide(source)


def test_what_is_provided_twice_is_a_config_error() -> None:
    typed = api()
    typed.provide(Pool())
    with pytest.raises(ConfigError, match="Pool is provided already; as_= names another type"):
        typed.provide(pool_by_size)
    with pytest.raises(ConfigError, match=r"as_= must be a type, got \[\]"):
        typed.provide(Pool(), as_=[])


def test_two_subclasses_are_a_config_error_until_one_is_provided_as_their_base() -> None:
    async def endpoint(pool: Pool) -> str:
        return type(pool).__name__

    typed = api()
    small, large = SmallPool(), LargePool()
    typed.provide(small)
    typed.provide(large)
    with pytest.raises(
        ConfigError,
        match="parameter pool: SmallPool and LargePool are both a Pool: provide one of them as_=",
    ):
        typed.get("/", endpoint)
    typed.provide(large, as_=Pool)
    typed.get("/given", endpoint)
    assert ask(typed._app, "GET", "/given").json == "LargePool"


def test_a_key_of_an_endpoint_and_another_of_its_provider_are_a_config_error() -> None:
    async def endpoint(pool: Pool, size: Query[int]) -> int: ...

    typed = api()
    typed.provide(pool_by_size)
    with pytest.raises(ConfigError, match="both take the key size of the query"):
        typed.get("/", endpoint)


def test_a_path_that_does_not_have_what_a_provider_takes_of_it_is_a_config_error() -> None:
    async def load(id: int) -> Pool: ...

    async def endpoint(pool: Pool) -> int: ...

    async def otherwise(id: str, pool: Pool) -> int: ...

    typed = api()
    typed.provide(load)
    with pytest.raises(ConfigError, match=r"a provider takes id from the path, and / has no {id}"):
        typed.get("/", endpoint)
    with pytest.raises(ConfigError, match=r"{id} of the path /{id} has one type here and another"):
        typed.get("/{id}", otherwise)


class Reader:
    async def __call__(self, n: Query[int]) -> int:
        return n

    async def method(self, n: Query[int]) -> int:
        return n

    @classmethod
    async def of_class(cls, n: Query[int]) -> int:
        return n

    @staticmethod
    async def static(n: Query[int]) -> int:
        return n


async def multiplied(factor: int, n: Query[int], *, more: int) -> int:
    return factor * n + more


def passing_on(function: Callable[..., Awaitable[Any]]) -> Endpoint:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


@passing_on
async def decorated(n: "Query[int]") -> "int":
    return n


@api_hour.threaded
def in_thread(n: Query[int]) -> int:
    return n


async def keyword_only(*, n: Query[int]) -> int:
    return n


async def odd_names(
    value: Query[int] = 1,
    request: Query[int] = 2,
    body: Query[int] = 3,
    endpoint: Query[int] = 4,
    answer: Query[int] = 5,
    error: Query[int] = 6,
    self: Query[int] = 7,
    handler: Query[int] = 8,
    query_0: Query[int] = 9,
    class_: Query[int] = 10,
    _: Query[int] = 11,
    n: Query[int] = 12,
    größe: Query[int] = 13,
) -> int:
    assert [value, request, body, endpoint, answer, error] == [1, 2, 3, 4, 5, 6]
    assert [self, handler, query_0, class_, _, größe] == [7, 8, 9, 10, 11, 13]
    return n


CALLABLES: dict[str, Endpoint] = {
    "object": Reader(),
    "method": Reader().method,
    "class method": Reader.of_class,
    "static method": Reader.static,
    "partial": functools.partial(multiplied, 1, more=0),
    "decorated": decorated,
    "threaded": in_thread,
    "keyword-only": keyword_only,
    "odd names": odd_names,
}


@pytest.mark.parametrize("kind", CALLABLES)
def test_every_kind_of_callable_may_be_an_endpoint(kind: str) -> None:
    typed = api()
    typed.get("/", CALLABLES[kind])
    assert ask(typed._app, "GET", "/?n=7").json == 7


def test_a_parameter_may_have_any_name_that_the_compiled_handler_uses() -> None:
    async def endpoint(
        path: Query[int], id: int, error: int, path_id: int, content: Body[list[int]]
    ) -> list[int]:
        return [path, id, error, path_id, *content]

    typed = api()
    typed.post("/{id}/{error}/{path_id}", endpoint)
    assert ask(typed._app, "POST", "/1/2/3?path=0", json=[4]).json == [0, 1, 2, 3, 4]


def test_a_key_may_be_the_name_of_another_parameter() -> None:
    class Range(Struct):
        from_: int = 0

    async def endpoint(whole: Query[Range], from_: Query[int]) -> list[int]:
        return [whole.from_, from_]

    typed = api()
    typed.get("/", endpoint)
    assert ask(typed._app, "GET", "/?from_=1&from=2").json == [1, 2]


def test_recursive_and_generic_types_are_read_and_written() -> None:
    async def endpoint(node: Body[Node[Decimal]]) -> Node[Decimal]:
        return node

    typed = api()
    typed.post("/", endpoint)
    tree = {"value": "1", "children": [{"value": "2.50", "children": []}]}
    with served(typed._app) as ask:
        assert ask("POST", "/", json=tree).json == tree
        refused = ask("POST", "/", json={"value": 1, "children": [{"value": "x"}]})
    assert refused.faults == [("body", "children[0].value", "must be a decimal number")]


def test_a_function_with_some_arguments_given_may_be_a_provider() -> None:
    async def sized(kind: type[Pool], size: Query[int]) -> Pool:
        return kind() if size else LargePool()

    async def endpoint(pool: Pool) -> str:
        return type(pool).__name__

    typed = api()
    typed.provide(functools.partial(sized, SmallPool))
    typed.get("/", endpoint)
    assert ask(typed._app, "GET", "/?size=1").json == "SmallPool"


def test_an_annotated_type_is_provided_by_its_plain_one() -> None:
    async def endpoint(pool: Annotated[Pool, "for reading"]) -> str:
        return type(pool).__name__

    typed = api()
    typed.provide(SmallPool())
    typed.get("/", endpoint)
    assert ask(typed._app, "GET", "/").json == "SmallPool"


def test_one_of_two_objects_of_a_type_is_told_by_its_annotation() -> None:
    replica = Annotated[Pool, "replica"]

    async def endpoint(pool: Pool, other: Annotated[Pool, "replica"]) -> list[str]:
        return [type(pool).__name__, type(other).__name__]

    typed = api()
    typed.provide(SmallPool(), as_=Pool)
    typed.provide(LargePool(), as_=replica)
    typed.get("/", endpoint)
    assert ask(typed._app, "GET", "/").json == ["SmallPool", "LargePool"]


def test_a_default_that_can_be_changed_is_new_for_each_request() -> None:
    async def endpoint(
        ids: Query[list[int]] = [],  # noqa: B006 - what is tested
        more: Body[list[int]] = [],  # noqa: B006
    ) -> list[int]:
        ids.append(1)
        more.append(2)
        return ids + more

    typed = api()
    typed.post("/", endpoint)
    with served(typed._app) as ask:
        for _ in range(2):
            assert ask("POST", "/").json == [1, 2]


def test_constraints_that_contradict_a_type_are_a_config_error() -> None:
    async def endpoint(n: Query[Annotated[int, Meta(max_length=3)]]) -> int: ...

    with pytest.raises(ConfigError, match=r"endpoint .*endpoint .*parameter n is .*max_length"):
        api().get("/", endpoint)


def test_unset_is_a_default_that_no_request_can_send() -> None:
    async def endpoint(n: Query[int | msgspec.UnsetType] = msgspec.UNSET) -> bool:
        return n is msgspec.UNSET

    typed = api()
    typed.get("/", endpoint)
    with served(typed._app) as ask:
        assert ask("GET", "/").json is True
        assert ask("GET", "/?n=1").json is False
        assert ask("GET", "/?n=").status == 422
