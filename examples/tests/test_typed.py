"""typed: endpoints that say what they take, their document, and what is refused."""

import http.client
import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT

JSON = {"Content-Type": "application/json"}
KEY = {"X-API-Key": "secret", **JSON}
CUSTOMER = {"X-Customer": "Anna", **KEY}


def ask(
    daemon: Daemon, method: str, path: str, data: object = None, **headers: str
) -> tuple[int, Any]:
    with closing(
        http.client.HTTPConnection("127.0.0.1", daemon.port("http"), timeout=TIMEOUT)
    ) as client:
        body = None if data is None else json.dumps(data)
        client.request(method, path, body, headers)
        response = client.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None


def test_an_order_is_made_listed_and_sent(serve: Callable[..., Daemon]) -> None:
    daemon = serve(
        "typed", "orders:Container", {"http": "tcp://127.0.0.1:0"}, workers=1, API_KEY="secret"
    )
    new = {"article": "Paper", "price": "12.10", "quantity": 3}
    for headers in (JSON, KEY):
        assert ask(daemon, "POST", "/orders", new, **headers)[0] == 401
    status, order = ask(daemon, "POST", "/orders", new, **CUSTOMER)
    assert (status, order["total"], order["customer"]) == (201, "36.30", "Anna")
    assert ask(daemon, "POST", "/orders/1/sent", **KEY) == (204, None)
    assert ask(daemon, "POST", "/orders/1/sent", **KEY)[0] == 409
    status, found = ask(daemon, "GET", "/orders?status=sent&status=new&limit=5")
    assert [(order["id"], order["status"]) for order in found] == [(1, "sent")]
    status, refused = ask(daemon, "POST", "/orders", {"price": "x", "quantity": 0}, **CUSTOMER)
    assert status == 422
    assert {fault["field"] for fault in refused["errors"]} == {"article", "price", "quantity"}
    status, refused = ask(daemon, "GET", "/orders?limit=0&page=2")
    assert [fault["field"] for fault in refused["errors"]] == ["page", "limit"]
    assert ask(daemon, "GET", "/orders/one")[0] == 404
    assert list(ask(daemon, "GET", "/openapi.json")[1]["paths"]) == [
        *("/orders", "/orders/{id}", "/events", "/orders/{id}/sent"),
    ]
    assert daemon.stop() == 0
