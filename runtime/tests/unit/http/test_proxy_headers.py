"""Only a trusted proxy says for whom a request is, and no client can speak in its place."""

import asyncio
import ipaddress
import json
import logging
import re
import socket
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

import api_hour
from api_hour.config.settings import PROXY_HEADERS, networks
from api_hour.container import ServerOptions
from api_hour.http.proxy_headers import Client, TrustedProxies
from api_hour.http.request_checks import good_host
from testkit.wire import ours, request, run_on

TRUSTED = ["10.0.0.0/8", "fd00::/8", "192.0.2.7"]
PROXY, CLIENT, OTHER = "10.0.0.1", "198.51.100.1", "203.0.113.9"


def client(peer: str | None, *said: str) -> str | None:
    """Return whose request it is when ``peer`` sends these lines of X-Forwarded-For."""
    headers = CIMultiDict([("X-Forwarded-For", line) for line in said])
    return TrustedProxies(TRUSTED, PROXY_HEADERS).client(peer, headers).address


def told(
    peer: str | None, *lines: tuple[str, str], believed: Sequence[str] = PROXY_HEADERS
) -> Client:
    """Return what is known of the client when ``peer`` sends these headers."""
    return TrustedProxies(TRUSTED, believed).client(peer, CIMultiDict(lines))


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
        ("::ffff:10.0.0.1", [CLIENT], CLIENT),
        ("::FFFF:a00:1", [CLIENT], CLIENT),
        ("fd00::1%eth0", [CLIENT], CLIENT),
        (PROXY, [f"{CLIENT}, ::ffff:10.9.9.9"], CLIENT),
        (PROXY, [f"::ffff:{CLIENT}"], CLIENT),
        (PROXY, [f"[::ffff:{CLIENT}]:4711"], CLIENT),
        (PROXY, ["2001:DB8:0:0::1"], "2001:db8::1"),
        (PROXY, ["fe80::1%eth0"], "fe80::1"),
        (PROXY, ['[fe80::1%x" 200 "GET]:80'], "fe80::1"),  # a zone is any text
        (PROXY, ['"[2001:db8::1]:4711"'], "2001:db8::1"),
        (PROXY, [CLIENT, ""], PROXY),
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
        assert TrustedProxies(["unix"], [FOR.lower()]).client(peer, headers).address == CLIENT
        assert TrustedProxies(TRUSTED, [FOR.lower()]).client(peer, headers).address == peer
    assert TrustedProxies(["unix"], [FOR.lower()]).client(OTHER, headers).address == OTHER


def test_a_network_may_be_written_as_ipv6_maps_it() -> None:
    proxies = TrustedProxies(["::ffff:10.0.0.0/104"], [FOR.lower()])
    headers = CIMultiDict({"X-Forwarded-For": CLIENT})
    assert proxies.client(PROXY, headers).address == CLIENT
    assert proxies.client("192.0.2.7", headers).address == "192.0.2.7"


FOR, PROTO, HOST = "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"
PORT, PREFIX, REAL_IP = "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Real-IP"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([(PROTO, "https")], Client(PROXY, "https")),
        ([(PROTO, "https,https")], Client(PROXY, "https")),
        ([(FOR, CLIENT), (PROTO, "HTTPS , https")], Client(CLIENT, "https")),
        ([(FOR, CLIENT), (PROTO, "https,http")], Client(CLIENT, "http")),  # the client wrote https
        ([(FOR, f"{CLIENT}, 10.2.2.2"), (PROTO, "https,http")], Client(CLIENT, "https")),
        (
            [(FOR, f"{OTHER}, {CLIENT}, 10.2.2.2"), (PROTO, "x, https, http")],
            Client(CLIENT, "https"),
        ),
        ([(FOR, f"{CLIENT}, 10.2.2.2"), (PROTO, "https")], Client(CLIENT, "https")),
        ([(PROTO, "http"), (PROTO, "https")], Client(PROXY, "https")),
        ([(PROTO, "ftp")], Client(PROXY)),
        ([(HOST, "example.org")], Client(PROXY, host="example.org")),
        ([(HOST, "example.org:8443")], Client(PROXY, host="example.org:8443")),
        ([(HOST, "evil.example, example.org")], Client(PROXY, host="example.org")),
        (
            [(FOR, f"{CLIENT}, 10.2.2.2"), (HOST, "a.example, b.example")],
            Client(CLIENT, host="a.example"),
        ),
        ([(HOST, "bad host/")], Client(PROXY)),
        ([(PORT, "8443")], Client(PROXY, port="8443")),
        ([(PORT, "84430000")], Client(PROXY)),
        ([(PREFIX, "/app")], Client(PROXY, prefix="/app")),
        ([(PREFIX, "/app/v1/")], Client(PROXY, prefix="/app/v1")),
        ([(PREFIX, "//evil.example")], Client(PROXY)),
        ([(PREFIX, "/a/../b")], Client(PROXY)),
        ([(PREFIX, "/a\\b")], Client(PROXY)),
        ([(PREFIX, "/")], Client(PROXY)),
        ([(REAL_IP, CLIENT)], Client(CLIENT)),
        ([(REAL_IP, CLIENT), (PROTO, "https")], Client(CLIENT, "https")),
        ([(REAL_IP, OTHER), (FOR, CLIENT)], Client(CLIENT)),
        ([(REAL_IP, "somebody")], Client(PROXY)),
    ],
)
def test_a_value_of_a_list_is_that_of_the_last_trusted_proxy(
    lines: list[tuple[str, str]], expected: Client
) -> None:
    assert told(PROXY, *lines) == expected
    assert told(OTHER, *lines) == Client(OTHER)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["for=198.51.100.1"], Client(CLIENT)),
        (
            ["For=198.51.100.1;Proto=HTTPS;Host=example.org;by=10.0.0.1"],
            Client(CLIENT, "https", "example.org"),
        ),
        (['for="198.51.100.1:4711" ; proto=https'], Client(CLIENT, "https")),
        (["for=198.51.100.1:4711"], Client(CLIENT)),
        (
            ['for="[2001:db8::1]:4711";host="example.org:8443"'],
            Client("2001:db8::1", host="example.org:8443"),
        ),
        (['for="[2001:db8::1]"'], Client("2001:db8::1")),
        (['for="::ffff:198.51.100.1"'], Client(CLIENT)),
        (["for=203.0.113.9;proto=https, for=198.51.100.1;proto=http"], Client(CLIENT, "http")),
        (["for=203.0.113.9", "for=198.51.100.1"], Client(CLIENT)),
        (["for=198.51.100.1;proto=https, for=10.9.9.9;proto=http"], Client(CLIENT, "https")),
        (["for=10.1.1.1;proto=https"], Client("10.1.1.1", "https")),
        (["for=unknown;proto=https"], Client(PROXY, "https")),
        (["for=198.51.100.1, for=_hidden;proto=https"], Client(PROXY, "https")),
        (
            ["for=198.51.100.1, for=_hidden;proto=https, for=10.9.9.9;proto=http"],
            Client("10.9.9.9", "https"),
        ),
        ([r'host="a\"b,c";for=198.51.100.1'], Client(CLIENT)),
        (['for="203.0.113.9, for=198.51.100.1'], Client(CLIENT)),  # a quote that stays open
        ([r'for="\, for=198.51.100.1;host="x"'], Client(CLIENT, host="x")),
        (["for=203.0.113.9;for=198.51.100.1"], Client(PROXY)),
        (["proto=https"], Client(PROXY, "https")),
        (["nonsense"], Client(PROXY)),
        ([""], Client(PROXY)),
    ],
)
def test_forwarded_is_read_by_its_elements(lines: list[str], expected: Client) -> None:
    headers = [("Forwarded", line) for line in lines]
    assert told(PROXY, *headers) == expected
    assert told(PROXY, *headers, believed=["forwarded"]) == expected
    assert told(PROXY, *headers, believed=["x-forwarded-for"]) == Client(PROXY)
    assert told(OTHER, *headers) == Client(OTHER)


def test_one_family_of_headers_is_believed() -> None:
    both = [("Forwarded", f"for={OTHER};proto=https"), (FOR, CLIENT)]
    assert told(PROXY, *both) == Client(CLIENT)
    assert told(PROXY, *both, believed=["forwarded"]) == Client(OTHER, "https")
    assert told(PROXY, both[0], (PROTO, "http")) == Client(PROXY, "http")


@pytest.mark.parametrize("header", PROXY_HEADERS)
def test_a_header_that_no_proxy_writes_is_a_clients_own(header: str) -> None:
    others = [name for name in PROXY_HEADERS if name != header]
    values = {PROTO: "https", HOST: "evil.example", PORT: "1", PREFIX: "/evil"}
    said = {name.lower(): value for name, value in values.items()}.get(header, CLIENT)
    line = (header.title(), f"for={CLIENT};host=evil.example" if header == "forwarded" else said)
    assert told(PROXY, line, believed=others) == Client(PROXY)
    assert told(PROXY, line, believed=[header]) != Client(PROXY)


@given(st.lists(st.text('for=";,\\:[]_ ' + CLIENT, max_size=40), max_size=5))
def test_whatever_a_client_says_a_proxys_element_stands(said: list[str]) -> None:
    lines = [("Forwarded", line) for line in said]
    assert told(PROXY, *lines, ("Forwarded", f"for={OTHER}")).address == OTHER
    assert told(PROXY, ("Forwarded", ",".join([*said, f'for="{OTHER}:80"']))).address == OTHER


@given(st.lists(st.text(max_size=40), max_size=5))
def test_whatever_is_said_an_untrusted_peer_is_itself(said: list[str]) -> None:
    assert client(CLIENT, *said) == CLIENT
    assert client(PROXY, *said, CLIENT) == CLIENT


SAID = st.sampled_from(
    [
        *(
            CLIENT,
            PROXY,
            OTHER,
            "unknown",
            "_x",
            "for=",
            '"',
            "\\",
            ",",
            ";",
            "=",
            " ",
            "",
            "https",
        ),
        *(
            "[2001:db8::1]:80",
            "::ffff:1.2.3.4",
            "fe80::1%eth0",
            "http,https",
            "a.example:1",
            "[::1",
        ),
        *("evil.example/x?", "user@host", "99999", "-1", "0080", "/a/../b", "//evil", "/a%0d%0a"),
        *('for="x\\"y";proto=https;host=h', "for=1.2.3.4:5;for=6.7.8.9", "proto=HTTPS", "\u0661"),
    ]
) | st.text(max_size=9)


@settings(max_examples=5 * settings().max_examples)
@given(
    st.lists(
        st.tuples(st.sampled_from(PROXY_HEADERS), st.lists(SAID, max_size=4).map("".join)),
        max_size=6,
    ),
    st.lists(st.sampled_from(PROXY_HEADERS), max_size=7),
)
def test_whatever_a_trusted_peer_says_is_an_address_or_nothing(
    lines: list[tuple[str, str]], believed: list[str]
) -> None:
    found = told(PROXY, *lines, believed=believed)
    ipaddress.ip_address(str(found.address))
    assert found.scheme in (None, "http", "https")
    assert found.host is None or good_host(found.host)
    assert found.port is None or re.fullmatch("[0-9]{1,5}", found.port)
    assert re.fullmatch(r"(/[!-.0->@-~]+)*", found.prefix)
    assert not {".", ".."} & set(found.prefix.split("/"))


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


TRUSTING = {"trusted_proxies": ("unix",)}


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
@pytest.mark.parametrize(
    ("options", "lines", "expected"),
    [
        (
            {"trusted_proxies": ("127.0.0.0/8",)},
            (f"{FOR}: {CLIENT}", f"{PROTO}: https"),
            ["", "http", "http://test/who", ""],
        ),
        (
            TRUSTING,
            (
                *(f"{FOR}: {OTHER}, {CLIENT}", f"{PROTO}: https"),
                *(f"{HOST}: evil.example", f"{PORT}: 1", f"{PREFIX}: /evil"),
            ),
            [CLIENT, "https", "https://test/who", ""],
        ),
        (
            TRUSTING | {"proxy_headers": PROXY_HEADERS},
            (f"{FOR}: {OTHER}, {CLIENT}", f"{PROTO}: https", f"{PREFIX}: /app"),
            [CLIENT, "https", "https://test/who", "/app"],
        ),
        (
            TRUSTING | {"proxy_headers": PROXY_HEADERS},
            (f"{FOR}: {CLIENT}", f"{HOST}: example.org", f"{PORT}: 8080"),
            [CLIENT, "http", "http://example.org:8080/who", ""],
        ),
        (
            TRUSTING | {"proxy_headers": PROXY_HEADERS},
            (f"{PROTO}: https", f"{HOST}: example.org", f"{PORT}: 443"),
            ["", "https", "https://example.org/who", ""],
        ),
        (
            TRUSTING,
            (f"Forwarded: for={CLIENT};host=example.org;proto=https",),
            [CLIENT, "https", "https://example.org/who", ""],
        ),
    ],
    ids=["not trusted", "default", "prefix", "port", "port of the scheme", "forwarded"],
)
def test_a_request_knows_its_client(
    fast: bool,
    options: dict[str, Any],
    lines: tuple[str, ...],
    expected: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def who(request: web.Request) -> web.Response:
        prefix = api_hour.forwarded_prefix(request)
        return web.json_response([request.remote, request.scheme, str(request.url), prefix])

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/who", who)
        async with ours(app, fast=fast, access_log=True, **options) as service:
            for _ in range(2):
                heard, _ = await service.ask(request("/who", *lines))
                assert json.loads(heard.partition(b"\r\n\r\n")[2]) == expected

    with caplog.at_level(logging.INFO, "gunicorn.access"):
        run_on("uvloop", scenario())
    assert [vars(record)["remote"] for record in caplog.records] == [expected[0] or "-"] * 2


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="the machine has no IPv6")
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_an_ipv4_client_of_an_ipv6_listener_is_named_as_on_any_other(fast: bool) -> None:
    async def who(request: web.Request) -> web.Response:
        return web.Response(text=str(request.remote))

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", who)
        server = api_hour.HTTPServer(app)
        server.options = ServerOptions(fast=fast, drain_idle=0)
        sock = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        sock.setblocking(False)
        port = sock.getsockname()[1]
        await server.start(sock)
        url = f"http://127.0.0.1:{port}/"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert await answer.text() == "127.0.0.1"
        await server.drain(asyncio.get_running_loop().time() + 30)

    run_on("uvloop", scenario())
