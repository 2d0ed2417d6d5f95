"""Only a trusted proxy says for whom a request is, and no client can speak in its place."""

from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

import api_hour
from api_hour.config.settings import networks
from api_hour.http.proxy_headers import TrustedProxies
from testkit.wire import ours, request, run_on

TRUSTED = ["10.0.0.0/8", "fd00::/8", "192.0.2.7"]
PROXY, CLIENT, OTHER = "10.0.0.1", "198.51.100.1", "203.0.113.9"


def client(peer: str | None, *said: str) -> str | None:
    """Return whose request it is when ``peer`` sends these lines of X-Forwarded-For."""
    return TrustedProxies(TRUSTED).client(
        peer, CIMultiDict([("X-Forwarded-For", line) for line in said])
    )


@pytest.mark.parametrize(
    ("peer", "said", "expected"),
    [
        (CLIENT, [], CLIENT),
        (CLIENT, [OTHER], CLIENT),
        (PROXY, [], PROXY),
        (PROXY, [CLIENT], CLIENT),
        ("192.0.2.7", [CLIENT], CLIENT),
        ("192.0.2.8", [CLIENT], "192.0.2.8"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        (PROXY, [f"{OTHER}, {CLIENT}"], CLIENT),
        (PROXY, [f"{CLIENT}, 10.9.9.9"], CLIENT),
        (PROXY, [OTHER, f"{CLIENT} ,10.9.9.9"], CLIENT),
        (PROXY, ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        (PROXY, [f"{CLIENT}:4711"], CLIENT),
        (PROXY, ["[2001:db8::1]:4711"], "2001:db8::1"),
        (PROXY, ["[2001:db8::1]"], "2001:db8::1"),
        (PROXY, [f"{CLIENT}, unknown"], PROXY),
        (PROXY, [f"{CLIENT}, unknown, 10.9.9.9"], "10.9.9.9"),
        (PROXY, [""], PROXY),
        ("", [CLIENT], ""),
        (None, [CLIENT], None),
    ],
)
def test_the_client_is_the_first_from_the_right_that_is_no_proxy(
    peer: str | None, said: list[str], expected: str | None
) -> None:
    assert client(peer, *said) == expected


def test_whoever_may_open_a_unix_socket_is_trusted_by_its_name() -> None:
    headers = CIMultiDict({"X-Forwarded-For": CLIENT})
    for peer in ("", "/run/nginx.sock", None):
        assert TrustedProxies(["unix"]).client(peer, headers) == CLIENT
        assert TrustedProxies(TRUSTED).client(peer, headers) == peer
    assert TrustedProxies(["unix"]).client(OTHER, headers) == OTHER


@given(st.lists(st.text(max_size=40), max_size=5))
def test_whatever_is_said_an_untrusted_peer_is_itself(said: list[str]) -> None:
    assert client(CLIENT, *said) == CLIENT
    assert client(PROXY, *said, CLIENT) == CLIENT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], []),
        ("", []),
        ("10.0.0.0/8, unix", ["10.0.0.0/8", "unix"]),
        (["fd00::/8", "192.0.2.7"], ["fd00::/8", "192.0.2.7"]),
    ],
)
def test_networks_are_a_list_or_separated_by_commas(value: Any, expected: list[str]) -> None:
    assert networks(value) == expected


@pytest.mark.parametrize("wrong", ["proxy.example", "10.0.0.1/8", "10.0.0.0/40", 7.5, ["10.0"]])
def test_anything_else_is_refused_with_the_cure(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"must be networks or unix, as in 10\.0\.0\.0/8,unix: "):
        networks(wrong)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    ("trusted", "expected"),
    [(("127.0.0.0/8",), ["", "http"]), (("unix",), [CLIENT, "https"])],
    ids=["others", "the peer"],
)
def test_a_request_knows_its_client(
    fast: bool, trusted: tuple[str, ...], expected: list[str]
) -> None:
    async def who(request: web.Request) -> web.Response:
        return api_hour.JSON([request.remote, request.scheme, str(request.url.scheme)])

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/who", who)
        async with ours(app, fast=fast, trusted_proxies=trusted) as service:
            head = (f"X-Forwarded-For: {OTHER}, {CLIENT}", "X-Forwarded-Proto: https")
            heard, _ = await service.ask(request("/who", *head))
            remote, scheme = expected
            assert heard.endswith(f'["{remote}","{scheme}","{scheme}"]'.encode())

    run_on("uvloop", scenario())
