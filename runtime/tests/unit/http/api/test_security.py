"""Keys and tokens: who is let in, what the others are told, and what groups add."""

from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from api_hour import API, APIKey, Bearer, Body, ConfigError, Query
from runtime.tests.unit.http.api.serving import Client, served

verified: list[str] = []  # tokens


async def verify(token: str) -> dict[str, str] | None:
    verified.append(token)
    return {"sub": "me"} if token.startswith("good.") else None


async def answered() -> str:
    return "answered"


async def claims(request: web.Request) -> Any:
    return request[Bearer.CLAIMS]


async def strict(n: Query[int], body: Body[int]) -> int:
    return n + body


@pytest.fixture(scope="module", params=[True, False], ids=["fast", "not fast"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    app = web.Application()
    api = API(app, title="Test", version="1")
    api.get("/key", answered, security=APIKey(["first", "second"]))
    api.get("/other", answered, security=APIKey("first", header="X-Other"))
    api.get("/cookie", answered, security=APIKey("first", cookie="key"))
    api.get("/bearer", claims, security=Bearer(verify))
    api.get("/both", claims, security=[APIKey("first"), Bearer(verify)])
    api.post("/strict", strict, security=APIKey("first"))
    api.get("/open", answered)
    with served(app, fast=request.param) as client:
        yield client


KEYS: dict[bytes, tuple[int, str]] = {
    b"X-API-Key: first": (200, ""),
    b"x-api-key: second": (200, ""),
    b"X-API-Key: third": (401, "The key sent as X-API-Key is not known"),
    b"X-API-Key: firs": (401, "The key sent as X-API-Key is not known"),
    b"X-API-Key: FIRST": (401, "The key sent as X-API-Key is not known"),
    b"X-API-Key: first, second": (401, "The key sent as X-API-Key is not known"),
    b"X-API-Key:": (401, "The key sent as X-API-Key is not known"),
    b"X-API-Key: \xc3\xa9": (401, "The key sent as X-API-Key is not known"),
    b"X-API-Key: \xff": (401, "The key sent as X-API-Key is not known"),
    b"X-API-Key: \xed\xa0\x80": (401, "The key sent as X-API-Key is not known"),
    b"X-Other: first": (401, "Send the key as X-API-Key"),
    b"Cookie: X-API-Key=first": (401, "Send the key as X-API-Key"),
}


@pytest.mark.parametrize("line", KEYS, ids=repr)
def test_a_key_in_a_header_lets_in(client: Client, line: bytes) -> None:
    status, detail = KEYS[line]
    answer = client.raw(b"GET /key HTTP/1.1\r\n" + line)
    assert answer.status == status
    if detail:
        assert answer.json["detail"] == detail
        assert answer.headers["WWW-Authenticate"] == "APIKey"
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_key_may_have_another_header_or_a_cookie(client: Client) -> None:
    assert client("GET", "/other", headers={"X-Other": "first"}).status == 200
    assert client("GET", "/other", headers={"X-API-Key": "first"}).status == 401
    assert client("GET", "/cookie", headers={"Cookie": "a=b; key=first"}).status == 200
    assert client("GET", "/cookie", headers={"Cookie": "key=other"}).status == 401
    assert client("GET", "/cookie", headers={"key": "first"}).status == 401
    assert client("GET", "/cookie?key=first").status == 401
    assert client.raw(b"GET /cookie HTTP/1.1\r\nCookie: key=\xff").status == 401


TOKENS: dict[bytes, tuple[int, str]] = {
    b"Bearer good.token-1": (200, ""),
    b"bearer   good.token-1": (200, ""),
    b"Bearer bad": (401, 'Bearer error="invalid_token"'),
    b"Bearer \xff": (401, 'Bearer error="invalid_token"'),
    b"Bearer \xc3\xa9": (401, 'Bearer error="invalid_token"'),
    b"Bearer": (401, "Bearer"),
    b"Bearer ": (401, "Bearer"),
    b"Basic good.token-1": (401, "Bearer"),
    b"good.token-1": (401, "Bearer"),
    b"": (401, "Bearer"),
}


@pytest.mark.parametrize("sent", TOKENS, ids=repr)
def test_a_token_that_is_verified_lets_in(client: Client, sent: bytes) -> None:
    verified.clear()
    status, challenge = TOKENS[sent]
    answer = client.raw(b"GET /bearer HTTP/1.1\r\nAuthorization: " + sent)
    assert answer.status == status
    if challenge:
        assert answer.headers["WWW-Authenticate"] == challenge
        assert answer.headers["Content-Type"] == "application/problem+json"
    else:
        assert answer.json == {"sub": "me"}
    assert all(token.isascii() for token in verified)


def test_each_of_several_must_let_in(client: Client) -> None:
    key, token = {"X-API-Key": "first"}, {"Authorization": "Bearer good.token-1"}
    assert client("GET", "/both", headers=key | token).json == {"sub": "me"}
    assert client("GET", "/both", headers=key).status == 401
    assert client("GET", "/both", headers=token).status == 401


def test_who_is_not_let_in_learns_nothing_of_the_endpoint(client: Client) -> None:
    answer = client("POST", "/strict?m=x", data=b"[", headers={"Content-Type": "text/plain"})
    assert (answer.status, answer.faults) == (401, [])
    assert client("POST", "/strict?m=x", headers={"X-API-Key": "first"}, json=1).status == 422


def test_groups_add_to_what_the_api_asks_for() -> None:
    app = web.Application()
    api = API(app, title="Test", version="1", security=APIKey("of-api"))
    group = api.group("/group", security=APIKey("of-group", header="X-Group"))
    api.get("/", answered)
    group.get("/", answered)
    group.get("/more", answered, security=APIKey("of-route", header="X-Route"))
    sent: dict[str, str] = {}
    with served(app) as client:
        seen = []
        for header, key in {"X-API-Key": "api", "X-Group": "group", "X-Route": "route"}.items():
            sent[header] = f"of-{key}"
            paths = "/", "/group/", "/group/more"
            seen.append([client("GET", path, headers=sent).status for path in paths])
        del sent["X-API-Key"]
        assert {client("GET", path, headers=sent).status for path in paths} == {401}
    assert seen == [[200, 401, 401], [200, 200, 401], [200, 200, 200]]


@pytest.mark.parametrize("keys", ["", [], [""], None, b"key", ["é"], [None], 5], ids=repr)
def test_a_key_that_nobody_can_send_is_a_config_error(keys: Any) -> None:
    with pytest.raises(ConfigError, match="APIKey: a key is a text of ASCII characters, and may"):
        APIKey(keys)


@pytest.mark.parametrize(
    "security",
    [APIKey, None, "key", [None], object()],
    ids=["class", "None", "text", "list", "object"],
)
def test_what_cannot_let_anybody_in_is_a_config_error(security: Any) -> None:
    api = API(web.Application(), title="Test", version="1")
    for add in (
        lambda: api.get("/", answered, security=security),
        lambda: api.group("/group", security=security),
        lambda: API(web.Application(), title="Test", version="1", security=security),
    ):
        with pytest.raises(ConfigError, match=r"API: security must be like api_hour\.APIKey"):
            add()
