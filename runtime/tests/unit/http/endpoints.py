"""Endpoints that do all that endpoints do, for servers that are to be compared."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from api_hour import HTML, JSON

color: contextvars.ContextVar[str] = contextvars.ContextVar("color", default="none")


async def soon() -> None:
    """Wait for a turn of the loop, as a driver of a database does."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, None)
    await done


async def json(request: web.Request) -> web.Response:
    return JSON({"message": "Hello, World!", "é": [1, 2.5, None, True]})


async def html(request: web.Request) -> web.Response:
    return HTML("<p>é</p>")


async def stock_json(request: web.Request) -> web.Response:
    return web.json_response({"path": request.path, "query": dict(request.query)})


async def created(request: web.Request) -> web.Response:
    return JSON({"id": 1}, status=201, headers={"Location": "/records/1"})


async def touched(request: web.Request) -> web.Response:
    response = JSON([1])
    response.headers["X-One"] = "1"
    response.set_cookie("a", "b", httponly=True)
    return response


async def unwritable(request: web.Request) -> web.Response:
    return JSON({"now": object()})


async def hello(request: web.Request) -> web.Response:
    info = request.match_info
    return web.Response(text=f"{info['name']} {info.route.method} {sorted(info)} {request.path_qs}")


async def numbered(request: web.Request) -> web.Response:
    return web.Response(text=f"number {request.match_info['number']} {request.method}")


async def rest(request: web.Request) -> web.Response:
    return web.Response(text=f"rest {request.match_info['rest']!r}")


async def echo(request: web.Request) -> web.Response:
    body = await request.read()
    return web.Response(
        body=body, headers={"X-Type": request.content_type, "X-Len": str(len(body))}
    )


async def lines(request: web.Request) -> web.Response:
    first = await request.content.readline()
    return web.Response(text=f"{first!r} {(await request.read())!r} {request.can_read_body}")


async def unread(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.can_read_body} {request.body_exists}")


async def form(request: web.Request) -> web.Response:
    return web.Response(text=repr(sorted((await request.post()).items())))


async def status(request: web.Request) -> web.Response:
    return web.Response(status=int(request.match_info["code"]), body=b"body")


async def empty(request: web.Request) -> web.Response:
    return web.Response()


async def raw(request: web.Request) -> web.Response:
    return web.Response(body=b"raw", headers={"Date": "never", "Server": "mine", "X-A": "é"})


async def reasoned(request: web.Request) -> web.Response:
    return web.Response(status=299, reason="Fine indeed", text="é")


async def cookies(request: web.Request) -> web.Response:
    response = web.Response(text=repr(sorted(request.cookies.items())))
    response.set_cookie("a", "1", max_age=3, samesite="Lax")
    response.del_cookie("b")
    return response


async def sized(request: web.Request) -> web.Response:
    return web.Response(headers={"Content-Length": "42"})


async def closing(request: web.Request) -> web.Response:
    response = web.Response(text="bye")
    response.force_close()
    return response


async def says_close(request: web.Request) -> web.Response:
    return web.Response(text="bye", headers={"Connection": "close"})


async def squeezed(request: web.Request) -> web.Response:
    response = web.Response(text="squeeze " * 50)
    response.enable_compression()
    return response


async def in_chunks(request: web.Request) -> web.Response:
    response = web.Response(text="chunk")
    if request.version == (1, 1):
        response.enable_chunked_encoding()
    return response


async def generated(request: web.Request) -> web.Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        await soon()
        yield b"two"

    return web.Response(body=parts())


async def streamed(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"X-Stream": "yes"})
    await response.prepare(request)
    await response.write(b"now ")
    await soon()
    await response.write(b"later")
    return response


async def straight(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = 4
    await response.prepare(request)
    await response.write(b"four")
    await response.write_eof()
    return response


async def suspended(request: web.Request) -> web.Response:
    await soon()
    return JSON({"after": "a while"})


async def yielding(request: web.Request) -> web.Response:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return web.Response(text=f"yielded {request.remote}")


async def late_body(request: web.Request) -> web.Response:
    await soon()
    return web.Response(text=await request.text())


async def missing(request: web.Request) -> web.Response:
    raise web.HTTPNotFound(text="no such thing", headers={"X-Why": "gone"})


async def late_missing(request: web.Request) -> web.Response:
    await soon()
    raise web.HTTPGone


async def moved(request: web.Request) -> web.Response:
    raise web.HTTPFound("/json?a=é")


async def unchanged(request: web.Request) -> web.Response:
    raise web.HTTPNotModified


async def accepted(request: web.Request) -> web.Response:
    error = web.HTTPAccepted(text="later")
    error.set_cookie("c", "d")
    raise error


async def returned(request: web.Request) -> web.Response:
    return web.HTTPConflict(text="returned")


async def failing(request: web.Request) -> web.Response:
    raise RuntimeError("boom")


async def late_failing(request: web.Request) -> web.Response:
    await soon()
    raise KeyError("boom")


async def timed_out(request: web.Request) -> web.Response:
    raise TimeoutError


async def half_sent(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    raise RuntimeError("too late")


async def nothing(request: web.Request) -> Any:
    return None


async def text(request: web.Request) -> Any:
    return "just text"


async def sneaky_header(request: web.Request) -> web.Response:
    return web.Response(text="x", headers={"X-A": "a\r\nX-B: b"})


async def sneaky_late(request: web.Request) -> web.Response:
    await soon()
    return JSON([], headers={"X-A": "a\0b"})


async def sneaky_name(request: web.Request) -> web.Response:
    return web.Response(text="x", headers={"X-A\nX-B": "b"})


async def sneaky_reason(request: web.Request) -> web.Response:
    return web.Response(text="x", reason="OK\0")


async def colored(request: web.Request) -> web.Response:
    before = color.get()
    color.set("red")
    return web.Response(text=before)


class View(web.View):
    async def get(self) -> web.Response:
        return web.Response(text=f"view {self.request.path}")

    async def post(self) -> web.Response:
        await soon()
        return web.Response(text=await self.request.text())


class Shouting(web.Response):
    """A response with a way of its own."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        self.headers["X-Loud"] = "YES"
        return await super().prepare(request)


class Quiet(web.Response):
    """A response with a constructor of its own only."""

    def __init__(self) -> None:
        super().__init__(text="quiet")


async def shouting(request: web.Request) -> web.Response:
    return Shouting(text="loud")


async def quiet(request: web.Request) -> web.Response:
    return Quiet()


SHARED = web.Response(text="once only")


def sharing() -> Callable[[web.Request], Any]:
    """Return a handler that gives the same response again and again."""
    shared: list[web.Response] = []

    async def handler(request: web.Request) -> web.Response:
        if not shared:
            shared.append(JSON({"once": "only"}))
        return shared[0]

    return handler


GETS = {
    "/json": json, "/html": html, "/stock": stock_json, "/created": created, "/touched": touched,
    "/unwritable": unwritable, "/hello/{name}": hello, "/numbers/{number:[0-9]+}": numbered,
    "/rest/{rest:.*}": rest, "/status/{code}": status, "/empty": empty, "/raw": raw,
    "/reasoned": reasoned, "/cookies": cookies, "/sized": sized, "/closing": closing,
    "/says-close": says_close, "/squeezed": squeezed, "/in-chunks": in_chunks,
    "/generated": generated, "/streamed": streamed, "/straight": straight,
    "/suspended": suspended, "/yielding": yielding, "/missing": missing,
    "/late-missing": late_missing, "/moved": moved, "/unchanged": unchanged,
    "/accepted": accepted, "/returned": returned, "/failing": failing,
    "/late-failing": late_failing, "/timed-out": timed_out,
    "/half-sent": half_sent, "/nothing": nothing, "/text": text, "/sneaky-header": sneaky_header,
    "/sneaky-late": sneaky_late, "/sneaky-name": sneaky_name, "/sneaky-reason": sneaky_reason,
    "/colored": colored, "/shouting": shouting, "/quiet": quiet, "/a b": empty, "/é": html,
    "/trailing/": json,
}  # fmt: skip
POSTS = {
    "/echo": echo, "/lines": lines, "/unread": unread, "/form": form, "/late-body": late_body,
}  # fmt: skip


def application(**kwargs: Any) -> web.Application:
    """Return an application that does all that applications do."""
    app = web.Application(client_max_size=2000, **kwargs)
    for path, handler in GETS.items():
        app.router.add_get(path, handler)
    for path, handler in POSTS.items():
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            app.router.add_route(method, path, handler)
    app.router.add_post("/json", created)
    app.router.add_get("/shared", sharing())
    app.router.add_view("/view", View)
    app.router.add_route("*", "/any/{thing}", unread)
    app.router.add_get("/hello/json", json)
    sub = web.Application()
    sub.router.add_get("/json", stock_json)
    sub.router.add_get("/{name}", hello)
    app.add_subapp("/sub", sub)
    app.router.add_get("/sub/hidden", json)
    return app
