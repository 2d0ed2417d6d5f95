"""files: an upload comes back as it was, and its name becomes no path."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

from examples.tests.asking import Answer, ask
from testkit.processes import Daemon

LISTEN = {"http": "tcp://127.0.0.1:0"}
CONTENT = os.urandom(3_000_000)


def upload(daemon: Daemon, name: str, content: bytes) -> Answer:
    head = f'--line\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + b"\r\n--line--\r\n"
    return ask(daemon, "POST /files", body, Content_Type="multipart/form-data; boundary=line")


def test_an_upload_comes_back_and_its_name_becomes_no_path(
    serve: Callable[..., Daemon], tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    daemon = serve("how_to", "files:Container", LISTEN, FILES=str(folder))
    stored = upload(daemon, "../../größe.html", CONTENT)
    assert (stored.status, stored.json["name"]) == (201, "größe.html")
    path = stored.headers["Location"]
    found = ask(daemon, f"GET {path}")
    assert found.body == CONTENT
    assert found.headers["Content-Type"] == "application/octet-stream"
    assert "gr%C3%B6%C3%9Fe.html" in found.headers["Content-Disposition"]
    part = ask(daemon, f"GET {path}", Range="bytes=1000-1999")
    assert (part.status, part.body) == (206, CONTENT[1000:2000])
    assert part.headers["Content-Range"] == f"bytes 1000-1999/{len(CONTENT)}"
    assert ask(daemon, f"GET {path}", If_None_Match=found.headers["ETag"]).status == 304

    for wrong in (uuid.uuid4(), "..%2Ffiles", "main.yaml"):
        assert ask(daemon, f"GET /files/{wrong}").status == 404
    assert upload(daemon, "big", bytes(51 * 2**20)).status == 413
    assert ask(daemon, "POST /files", {"file": "text"}).status == 415
    identity = path.rpartition("/")[2]
    assert {file.name for file in folder.iterdir()} == {identity, f"{identity}.json"}
