"""identity: who may come in, and an issuer that changes its keys or is away."""

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from examples.tests.asking import Answer, ask
from testkit.processes import Daemon
from testkit.waiting import until

LISTEN = {"http": "tcp://127.0.0.1:0"}
ISSUER, AUDIENCE = "https://login.example.org", "https://api.example.org"


class Issuer:
    """The keys of an issuer, over HTTP."""

    def __init__(self) -> None:
        self.keys = [ECKey.generate_key("P-256", {"kid": "first"})]

    @contextmanager
    def serve(self, port: int = 0) -> Iterator[int]:
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                told = {"keys": [key.as_dict(private=False) for key in issuer.keys]}
                self.wfile.write(json.dumps(told).encode())

            def log_message(self, *_: Any) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield server.server_port
            server.shutdown()
            thread.join()

    def token(self, key: ECKey | None = None, **claims: object) -> str:
        signed_with = key or self.keys[-1]
        usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "anna", "exp": int(time.time()) + 600}
        said = {name: value for name, value in (usual | claims).items() if value is not None}
        return jwt.encode({"alg": "ES256", "kid": str(signed_with.kid)}, said, signed_with)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def start(serve: Callable[..., Daemon], port: int) -> Daemon:
    places = {"ISSUER": ISSUER, "KEYS_URL": f"http://127.0.0.1:{port}/keys"}
    return serve("how_to", "identity:Container", LISTEN, workers=1, API_KEY="secret", **places)


def test_who_may_come_in(serve: Callable[..., Daemon], issuer: Issuer) -> None:
    with issuer.serve() as port:
        daemon = start(serve, port)

        def me(token: str) -> Answer:
            return ask(daemon, "GET /me", Authorization=f"Bearer {token}")

        until(lambda: me(issuer.token()).status == 200, "the keys do not come")
        assert me(issuer.token()).json == {"sub": "anna", "scope": ""}
        refused = ask(daemon, "GET /me")
        assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        now = int(time.time())
        for wrong in (
            *({"aud": "https://other.example.org"}, {"aud": None}, {"iss": "https://evil.example"}),
            *({"exp": now - 60}, {"exp": None}, {"nbf": now + 600}, {"sub": 7}),
        ):
            assert me(issuer.token(**wrong)).status == 401, wrong
        assert me(issuer.token(exp=now - 5)).status == 200  # the clocks differ
        forged = ECKey.generate_key("P-256", {"kid": "first"})
        assert me(issuer.token(forged)).status == 401
        assert me("not.a.token").status == 401

        for scope, status in (("read", 403), ("read announce", 204)):
            bearer = f"Bearer {issuer.token(scope=scope)}"
            said = ask(daemon, "POST /announcements", "Lunch", Authorization=bearer)
            assert said.status == status
        assert ask(daemon, "POST /readings", [1.5], X_API_Key="secret").status == 204
        assert ask(daemon, "POST /readings", [1.5], X_API_Key="Secret").status == 401


def test_a_new_key_is_found_and_the_known_ones_stay_while_the_issuer_is_away(
    serve: Callable[..., Daemon], issuer: Issuer
) -> None:
    with issuer.serve() as port:
        pass  # the issuer is away while the daemon starts
    daemon = start(serve, port)

    def status() -> int:
        return ask(daemon, "GET /me", Authorization=f"Bearer {issuer.token()}").status

    assert status() == 503
    with issuer.serve(port):
        until(lambda: status() == 200, "the keys do not come")
        issuer.keys.append(ECKey.generate_key("P-256", {"kid": "second"}))
        assert status() == 401
        until(lambda: status() == 200, "the new key is not found")
    assert status() == 200
