"""The page of the document: all of it comes from the daemon, and nothing before it is asked for."""

import asyncio
import builtins
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from api_hour.exceptions import ConfigError
from api_hour.http.api import page

Answer = tuple[int, Mapping[str, str], bytes]


def answers(*requests: tuple[str, dict[str, str]], **options: str) -> list[Answer]:
    """Return status, headers and body of the answer to each request, a path with headers."""

    async def run() -> list[Answer]:
        app = web.Application()
        page.add_page(app, "Books & <more>", "/openapi.json", **options)
        async with TestClient(TestServer(app)) as client:
            found: list[Answer] = []
            for path, headers in requests:
                async with client.get(path, headers=headers) as answer:
                    found.append((answer.status, answer.headers, await answer.read()))
            return found

    return asyncio.run(run())


def links(html: bytes) -> list[str]:
    return re.findall(r'(?:src|href|data-\w+)="([^"]*)"', html.decode())


def test_the_page_names_its_files_and_the_document_relative_to_itself() -> None:
    [(status, headers, html)] = answers(("/docs", {}))
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"<title>Books &amp; &lt;more&gt;</title>" in html
    assert links(html) == [
        *("data:,", "docs/swagger.css", "openapi.json", "docs/swagger.js", "docs/page.js"),
        *("openapi.json", "."),
    ]


def test_a_page_deeper_down_finds_the_document_above_it() -> None:
    [(_, _, html)] = answers(("/inner/help", {}), path="/inner/help")
    assert links(html) == [
        *("data:,", "help/swagger.css", "../openapi.json", "help/swagger.js", "help/page.js"),
        *("../openapi.json", ".."),
    ]


@pytest.mark.parametrize(
    ("name", "kind", "part"),
    [
        ("page.js", "text/javascript; charset=utf-8", b"SwaggerUIBundle({"),
        ("swagger.js", "text/javascript; charset=utf-8", b"SwaggerUIBundle"),
        ("swagger.css", "text/css; charset=utf-8", b".swagger-ui"),
    ],
)
def test_each_file_is_served_once_and_then_found_unchanged(
    name: str, kind: str, part: bytes
) -> None:
    path = f"/docs/{name}"
    [(status, headers, body)] = answers((path, {}))
    assert (status, headers["Content-Type"]) == (200, kind)
    assert part in body
    [(status, again, body)] = answers((path, {"If-None-Match": headers["ETag"]}))
    assert (status, body) == (304, b"")
    assert again["Cache-Control"] == "no-cache"


def test_no_answer_may_load_or_run_anything_from_elsewhere() -> None:
    paths = ["/docs", "/docs/page.js", "/docs/swagger.js", "/docs/swagger.css"]
    for status, headers, _ in answers(*[(path, {}) for path in paths]):
        assert status == 200
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in policy


def test_no_file_is_opened_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    really_open, really_open_path = builtins.open, Path.open

    def note(path: Any, *arguments: Any, **options: Any) -> Any:
        opened.append(Path(str(path)).name)
        return really_open(path, *arguments, **options)

    def note_path(path: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(path.name)
        return really_open_path(path, *arguments, **options)

    monkeypatch.setattr(builtins, "open", note)
    monkeypatch.setattr(Path, "open", note_path)
    answers(("/docs", {}))
    assert not [name for name in opened if name.endswith((".js", ".css"))]
    answers(("/docs/swagger.css", {}))
    assert "swagger_style.css" in opened
    assert page.PACKAGE not in sys.modules


def test_without_its_package_the_start_fails_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PACKAGE", "nothing_like_offapi")
    with pytest.raises(ConfigError, match=r"needs nothing_like_offapi: pip install 'off"):
        page.add_page(web.Application(), "Books", "/openapi.json")
