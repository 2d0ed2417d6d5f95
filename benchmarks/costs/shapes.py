"""The shapes of requests that might cost more than their size says, and the plain one of each.

A plain request has as many bytes: in a body that is read, in the head of a GET, or in WebSocket
messages of ordinary length.
"""

import functools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

# Why a shape costs more, and what bounds it.
REQUESTS = "each is a request: the proxy's limit of the rate"
ONE_HEADER = "a header has at most 8,190 bytes, and only an endpoint that reads it pays"
INFLATION = "the content, as far as ``client_max_size`` of the endpoint"
RATIO = "200 times its size; the loop goes on after each 64 KiB"
MEMBERS = "a member needs 20 bytes, and 1,024 in a segment are refused"
OWN_PATTERN = "the project's pattern, on 8,190 bytes of a path or ``client_max_size`` of a body"
FIELDS = "``client_max_fields``, 1,000 by default"
PARTS = "``client_max_fields``, 1,000 by default; the loop goes on after each part"
PART = "``client_max_size`` for each part after inflation"
EACH = "less than as many bytes of small requests"
FRAMES = "a message has at least 7 bytes, and the loop goes on after each segment"
MESSAGE_SIZE = "``max_msg_size``, 4 MiB by default; ``compress=False`` refuses it"

TIMES = 20  # what a shape may cost, in plain requests of its size, without a reason
HEAD = 7500  # bytes of one header or a target, which may have 8190
BODY = 10_000  # bytes of a body that is sent as it is
INFLATED = 64_000_000  # bytes that a compressed body becomes
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
LAST = b"GET /plain HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
GOODBYE = b"\x88\x82\0\0\0\0\x03\xe8"  # a close frame; all masks here are zeros
MESSAGE = 1000  # bytes of a plain WebSocket message


@dataclass(frozen=True)
class Shape:
    """What is sent on a connection, and the plain counterpart; ``last`` ends both.

    ``bound``: why it costs more, and what bounds it.
    """

    title: str
    data: bytes
    plain: bytes
    last: bytes = LAST
    bound: str = ""

    @property
    def sent(self) -> int:
        """The bytes of the shape."""
        return len(self.data.removeprefix(UPGRADE))


def head(target: str, *headers: bytes, method: str = "GET") -> bytes:
    """Return a head."""
    lines = [f"{method} {target} HTTP/1.1".encode("latin-1"), b"Host: test", *headers, b"", b""]
    return b"\r\n".join(lines)


def post(path: str, body: bytes, *headers: bytes, method: str = "POST") -> bytes:
    """Return a request with a body."""
    return head(path, *headers, b"Content-Length: %d" % len(body), method=method) + body


def frame(payload: bytes, flags: int = 0x81) -> bytes:
    """Return a frame of a WebSocket."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([flags]) + length + b"\0\0\0\0" + payload


def _in_body(title: str, data: bytes, bound: str = "") -> Shape:
    size = len(data) - data.index(b"\r\n\r\n")
    return Shape(title, data, post("/read", b"x" * size), bound=bound)


def _in_head(title: str, data: bytes, plain: str = "/plain", bound: str = "") -> Shape:
    lines = [b"X-A: " + b"x" * min(HEAD, left) for left in range(len(data), 0, -HEAD)]
    return Shape(title, data, head(plain, *lines), bound=bound)


def _in_frames(title: str, frames: bytes, messages: int, bound: str = "") -> Shape:
    size = max(1, len(frames) // messages - 6)
    return Shape(title, UPGRADE + frames, UPGRADE + frame(b"x" * size) * messages, GOODBYE, bound)


@functools.cache
def bomb(coding: str, size: int = INFLATED) -> bytes:
    """Return spaces, compressed as far as possible."""
    if coding == "br":
        return b"\x1b" * BODY  # which is refused unread, whatever it holds
    compressor = zlib.compressobj(9, wbits=31 if coding == "gzip" else 15)
    return compressor.compress(b" " * size) + compressor.flush()


def coded(coding: str) -> bytes:
    """Return the header of a compressed body."""
    return f"Content-Encoding: {coding}".encode()


def typed(media: str) -> bytes:
    """Return the header of a body's type."""
    return f"Content-Type: {media}".encode()


def multipart(parts: list[bytes]) -> bytes:
    """Return a form of parts, each with its headers, to an endpoint that reads it as a form."""
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    return post("/form", body, typed("multipart/form-data; boundary=b"))


def shapes() -> Iterator[Shape]:
    """Yield every shape."""
    yield from _heads()
    yield from _refused()
    yield from _compressed()
    yield from _bodies()
    yield from _chunks()
    yield from _frames()


def _heads() -> Iterator[Shape]:
    many = [b"X-%d: 1" % number for number in range(100)]
    small = b"GET /plain HTTP/1.1\r\nHost: test\r\n\r\n"
    yield _in_body("small requests", small * (BODY // len(small)), REQUESTS)
    yield _in_head("100 headers", head("/plain", *many))
    yield _in_head("100 headers of 7 kB", head("/plain", *(line + b"x" * HEAD for line in many)))
    yield _in_head("200 headers, refused", head("/plain", *many, *many))
    yield _in_head("a method that nobody knows", head("/plain", method="GARBAGE"))
    yield _in_head("HEAD", head("/plain", method="HEAD"))
    yield _in_head("OPTIONS", head("/plain", method="OPTIONS"))
    yield _in_head("OPTIONS *", head("*", method="OPTIONS"))
    yield _in_head("an unknown path", head("/nothing"))
    yield _in_head("a path of many segments", head("/x" * (HEAD // 2)))
    yield _in_head("a path of percent signs", head("/" + "%C3%A9" * (HEAD // 6)))
    yield _in_head("a number in the path", head("/items/" + "7" * HEAD))
    yield _in_head(
        "a number in the path, and a letter", head("/items/" + "7" * HEAD + "x"), bound=OWN_PATTERN
    )
    yield _in_head("static: dots and slashes", head("/static/" + "%2e%2e/" * (HEAD // 7)))
    yield _in_head("a query of many fields", head("/query?" + "a&" * (HEAD // 2)))
    yield _in_head("a query of percent signs", head("/query?a=" + "%C3%A9" * (HEAD // 6)))
    for title, text in (
        ("many cookies", b"a=b; " * (HEAD // 5)),
        ("a quoted cookie", b'a="' + b"\\1" * (HEAD // 2)),
        ("cookies without names", b"=;" * (HEAD // 2)),
        ("a cookie of spaces", b"a" + b" " * HEAD + b"b"),
    ):
        yield _in_head(title, head("/cookies", b"Cookie: " + text), "/cookies", ONE_HEADER)
    for title, text in (
        (
            "many addresses from a trusted proxy",
            b"X-Forwarded-For: " + b"127.0.0.1," * (HEAD // 10),
        ),
        ("many schemes from a trusted proxy", b"X-Forwarded-Proto: " + b"a," * (HEAD // 2)),
        ("Forwarded: many elements", b"Forwarded: " + b"for=127.0.0.1," * (HEAD // 14)),
        ("Forwarded: quotes", b"Forwarded: " + b'"\\' * (HEAD // 2)),
        ("Forwarded: pairs", b"Forwarded: " + b"a=b;" * (HEAD // 4)),
        ("Forwarded: an open quote", b'Forwarded: for="' + b"a" * HEAD),
    ):
        yield _in_head(title, head("/client", text), "/client", ONE_HEADER)
    for title, text in (
        ("many ranges", b"Range: bytes=" + b"0-1," * (HEAD // 4)),
        ("a range of digits", b"Range: bytes=0-" + b"1" * HEAD),
        ("many tags", b'If-None-Match: "' + b'a", "' * (HEAD // 5)),
        ("a tag without an end", b'If-None-Match: "' + b"a" * HEAD),
        ("a date", b"If-Modified-Since: " + b"Mon, 1 " * (HEAD // 7)),
    ):
        yield _in_head(title, head("/page", text), "/page")
    yield _in_head(
        "many codings", head("/compressed", b"Accept-Encoding: " + b"gzip;q=0," * (HEAD // 9))
    )
    yield _in_head("an answer that is compressed", head("/compressed", b"Accept-Encoding: gzip"))
    yield _in_head("a long Host", head("/plain").replace(b"test", b"a." * (HEAD // 2)))
    yield _in_head("an absolute target", head("http://" + "a." * (HEAD // 2) + "/"))


def _refused() -> Iterator[Shape]:
    for coding in ("gzip", "deflate", "br"):
        data = post("/nothing", bomb(coding), coded(coding))
        yield _in_body(f"{coding} to an unknown path", data)
    yield _in_body("gzip, another method", post("/read", bomb("gzip"), coded("gzip"), method="PUT"))
    yield _in_body("gzip, no JSON", post("/json", bomb("gzip"), coded("gzip")))
    yield _in_body("gzip that nobody reads", post("/plain", bomb("gzip"), coded("gzip")))
    yield _in_body("a body above the limit", post("/json", b" " * 1_200_000, typed(JSON)))


def _compressed() -> Iterator[Shape]:
    for coding in ("gzip", "deflate", "br"):
        data = bomb(coding)
        yield _in_body(
            f"{coding} of {len(data)} bytes, read", post("/read", data, coded(coding)), INFLATION
        )
        yield _in_body(f"{coding}, streamed", post("/stream", data, coded(coding)), RATIO)
    small = bomb("gzip", 200_000)
    yield _in_body(f"gzip of {len(small)} bytes, read", post("/read", small, coded("gzip")), RATIO)
    yield _in_body(
        "gzip, as JSON", post("/json", bomb("gzip"), coded("gzip"), typed(JSON)), INFLATION
    )
    yield _in_body(
        "gzip, as a form", post("/form", bomb("gzip"), coded("gzip"), typed(FORM)), INFLATION
    )
    members = zlib.compressobj(9, wbits=31).flush() * (BODY // 20)
    yield _in_body("gzip of many members", post("/read", members, coded("gzip")), MEMBERS)
    blocks = b"".join(
        [zlib.compressobj(9, wbits=-15).compress(b"")] + [b"\0\0\0\xff\xff"] * (BODY // 5)
    )
    yield _in_body("deflate of empty blocks", post("/read", blocks, coded("deflate")))


def _bodies() -> Iterator[Shape]:
    for title, body in (
        ("JSON: arrays in arrays", b"[" * BODY),
        ("JSON: many arrays", b"[" + b"[]," * (BODY // 3) + b"1]"),
        ("JSON: objects in objects", b'{"":' * 900 + b"1" + b"}" * 900),
        ("JSON: one key again and again", b"{" + b'"a":1,' * (BODY // 6) + b'"a":1}'),
        ("JSON: many keys", b"{" + b",".join(b'"%d":1' % n for n in range(BODY // 8)) + b"}"),
        ("JSON: a long number", b"1" * BODY),
        ("JSON: a long fraction", b"0." + b"1" * BODY),
        ("JSON: many numbers", b"[" + b"1e9," * (BODY // 4) + b"1]"),
        ("JSON: escapes", b'"' + b"\\u00e9" * (BODY // 6) + b'"'),
    ):
        yield _in_body(title, post("/json", body, typed(JSON)))
    for title, body in (
        (
            "JSON: a key of the type again and again",
            b"{" + b'"tags":[],' * (BODY // 10) + b'"name":"a"}',
        ),
        ("JSON: a pattern that does not match", b'{"name":"' + b"a-" * (BODY // 2) + b'"}'),
        ("JSON: unknown keys", b"{" + b'"x":1,' * (BODY // 6) + b'"name":"a"}'),
    ):
        yield _in_body(
            title, post("/record", body, typed(JSON)), OWN_PATTERN if "pattern" in title else ""
        )
    for title, body in (
        ("a form of many fields", b"a&" * (BODY // 2)),
        ("a form of 1,000 fields", b"a=bcdefg&" * 999 + b"a"),
        ("a form of 100,000 fields", b"a=b&" * 100_000),
        ("a form of percent signs", b"a=" + b"%C3%A9" * (BODY // 6)),
    ):
        yield _in_body(title, post("/form", body, typed(FORM)), FIELDS)
    field = b"Content-Disposition: form-data; name=a"
    yield _in_body("multipart: tiny parts", multipart([field + b"\r\n\r\n"] * (BODY // 50)), PARTS)
    lines = b"".join(b"\r\nX-%d: 1" % number for number in range(120))
    yield _in_body("multipart: many headers", multipart([field + lines + b"\r\n\r\n"] * 10), PARTS)
    yield _in_body(
        "multipart: files", multipart([field + b";filename=a\r\n\r\nx"] * (BODY // 60)), PARTS
    )
    names = b"".join(b";a%d*=utf-8''%%C3%%A9" % number for number in range(300))
    yield _in_body("multipart: parameters", multipart([field + names + b"\r\n\r\n"]), PARTS)
    yield _in_body(
        "multipart: quotes", multipart([field + b';b="' + b"\\a" * 3500 + b"\r\n\r\n"]), PARTS
    )
    coding = b"\r\nContent-Transfer-Encoding: "
    for name in (b"base64", b"quoted-printable"):
        text = b"QUJD" * (BODY // 4) if name == b"base64" else b"=41" * (BODY // 3)
        title = f"multipart: {name.decode()}"
        yield _in_body(title, multipart([field + coding + name + b"\r\n\r\n" + text]), PARTS)
    part = b"Content-Encoding: gzip\r\n\r\n" + bomb("gzip")
    data = multipart([part]).replace(b"/form", b"/parts").replace(b"form-data", b"mixed")
    yield _in_body("multipart: a part of gzip", data, PART)
    lone = post("/form", b"\r\n-" * (BODY // 3), typed("multipart/form-data; boundary=b"))
    yield _in_body("multipart: almost boundaries", lone)


def _chunks() -> Iterator[Shape]:
    start = head("/read", b"Transfer-Encoding: chunked", method="POST")
    end = b"0\r\n\r\n"
    yield _in_body("chunks of one byte", start + b"1\r\nx\r\n" * (BODY // 6) + end, EACH)
    yield _in_body(
        "chunks of 20 bytes", start + (b"14\r\n" + b"x" * 20 + b"\r\n") * (BODY // 26) + end
    )
    extension = b"1;" + b"a=b;" * (BODY // 40)
    yield _in_body("chunk extensions", start + (extension + b"\r\nx\r\n") * 10 + end, EACH)
    zeros = b"0" * 10 + b"1\r\nx\r\n"
    yield _in_body("sizes of chunks with zeros", start + zeros * (BODY // 16) + end, EACH)
    trailers = b"".join(b"X-%d: 1\r\n" % number for number in range(100))
    yield _in_body("trailers", start + b"0\r\n" + trailers + b"\r\n")
    zipped = head("/stream", b"Transfer-Encoding: chunked", coded("gzip"), method="POST")
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in bomb("gzip")[: BODY // 6])
    yield _in_body("gzip in chunks of one byte", zipped + pieces + end, EACH)


def _frames() -> Iterator[Shape]:
    many = BODY // 7
    yield _in_frames("WebSocket: messages of one byte", frame(b"x") * many, 10, FRAMES)
    pieces = frame(b"x", 0x01) + frame(b"x", 0x00) * many + frame(b"x", 0x80)
    yield _in_frames("WebSocket: fragments of one byte", pieces, many + 2)
    empty = frame(b"x", 0x01) + frame(b"", 0x00) * many
    yield _in_frames("WebSocket: empty fragments", empty, many + 1)
    yield _in_frames("WebSocket: pings", frame(b"", 0x89) * many, many, FRAMES)
    yield _in_frames(
        "WebSocket: tiny compressed messages", frame(b"\2\0", 0xC1) * many, many, FRAMES
    )
    compressor = zlib.compressobj(9, wbits=-15)
    squeezed = compressor.compress(b" " * 4_000_000) + compressor.flush(zlib.Z_SYNC_FLUSH)
    yield _in_frames("WebSocket: 4 MB, compressed", frame(squeezed[:-4], 0xC1), 1, MESSAGE_SIZE)
    bomb_ = bomb("deflate", 60_000_000)[2:58_000]
    yield _in_frames("WebSocket: 60 MB, compressed", frame(bomb_, 0xC1), 1, MESSAGE_SIZE)
    reason = b"\x03\xe8" + "\u00e9".encode() * 60
    yield _in_frames("WebSocket: a close with a reason", frame(reason, 0x88), 1)
