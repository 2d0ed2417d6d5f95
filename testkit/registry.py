"""A registry of container images on the loopback interface, of the calls that read: real HTTP."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass
class Registry:
    """Manifests by ``name/manifests/tag`` and blobs by ``name/blobs/digest``, with their types."""

    port: int = 0
    scope: str = ""  # of the token that a reader has to ask for first
    content: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        """Return the name that images of this registry begin with."""
        return f"127.0.0.1:{self.port}"

    def put(self, name: str, tag: str, manifest: bytes = b"{}", kind: str = INDEX) -> str:
        """Let a tag name a manifest, which is also found by its digest; return that."""
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        for reference in (tag, digest):
            self.content[f"{name}/manifests/{reference}"] = (kind, manifest)
        return digest


@contextmanager
def serving() -> Iterator[Registry]:
    """Serve an empty registry."""
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            registry.asked.append(self.path)
            url = urlsplit(self.path)
            if url.path == "/token":
                scope = parse_qs(url.query).get("scope", ["none"])
                self._answer(200, "application/json", json.dumps({"token": scope[0]}).encode())
            elif registry.scope and self.headers["Authorization"] != f"Bearer {registry.scope}":
                self._answer(401, "application/json", b"{}")
            elif url.path == "/v2/":
                self._answer(200, "application/json", b"{}")
            else:
                found = registry.content.get(url.path.removeprefix("/v2/"))
                kind, body = found or ("application/json", b'{"errors": []}')
                self._answer(200 if found else 404, kind, body)

        do_HEAD = do_GET

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            if status == 401:
                realm = f"http://{registry.host}/token"
                challenge = f'Bearer realm="{realm}",service="test",scope="{registry.scope}"'
                self.send_header("WWW-Authenticate", challenge)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.port = server.server_port
        Thread(target=server.serve_forever, daemon=True).start()
        yield registry
        server.shutdown()
