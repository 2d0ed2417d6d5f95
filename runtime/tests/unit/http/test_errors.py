"""json_errors: what an endpoint raises becomes an answer in JSON, and the log gets the rest."""

import asyncio
import json

import pytest
import ujson
from aiohttp import web

import api_hour
from api_hour.http.errors import Fault, problem
from api_hour.http.responses import PROBLEM, dumps
from runtime.tests.unit.http.exchange import GET, KEPT, Handler, exchange, one, parts, told
from testkit.wire import ours


def failing(error: BaseException | None = None) -> web.Application:
    async def endpoint(request: web.Request) -> web.Response:
        if error is not None:
            raise error
        return web.Response(text="fine")

    app = web.Application(middlewares=[api_hour.json_errors])
    app.router.add_get("/", endpoint)
    return app


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records]


RAISED = [
    (web.HTTPNotFound(), 404, "Not Found"),
    (web.HTTPNotFound(text="There is no record 7"), 404, "There is no record 7"),
    (web.HTTPNotFound(reason="No Such Record"), 404, "No Such Record"),
    (web.HTTPBadRequest(text="<p>", content_type="text/html"), 400, "Bad Request"),
    (web.HTTPConflict(text=""), 409, "Conflict"),
    (web.HTTPRequestEntityTooLarge(10, 20), 413, "Maximum request body size 10 exceeded."),
    (web.HTTPTooManyRequests(headers={"Retry-After": "9"}), 429, "Too Many Requests"),
]


@pytest.mark.parametrize(("error", "status", "message"), RAISED, ids=repr)
def test_a_4xx_that_is_raised_goes_out_as_json_and_is_not_logged(
    error: web.HTTPException, status: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    sent, headers, body = parts(exchange(failing(error), GET))
    assert sent == status
    assert headers["Content-Type"] == PROBLEM
    assert body == told(status, message)
    assert headers.get("Retry-After") == error.headers.get("Retry-After")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("request_bytes", "status", "message"),
    [
        (GET.replace(b"GET /", b"GET /nowhere"), 404, "Not Found"),
        (GET.replace(b"GET", b"POST"), 405, "Method Not Allowed"),
    ],
)
def test_a_route_that_does_not_exist_is_answered_as_json(
    request_bytes: bytes, status: int, message: str
) -> None:
    sent, headers, body = parts(exchange(failing(), request_bytes))
    assert sent == status
    assert body == told(status, message)
    assert headers.get("Allow") == ("GET,HEAD" if status == 405 else None)


def test_headers_and_cookies_of_the_error_are_kept_but_those_of_its_old_body() -> None:
    headers = {"WWW-Authenticate": "Basic", "Content-Encoding": "gzip", "Content-Length": "3"}
    error = web.HTTPUnauthorized(headers=headers)
    error.set_cookie("seen", "1")
    status, sent, body = parts(exchange(failing(error), GET))
    assert (status, body["error"]["message"]) == (401, "Unauthorized")
    assert (sent["WWW-Authenticate"], sent["Set-Cookie"]) == ("Basic", "seen=1; Path=/")
    assert "Content-Encoding" not in sent
    assert int(sent["Content-Length"]) == len(dumps(body))


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 302 Found", b"Location: /there", b"Content-Type: text/plain"]
)
def test_a_redirect_is_left_alone(answer: bytes) -> None:
    assert answer in exchange(failing(web.HTTPFound("/there")), GET)


def test_an_error_that_is_returned_is_left_alone() -> None:
    async def endpoint(request: web.Request) -> web.Response:
        return web.Response(status=404, text="mine")

    answer = exchange(one(endpoint, api_hour.json_errors), GET)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"\r\n\r\nmine")


def test_an_error_that_is_json_already_is_left_alone() -> None:
    text = dumps({"code": "E7"}).decode()
    error = web.HTTPConflict(text=text, content_type="application/json")
    _, headers, body = parts(exchange(failing(error), GET))
    assert (headers["Content-Type"], body) == ("application/json; charset=utf-8", {"code": "E7"})


def test_a_problem_names_each_fault_and_its_place() -> None:
    faults = [
        Fault("query", "limit", "must be an integer, got a string"),
        Fault("body", "", "the name root is taken", own=True),
        Fault("header", "", "x-from and x-to exclude each other", own=True),
    ]
    _, _, body = parts(exchange(failing(problem(web.HTTPBadRequest(), faults=faults)), GET))
    detail = (
        "limit must be an integer, got a string; The body: the name root is taken; "
        "The headers: x-from and x-to exclude each other"
    )
    assert body == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": detail,
        "errors": [
            {"in": "query", "field": "limit", "message": "must be an integer, got a string"},
            {"in": "body", "field": "", "message": "the name root is taken"},
            {"in": "header", "field": "", "message": "x-from and x-to exclude each other"},
        ],
        "error": {"status": 400, "message": detail, "field": "limit"},
    }


def test_a_problem_without_a_sentence_has_the_reason_phrase() -> None:
    _, _, body = parts(exchange(failing(problem(web.HTTPConflict())), GET))
    assert body == told(409, "Conflict")


def test_a_problem_repeats_little_of_what_a_client_invents() -> None:
    faults = [Fault("body", "x" * 10_000, "y" * 10_000) for _ in range(5000)]
    sent = exchange(failing(problem(web.HTTPBadRequest(), faults=faults)), GET)
    _, _, body = parts(sent)
    assert len(sent) < 100_000
    assert len(body["errors"]) == 100
    assert body["detail"] == "x" * 200 + " " + "y" * 500 + "; and 4999 more"
    short = [Fault("body", f"f{number}", "is missing") for number in range(500)]
    detail = parts(exchange(failing(problem(web.HTTPBadRequest(), faults=short)), GET))[2]["detail"]
    assert detail.startswith("f0 is missing; f1 is missing; ")
    assert detail.endswith(" more")
    assert len(detail) < 1020


ENGINES = [
    (api_hour.DatabaseUnavailable("host secret is down"), 503, "The database is unavailable", "1"),
    (
        *(api_hour.EngineUnavailable("mail.secret:25"), 503),
        *("A service that is needed is unavailable", "1"),
    ),
    (api_hour.PoolExhausted("pool secret"), 503, "The database is busy", "1"),
    (api_hour.QueryTimeout("select secret"), 504, "The database took too long", None),
    (TimeoutError("secret"), 504, "The answer took too long", None),
]


@pytest.mark.parametrize(("error", "status", "message", "retry"), ENGINES, ids=repr)
def test_an_error_of_an_engine_is_answered_without_details_and_logged_once(
    error: Exception,
    status: int,
    message: str,
    retry: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent, headers, body = parts(exchange(failing(error), GET))
    assert (sent, headers.get("Retry-After")) == (status, retry)
    assert body == told(status, message)
    assert levels(caplog) == ["WARNING"]
    assert caplog.messages == [f"GET /: {type(error).__name__}: {error}"]


def test_text_with_nul_is_a_422_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    status, _, body = parts(exchange(failing(api_hour.InvalidArgument("secret")), GET))
    message = "Text must not contain the character NUL, nor another that the database cannot store"
    assert (status, body) == (422, told(422, message))
    assert caplog.records == []


async def as_json(request: web.Request) -> web.Response:
    return api_hour.JSON(await request.json())


async def as_text(request: web.Request) -> web.Response:
    return api_hour.JSON(json.loads(await request.text()))


async def with_ujson(request: web.Request) -> web.Response:
    return api_hour.JSON(await request.json(loads=ujson.loads))


async def of_another_service(request: web.Request) -> web.Response:
    await request.json()
    return api_hour.JSON(json.loads(""))


async def in_vain(request: web.Request) -> web.Response:
    def loads(text: str) -> object:
        raise KeyError(text)

    return api_hour.JSON(await request.json(loads=loads))


EMPTY = "The body is not JSON: Expecting value: line 1 column 1 (char 0)"
READ = [
    (as_json, b"", "", 400, EMPTY),
    (as_json, b"{x}", "", 400, "The body is not JSON: Expecting property name enclosed in double"),
    (as_json, b"9" * 5000, "", 400, "The body is not JSON"),
    (as_json, b"[" * 100_000, "", 400, "The body is nested too deeply"),
    (as_json, b'"\xff"', "", 400, "The body is not utf-8 (byte 1)"),
    (as_json, b'"\xff"', "; charset=ascii", 400, "The body is not ascii (byte 1)"),
    (as_json, b"1", "; charset=nosuch", 415, "The charset of the body is not known"),
    (as_text, b"\xff", "", 400, "The body is not utf-8 (byte 0)"),
    (as_text, b"1", "; charset=nosuch", 415, "The charset of the body is not known"),
    (with_ujson, b"{x}", "", 400, "The body is not JSON"),
    (of_another_service, b"1", "", 500, "Internal Server Error"),
    (in_vain, b"1", "", 500, "Internal Server Error"),
]


@pytest.mark.parametrize("server", ["fast", "slow", "aiohttp"])
@pytest.mark.parametrize(
    ("endpoint", "data", "charset", "status", "message"),
    READ,
    ids=[f"{row[0].__name__}-{row[2]}-{row[4][:30]}-{len(row[1])}" for row in READ],
)
def test_a_body_that_aiohttp_cannot_read_is_the_clients_fault(
    endpoint: Handler,
    data: bytes,
    charset: str,
    status: int,
    message: str,
    server: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    head = (
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json%b\r\n"
    )
    sent = head % charset.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(data), data)
    app = one(endpoint, api_hour.json_errors)
    answer = exchange(app, sent) if server == "aiohttp" else served(app, sent, server == "fast")
    got, _, body = parts(answer)
    assert (got, body["status"]) == (status, status)
    assert body["detail"].startswith(message)
    assert levels(caplog) == (["ERROR"] if status == 500 else [])


def served(app: web.Application, sent: bytes, fast: bool) -> bytes:
    """Return HTTPServer's answer to ``sent``."""

    async def scenario() -> bytes:
        async with ours(app, fast=fast) as service:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(sent)
            answer = await asyncio.wait_for(reader.read(), 30)
            writer.close()
        return answer

    return asyncio.run(scenario())


def test_an_asyncio_timeout_in_an_endpoint_is_a_504() -> None:
    async def endpoint(request: web.Request) -> web.Response:
        async with asyncio.timeout(0):
            await asyncio.sleep(5)
        return web.Response()

    assert parts(exchange(one(endpoint, api_hour.json_errors), GET))[0] == 504


@pytest.mark.parametrize(
    "error", [KeyError("secret"), api_hour.DatabaseError("secret"), OSError("secret")], ids=repr
)
def test_any_other_exception_is_logged_with_its_traceback_and_tells_the_client_nothing(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    answer = exchange(failing(error), GET)
    assert parts(answer)[2] == told(500, "Internal Server Error")
    assert b"secret" not in answer
    assert levels(caplog) == ["ERROR"]
    assert "GET /: the endpoint failed" in caplog.text
    assert "in endpoint" in caplog.text
    assert "secret" in caplog.text


def test_a_5xx_that_is_raised_is_logged_once_even_below_two_json_errors(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inner = failing(web.HTTPServiceUnavailable(text="closed for lunch"))
    app = web.Application(middlewares=[api_hour.json_errors])
    app.add_subapp("/inner", inner)
    status, _, body = parts(exchange(app, GET.replace(b"GET /", b"GET /inner/")))
    assert (status, body["error"]["message"]) == (503, "closed for lunch")
    assert caplog.messages == ["GET /inner/: 503 closed for lunch"]


def test_a_control_character_of_the_path_does_not_reach_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def endpoint(request: web.Request) -> web.Response:
        raise KeyError

    app = web.Application(middlewares=[api_hour.json_errors])
    app.router.add_get("/{any}", endpoint)
    exchange(app, GET.replace(b"GET /", b"GET /%1b]0;%0d%0aX?token=secret"))
    assert caplog.messages == ["GET /%1b]0;%0d%0aX: the endpoint failed"]


def test_a_cancelled_endpoint_stays_cancelled() -> None:
    assert exchange(failing(asyncio.CancelledError()), GET) == b""


def test_an_exception_after_the_answer_began_ends_the_connection() -> None:
    async def endpoint(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        raise KeyError

    answer = exchange(one(endpoint, api_hour.json_errors), GET)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.endswith(b"5\r\nbegun\r\n")


def test_a_connection_goes_on_after_an_error() -> None:
    answer = exchange(failing(KeyError()), KEPT)
    assert answer.count(b"HTTP/1.1 500 ") == 2


def test_an_error_that_is_its_own_cause_is_answered() -> None:
    error = ValueError("in a circle")
    error.__cause__ = error
    assert exchange(failing(error), GET).startswith(b"HTTP/1.1 500 ")


def status_of(app: web.Application, fast: bool) -> int:
    """Return the status of HTTPServer's answer; the next request is answered as well."""

    async def scenario() -> int:
        async with ours(app, fast=fast) as service:
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
                writer.write(GET)
                answer = await asyncio.wait_for(reader.read(), 30)
                writer.close()
        return int(answer.split()[1])

    return asyncio.run(scenario())


class Abrupt(BaseException):
    """An error that ``except Exception`` does not catch."""


def exit_in_thread() -> web.StreamResponse:
    raise SystemExit(2)


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "aiohttp"])
@pytest.mark.parametrize("suspends", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt(), Abrupt()], ids=repr)
def test_an_abrupt_error_fails_its_request_only(
    error: BaseException, suspends: bool, fast: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def endpoint(request: web.Request) -> web.Response:
        if suspends:
            await asyncio.sleep(0)
        raise error

    assert status_of(one(endpoint), fast) == 500
    assert [r.exc_info[1] for r in caplog.records if r.exc_info] == [error, error]


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt()], ids=repr)
def test_json_errors_answer_an_exit_as_any_other_fault(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def endpoint(request: web.Request) -> web.Response:
        raise error

    assert parts(exchange(failing(error), GET))[::2] == (
        500,
        told(500, "Internal Server Error"),
    )
    assert "GET /: the endpoint failed" in caplog.text


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "aiohttp"])
@pytest.mark.parametrize("suspends", [False, True], ids=["at once", "later"])
def test_an_endpoint_that_awaits_a_cancelled_task_fails_its_request_only(
    suspends: bool, fast: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def endpoint(request: web.Request) -> web.Response:
        work = asyncio.get_running_loop().create_future()
        if suspends:
            asyncio.get_running_loop().call_soon(work.cancel)
        else:
            work.cancel()
        return web.Response(text=await work)

    assert status_of(one(endpoint), fast) == 500
    errors = [r.exc_info[1] for r in caplog.records if r.exc_info]
    assert [type(error) for error in errors] == [asyncio.CancelledError] * 2
    assert "await work" in caplog.text


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "aiohttp"])
def test_a_threaded_endpoint_that_exits_fails_its_request_only(
    fast: bool, caplog: pytest.LogCaptureFixture
) -> None:
    @api_hour.threaded
    def endpoint(request: web.Request) -> web.StreamResponse:
        return exit_in_thread()

    assert status_of(one(endpoint), fast) == 500
    assert "exit_in_thread" in caplog.text
