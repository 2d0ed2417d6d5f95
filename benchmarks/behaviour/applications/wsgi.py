"""The application for uWSGI: plain WSGI."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

RELEASE = "1"
LEDGER = Path(os.environ["LEDGER"])


def note(name: str, text: object) -> None:
    """Append a line to a file of the ledger."""
    with (LEDGER / name).open("a") as file:
        file.write(f"{text}\n")


note("starts", f"{os.getpid()} {RELEASE}")


def application(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
    """Answer a request."""
    if environ["PATH_INFO"] == "/block":
        block()
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return work(dict(parse_qsl(environ["QUERY_STRING"])), start)


def work(query: dict[str, str], start: Callable[..., object]) -> Iterable[bytes]:
    """Wait as long as asked, then answer the id, padded to the size."""
    seconds = float(query["sleep"])
    if seconds >= 1:
        note("begun", query["id"])
    time.sleep(seconds)
    body = query["id"].encode().ljust(int(query["size"]), b".")
    start("200 OK", [("Content-Length", str(len(body))), ("X-Worker", str(os.getpid()))])
    return [body]


def block() -> None:
    """Block this thread forever: WSGI has no loop."""
    note("blocked", os.getpid())
    while True:
        time.sleep(3600)
