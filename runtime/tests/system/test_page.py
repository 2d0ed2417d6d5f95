"""The page of the document in a browser: it is read and tried out, and asks its daemon only."""

from collections.abc import Callable
from pathlib import Path

from testkit.browser import browser
from testkit.processes import Daemon

BOOKS = """\
from typing import Annotated

import msgspec
from aiohttp import web

import api_hour
from api_hour.http.api import document
from api_hour.http.api.api import API
from api_hour.http.api.page import add_page
from api_hour.http.api.parameters import Body


class NewBook(msgspec.Struct):
    title: Annotated[str, msgspec.Meta(examples=["The house"])]
    pages: int = 100


class Book(msgspec.Struct):
    id: int
    title: str
    pages: int


async def add(new: Body[NewBook]) -> Book:
    \"\"\"Add a book.\"\"\"
    return Book(7, new.title, new.pages)


class Container(api_hour.Container):
    def servers(self):
        app, books = web.Application(), web.Application()
        api = API(books, title="Books", version="1")
        api.post("/books", add, status=201, tags=["books"])
        made = document.build("Books", "1", "", ["https://elsewhere.example"], api.operations)
        body = msgspec.json.encode(made)

        async def show_document(request):
            return web.Response(body=body, content_type="application/json")

        books.router.add_get("/openapi.json", show_document)
        add_page(books, "Books", "/openapi.json")
        app.add_subapp("/app", books)
        return {"http": api_hour.HTTPServer(app)}
"""


def test_an_endpoint_is_tried_out_on_the_page(
    project: Path, run: Callable[..., Daemon], tmp_path: Path
) -> None:
    (project / "books.py").write_text(BOOKS)
    root = f"http://127.0.0.1:{run('books:Container').ready().port()}/app"
    with browser(tmp_path / "profile") as page:
        page.show(width=1200, height=1000)
        page.open(f"{root}/docs")
        assert page.text(".info .title").startswith("Books")
        page.press("#operations-books-add .opblock-summary-control")
        assert '"title": "The house"' in page.until(
            'document.querySelector("#operations-books-add textarea")?.value'
        )
        page.press("#operations-books-add .execute")
        assert page.text(".live-responses-table .response .response-col_status").startswith("201")
        assert '"id": 7' in page.text(".live-responses-table .response .highlight-code")
        assert page.value('document.documentElement.classList.contains("dark-mode")') is False
        page.show(width=400, height=1000, dark=True)
        page.until('document.documentElement.classList.contains("dark-mode")')
        assert page.value("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.faults == []
        asked = [url for url in page.asked if not url.startswith("data:")]
        assert f"{root}/books" in asked
        assert [url for url in asked if not url.startswith(f"{root}/")] == []
