"""Requests for the endpoints of endpoints.py, from the simple to the hostile."""

from collections.abc import Iterator

from runtime.tests.unit.http.endpoints import GETS
from testkit.wire import chunked, request, with_body


def targets() -> Iterator[str]:
    """Return a target for every route of the application, and for none."""
    for path in GETS:
        plain = path.replace("{name}", "Ann%20B").replace("{number:[0-9]+}", "42")
        yield plain.replace("{rest:.*}", "a/b%2Fc").replace("{code}", "201").replace(" ", "%20")
    yield from (
        "/", "/nothing-there", "/json/", "/json?a=1&b=%26", "/json#part", "//json", "/./json",
        "/JSON", "/j%73on", "/%6Ason?x", "/hello/", "/hello/a/b", "/hello/json", "/hello/é",
        "/hello/%C3%A9", "/hello/a+b", "/hello/a%2Bb", "/hello/%", "/hello/%zz", "/hello/a:b",
        "/numbers/7x", "/numbers/", "/rest/", "/rest/%2e%2e/x", "/status/204", "/status/304",
        "/status/200", "/status/404", "/status/500", "/any/thing", "/view", "/sub/json",
        "/sub/Ann", "/sub/hidden", "/sub/none/here", "/sub", "/trailing", "/echo", "/json;v=1",
        "http://test/json", "http://other:81/hello/x?y=1", "https://test/stock", "http://test",
        "/hello/\udcff", "/a b", "json", "*", "/hello/" + "x" * 300, "/?", "/json?", "/json?é=ü",
    )  # fmt: skip


GET_CASES = {f"GET {target}": request(target) for target in targets()}
METHOD_CASES = {
    f"{method} {target}": request(target, method=method)
    for target in ("/json", "/hello/x", "/empty", "/sized", "/any/x", "/missing", "/status/304",
                   "/streamed", "/in-chunks", "/squeezed", "/nothing-there", "/echo", "/view")
    for method in ("HEAD", "POST", "DELETE", "OPTIONS", "PUT", "TRACE", "PROPFIND", "get")
}  # fmt: skip
VERSION_CASES = {
    f"HTTP/{version} {target} {headers}": request(target, *headers, version=version)
    for version in ("1.0", "1.1", "0.9", "2.0", "1.2")
    for target in ("/json", "/stock", "/streamed", "/in-chunks", "/suspended", "/closing")
    for headers in ((), ("Connection: keep-alive",), ("Connection: close",),
                    ("Connection: Keep-Alive, Upgrade",))
}  # fmt: skip
BODY_CASES = {
    "empty body": with_body("/echo", b""),
    "small body": with_body("/echo", b"small", "Content-Type: text/plain; charset=latin-1"),
    "body at the limit": with_body("/echo", b"x" * 2000),
    "body above the limit": with_body("/echo", b"x" * 2001),
    "far above the limit": with_body("/echo", b"x" * 100_000),
    "body read by lines": with_body("/lines", b"first\nsecond\nthird"),
    "body left unread": with_body("/unread", b"unread"),
    "body for a page": with_body("/html", b"body", method="GET"),
    "body read late": with_body("/late-body", "späte".encode(), "Content-Type: text/plain"),
    "bad text": with_body("/late-body", b"\xff\xfe", "Content-Type: text/plain"),
    "form": with_body("/form", b"a=1&b=%26&a=2", "Content-Type: application/x-www-form-urlencoded"),
    "PUT": with_body("/echo", b"put", method="PUT"),
    "PATCH": with_body("/echo", b"patch", method="PATCH"),
    "DELETE": with_body("/echo", b"delete", method="DELETE"),
    "POST to a page": with_body("/json", b"{}"),
    "POST to nothing": with_body("/nothing-there", b"{}"),
    "chunks": chunked("/echo", [b"one", b"two" * 50, b"3"]),
    "no chunks": chunked("/echo", []),
    "chunks above the limit": chunked("/echo", [b"x" * 1000] * 3),
    "chunks with trailers": chunked("/echo", [b"one"])[:-2] + b"X-Trailer: 1\r\n\r\n",
    "bad chunk": request("/echo", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n",
    "view with a body": with_body("/view", b"viewed"),
    "expected body": with_body("/echo", b"expected", "Expect: 100-continue"),
    "expected page": request("/json", "Expect: 100-continue"),
    "unknown expectation": request("/json", "Expect: wonders"),
    "length twice": request("/echo", *["Content-Length: 1"] * 2, method="POST") + b"x",
    "length and chunks": chunked("/echo", [b"one"], "Content-Length: 3"),
    "negative length": request("/echo", "Content-Length: -1", method="POST"),
    "body too short": request("/echo", "Content-Length: 9", method="POST") + b"short",
}  # fmt: skip
HEADER_CASES = {
    "no host": b"GET /json HTTP/1.1\r\n\r\n",
    "no host in 1.0": b"GET /json HTTP/1.0\r\n\r\n",
    "two hosts": request("/json", "Host: other"),
    "cookies": request("/cookies", "Cookie: a=1; b=\"2\"; c"),
    "latin header": b"GET /json HTTP/1.1\r\nHost: test\r\nX-A: \xff\xfe\r\n\r\n",
    "folded header": b"GET /json HTTP/1.1\r\nHost: test\r\nX-A: 1\r\n 2\r\n\r\n",
    "space before colon": b"GET /json HTTP/1.1\r\nHost : test\r\n\r\n",
    "bare newlines": b"GET /json HTTP/1.1\nHost: test\n\n",
    "null": b"GET /json HTTP/1.1\r\nHost: test\r\nX-A: a\0b\r\n\r\n",
    "blank line before": b"\r\n\r\nGET /json HTTP/1.1\r\nHost: test\r\n\r\n",
    "garbage": b"\x16\x03\x01\x02\x00\x01garbage\r\n\r\n",
    "long path": request("/hello/" + "x" * 9000),
    "long header": request("/json", "X-A: " + "x" * 9000),
    "many headers": request("/json", *(f"X-{number}: 1" for number in range(200))),
    "accept gzip": request("/squeezed", "Accept-Encoding: gzip, deflate"),
    "unknown upgrade": request("/json", "Connection: Upgrade", "Upgrade: h2c"),
    "websocket to a page": request(
        "/json", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    "half a request": b"GET /json HTTP/1.1\r\nHos",
    "only a method": b"GET ",
    "nothing": b"",
}  # fmt: skip
CASES = GET_CASES | METHOD_CASES | VERSION_CASES | BODY_CASES | HEADER_CASES
# What is answered differently; test_request_checks.py and test_protocol.py say how.
OTHERWISE = {"GET *", "OPTIONS *", "GET http://test"}
STRICTER = OTHERWISE | {name for name in VERSION_CASES if name.startswith("HTTP/1.2")}
REFUSED = (
    b"400: Invalid Host header",
    b"400: Invalid Transfer-Encoding header",
    b"400: Malformed body",
    b"501: CONNECT",
    b"505: HTTP Version",
)
PROBE = request("/hello/probe")
